"""Live metrics beside the training: bounded, lossy, never in its way.

Each sink has a queue and a thread of its own (see `orchestrator.training.metrics_lane`), so that
one that hangs delays neither training nor the other sinks.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from orchestrator.core.values import Json
from orchestrator.training.metrics_lane import QUEUE_MAX, Counts, Lane
from orchestrator.training.sinks import Sink


class Metrics:
    """Hands each step's metrics to any number of sinks.  Safe to use from several threads.

    Made in the process that trains: a fork would share a sink's files and connections.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        queue_max: int = QUEUE_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        names = [sink.name for sink in sinks]
        assert len(set(names)) == len(names), f"two sinks share a name: {names}"
        self._clock = clock
        self._lanes = [Lane(sink, queue_max=queue_max, clock=clock) for sink in sinks]

    def put(self, record: Mapping[str, Json]) -> None:
        """Take a record of run, branch, step, epoch and metrics; returns at once, never raises.

        The record is not changed afterwards.
        """
        for lane in self._lanes:
            lane.put(record)

    def counts(self) -> dict[str, Counts]:
        """Return what became of the records, by the sink's name."""
        return {lane.name: lane.counts() for lane in self._lanes}

    def close(self, timeout_s: float = 2.0) -> dict[str, Counts]:
        """Deliver what waits and end the threads, within `timeout_s` for all of them together.

        A sink that hangs beyond that keeps its thread, which ends with the process.  Returns what
        became of the records.
        """
        for lane in self._lanes:
            lane.close()
        deadline = self._clock() + timeout_s
        for lane in self._lanes:
            lane.join(max(0.0, deadline - self._clock()))
        return self.counts()
