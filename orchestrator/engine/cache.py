"""Runs in memory, least recently used first.

A run that is worked on is not in here: it is taken out, and put back once its commit is history.
So no run is evicted, or found by anyone, while it holds what may never become history.
"""

from collections import OrderedDict
from collections.abc import Callable

from orchestrator.engine.run import LiveRun
from orchestrator.store.ports import RunKey


class RunCache:
    """At most `runs_max` runs; the log has them all."""

    def __init__(self, runs_max: int) -> None:
        self._runs: OrderedDict[RunKey, LiveRun] = OrderedDict()
        self._runs_max = runs_max

    def __len__(self) -> int:
        return len(self._runs)

    def holds(self, key: RunKey) -> bool:
        """Return whether the run is in memory, and waits there."""
        return key in self._runs

    def take(self, key: RunKey) -> LiveRun | None:
        """Take the run out and return it; None when it is not in memory."""
        return self._runs.pop(key, None)

    def put(self, run: LiveRun) -> None:
        """Keep a run as the most recently used; the least recently used beyond the bound go."""
        self._runs[run.key] = run
        self._runs.move_to_end(run.key)
        while len(self._runs) > self._runs_max:
            _, oldest = self._runs.popitem(last=False)
            oldest.close()

    def drop_where(self, is_meant: Callable[[LiveRun], bool]) -> None:
        """Forget all runs that are meant."""
        for key in [key for key, run in self._runs.items() if is_meant(run)]:
            self._runs.pop(key).close()
