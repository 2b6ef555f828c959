"""One sink's queue and thread: what it does badly stays with it.

LA1  `put` appends to a queue in memory and returns.  It takes no lock that is ever held while the
     sink works, and raises nothing.
LA2  The queue has a bound.  A full one loses its oldest record, and counts it.
LA3  A sink that raised is given the same points again, twice; then they are lost, counted, and the
     sink is left alone for a minute.  One warning is logged for each such rest.
LA4  A fork takes no thread along: the child starts anew with an empty queue, and the parent
     delivers what it had.
"""

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.core.values import Json
from orchestrator.training.errors import BadRecord
from orchestrator.training.sinks import VALUES_MAX, Point, Sink, point_of

logger = logging.getLogger(__name__)

#: A sink that hangs for a minute loses nothing of a training with 150 steps a second.
QUEUE_MAX = 10_000
#: Points a sink is given at once.
BATCH_MAX = 500
#: In a row; see LA3.
FAILURES_MAX = 3
REST_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the records of one sink."""

    queued: int
    delivered: int
    #: Pushed out of a full queue, refused because they were no metrics, or put after the end.
    dropped: int
    #: Given to the sink, which failed.
    lost: int
    resting: bool
    last_error: str


class Lane:
    """The way of records to one sink."""

    def __init__(
        self,
        sink: Sink,
        *,
        queue_max: int = QUEUE_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert queue_max >= 1, queue_max
        self._sink = sink
        self._clock = clock
        self._queue: deque[Mapping[str, Json]] = deque(maxlen=queue_max)
        self._in_hand: list[Point] = []
        self._delivered = self._dropped = self._lost = self._failures = 0
        self._rest_until = float("-inf")
        self._last_error = ""
        self._closed = False
        self._start_anew()
        _lanes.add(self)

    @property
    def name(self) -> str:
        """What the sink is called."""
        return self._sink.name

    def put(self, record: Mapping[str, Json]) -> None:
        """Take a record, which is not changed afterwards (LA1, LA2)."""
        with self._lock:
            values = record.get("metrics")
            fits = isinstance(values, Mapping) and len(values) <= VALUES_MAX
            if self._closed or not fits:
                self._dropped += 1
                return
            self._dropped += len(self._queue) == self._queue.maxlen
            self._queue.append(record)
            self._start_if_needed()
        self._wake.set()

    def deliver(self) -> bool:
        """Give the sink one batch of what waits; return whether to go on at once.

        Called by the lane's own thread; by hand where there is none.
        """
        if self._clock() < self._rest_until:
            return False
        if not self._in_hand:
            self._in_hand = self._taken()
        if not self._in_hand:
            return False
        try:
            self._sink.write(self._in_hand)
        except Exception as error:  # noqa: BLE001 - somebody else's code: counted, and logged once
            return self._failed(error)
        self._delivered += len(self._in_hand)
        self._in_hand, self._failures = [], 0
        return True

    def counts(self) -> Counts:
        """Return what became of the records so far."""
        return Counts(
            queued=len(self._queue) + len(self._in_hand),
            delivered=self._delivered,
            dropped=self._dropped,
            lost=self._lost,
            resting=self._clock() < self._rest_until,
            last_error=self._last_error,
        )

    def close(self) -> None:
        """Take no more; ask the thread to deliver what waits and to end, which `join` awaits."""
        with self._lock:
            self._closed = True
        self._closing.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; return whether it did."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _start_anew(self) -> None:
        """Make locks that nobody holds, for this process (LA4)."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._queue.clear()
        self._in_hand = []

    def _start_if_needed(self) -> None:
        if self._closed or (self._thread is not None and self._thread.is_alive()):
            return
        thread = threading.Thread(target=self._run, name=f"metrics-{self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # No more threads in this process: the queue drops its oldest, and the next put tries.
            self._last_error = str(error)
        else:
            self._thread = thread

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._deliver_all()
            self._closing.wait(max(0.0, self._rest_until - self._clock()))
        self._deliver_all()
        try:
            self._sink.close()
        except Exception as error:  # noqa: BLE001 - as above; nothing can be lost any more
            self._failed(error)

    def _deliver_all(self) -> None:
        while self.deliver():
            continue

    def _taken(self) -> list[Point]:
        with self._lock:
            records = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
        points = []
        for record in records:
            try:
                points.append(point_of(record))
            except BadRecord as error:
                self._dropped += 1
                self._last_error = str(error)
        return points

    def _failed(self, error: Exception) -> bool:
        """Count a failure; return whether to try again at once (LA3)."""
        self._failures += 1
        self._last_error = f"{type(error).__name__}: {error}"[:500]
        if self._failures < FAILURES_MAX:
            return True
        self._lost += len(self._in_hand)
        self._in_hand, self._failures = [], 0
        self._rest_until = self._clock() + REST_SECONDS
        logger.warning(
            "metrics sink %s failed %d times and rests for %.0f s; training goes on: %s",
            *(self.name, FAILURES_MAX, REST_SECONDS, self._last_error),
        )
        return False


#: All lanes of this process, for the child of a fork (LA4).
_lanes: "weakref.WeakSet[Lane]" = weakref.WeakSet()


def _after_fork() -> None:
    for lane in list(_lanes):
        lane._start_anew()


os.register_at_fork(after_in_child=_after_fork)
