"""Somebody who looks into Redis all the time, and remembers: what was read once has to stay.

With every write on disk before its answer, nobody ever reads what the server could still forget.
"""

import contextlib
import threading
import time
from types import TracebackType

from redis.exceptions import RedisError

from tests.acceptance.stack import Stack
from tests.chaos.takeover import Takeovers

_LOOK_S = 0.1
#: Who wakes up later than this stood still, and with it, as a rule, the machine.
_LATE_S_MAX = 0.5
#: Heads are read once in so many looks.
_HEADS_EVERY = 10


class Witness:
    """Looks from its own thread for as long as the block lasts."""

    def __init__(self, stack: Stack, ids: list[str], takeovers: Takeovers) -> None:
        self._stack = stack
        self._ids = ids
        self._takeovers = takeovers
        #: The chain's head after an event, by workflow id, run and number of the event.
        self.heads: dict[tuple[str, int, int], str] = {}
        #: What was seen under one number with two heads.
        self.changed: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="witness", daemon=True)

    def __enter__(self) -> "Witness":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        number = 0
        while not self._wait():
            number += 1
            with contextlib.suppress(RedisError):  # away for the moment: that is the storm
                self._takeovers.look()
                if number % _HEADS_EVERY == 0:
                    self._read_heads()

    def _wait(self) -> bool:
        """Wait until the next look; return whether it is over."""
        due = time.monotonic() + _LOOK_S
        is_over = self._stop.wait(_LOOK_S)
        woken = time.monotonic()
        if woken > due + _LATE_S_MAX:
            self._takeovers.note_standstill(due, woken)
        return is_over

    def _read_heads(self) -> None:
        pipeline = self._stack.redis.pipeline(transaction=False)
        for workflow_id in self._ids:
            pipeline.hmget(self._stack.keys.row(workflow_id), "run", "seq", "head")
        for workflow_id, (run, seq, head) in zip(self._ids, pipeline.execute(), strict=True):
            if not seq or not head:
                continue
            place = (workflow_id, int(run), int(seq))
            before = self.heads.setdefault(place, head.decode())
            if before != head.decode():
                self.changed.append(f"{workflow_id}: event {int(seq)} had two heads")
