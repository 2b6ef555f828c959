"""What an orchestrator tells of its work to whoever measures it.

OB1  Told is what is history: a commit that was refused, or whose answer is unknown, never happened.
OB2  An observer must not fail, nor take long: it stands in the owner's one thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.core.events import Event
from orchestrator.core.ledger import StepEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """One commit of a run.

    Args:
        workflow: Its type.
        started_at_ms: When it began.
        events: What was appended, in order.
        steps: Of the steps that these settled, or an attempt of which they ended, what the history
            said before; by number.
    """

    workflow: str
    started_at_ms: int
    events: Sequence[Event]
    steps: dict[int, StepEntry]


class Observer:
    """Is told what an orchestrator does, from its owner's thread; as it is, it measures nothing."""

    def committed(self, commit: Committed) -> None:
        """A commit of a run is history."""

    def refused(self, result: str) -> None:
        """A commit was refused, or its answer is unknown: a `CommitResult` value, or "unknown"."""

    def activated(self, workflow: str, seconds: float) -> None:
        """An input was applied to the code of a run."""

    def replayed(self, workflow: str, seconds: float) -> None:
        """A history was applied to the code of its run."""

    def looked_up(self, *, is_in_memory: bool) -> None:
        """A run was wanted that has a history."""

    def rested(self, count: int) -> None:
        """So many runs could not be worked on when they were last tried; told each cycle."""

    def turned(self, *, runs: int, partitions: int, waited_ms: Sequence[int]) -> None:
        """A cycle is over: runs in memory, partitions owned, how long arrivals lay unread."""
