"""Local steps of one orchestrator: run here, claimed and posted like those of any worker.

Their claims are renewed by the engine's loop.  An orchestrator that dies leaves them to expire, and
the next owner starts the next attempt.
"""

import logging
import queue
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Protocol

from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.limits import OUTCOME_POST_MS_MAX, renew_interval_ms
from orchestrator.core.values import Json
from orchestrator.engine.ports import LocalRunner, Outgoing
from orchestrator.store.ports import AttemptKey, ClaimAnswer, WorkerStore

logger = logging.getLogger("orchestrator.engine")

_RETRY_POST_S = 0.5


class StepsHere(Protocol):
    """The local steps of one orchestrator, as its owner needs them; see `LocalSteps`."""

    def submit(self, outgoing: Outgoing, token: str) -> None:
        """Run a step whose claim was taken under `token` by the commit that scheduled it."""
        ...

    def cancel(self, key: AttemptKey) -> None:
        """Ask a step to stop, if it runs here."""
        ...

    def renew_due(self, now_ms: int, *, ttl_ms: int) -> None:
        """Renew the claims of all that runs here, if it is time; stop what is no longer wanted."""
        ...


class LocalSteps:
    """Keeps track of the local steps that run here; see `StepsHere`."""

    def __init__(self, store: WorkerStore, runner: LocalRunner) -> None:
        self._store = store
        self._runner = runner
        self._tokens: dict[AttemptKey, str] = {}
        self._lock = threading.Lock()
        self._outcomes: queue.SimpleQueue[tuple[AttemptKey, str, Mapping[str, Json]] | None] = (
            queue.SimpleQueue()
        )
        self._closing = threading.Event()
        self._renewed_at_ms = 0
        self._poster = threading.Thread(target=self._post_all, name="local-outcomes", daemon=True)
        self._poster.start()

    def submit(self, outgoing: Outgoing, token: str) -> None:
        """Run a step whose claim was taken under `token` by the commit that scheduled it."""
        key = outgoing.key
        with self._lock:
            self._tokens[key] = token
        self._runner.submit(outgoing, lambda body: self._outcomes.put((key, token, body)))

    def cancel(self, key: AttemptKey) -> None:
        """Ask a step to stop, if it runs here."""
        with self._lock:
            is_here = key in self._tokens
        if is_here:
            self._runner.cancel(key)

    def renew_due(self, now_ms: int, *, ttl_ms: int) -> None:
        """Renew the claims of all that runs here, if it is time; stop what is no longer wanted.

        Raises:
            StoreUnavailable: No answer; the next call renews.
        """
        # A store's clock may be set back, and another server's may be behind: then it is time.
        if 0 <= now_ms - self._renewed_at_ms < renew_interval_ms(ttl_ms):
            return
        with self._lock:
            tokens = dict(self._tokens)
        for key, answer in self._store.renew(tokens, ttl_ms=ttl_ms).items():
            if answer is not ClaimAnswer.GRANTED:
                self.cancel(key)
        self._renewed_at_ms = now_ms

    def close(self) -> None:
        """Post what has finished and end; what still runs is left to the next owner."""
        self._closing.set()
        self._runner.close()
        self._outcomes.put(None)
        self._poster.join()

    def _post_all(self) -> None:
        while (item := self._outcomes.get()) is not None:
            key, token, body = item
            self._post(key, token, body)
            with self._lock:
                self._tokens.pop(key, None)

    def _post(self, key: AttemptKey, token: str, body: Mapping[str, Json]) -> None:
        give_up_at = monotonic() + OUTCOME_POST_MS_MAX / 1000
        while True:
            try:
                answer = self._store.post_outcome(key, token, body)
            except StoreUnavailable as error:
                if self._closing.is_set() or monotonic() > give_up_at:
                    # The claim expires, and the next attempt has the same idempotency key.
                    logger.error("%s: outcome lost: %s", key, error)  # noqa: TRY400 - the reason is enough
                    return
                self._closing.wait(_RETRY_POST_S)
            else:
                logger.debug("%s: outcome %s", key, answer.value)
                return
