"""Asking the store again while it does not answer.

Every call of `WorkerStore` may be repeated after a lost answer (H9), so this is safe.  It is
bounded, because a worker's slot is held meanwhile.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.limits import OUTCOME_POST_MS_MAX
from orchestrator.store.ports import AttemptKey

T = TypeVar("T")

logger = logging.getLogger("orchestrator.worker")

_WAIT_S_MIN = 0.05
_WAIT_S_MAX = 2.0


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


class Patience:
    """Repeats a call, with growing waits, until it is answered or `total_ms` have passed.

    `wait` and `clock` (both in seconds) are for tests.
    """

    def __init__(
        self,
        total_ms: int = OUTCOME_POST_MS_MAX,
        *,
        wait: Callable[[float], None] = _wait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_s = total_ms / 1000
        self._wait = wait
        self._clock = clock

    def ask(self, call: Callable[[], T], key: AttemptKey, what: str) -> T:
        """Return the answer to `call`.

        Raises:
            StoreUnavailable: None in time.
        """
        give_up_at = self._clock() + self._total_s
        pause = _WAIT_S_MIN
        is_told = False
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                if self._clock() + pause > give_up_at:
                    raise
                if not is_told:
                    logger.warning("%s: %s: no answer (%s); trying again", key, what, error.reason)
                    is_told = True
            self._wait(pause)
            pause = min(pause * 2, _WAIT_S_MAX)
