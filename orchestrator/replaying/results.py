"""What a replay found: values that travel between processes, and to JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from orchestrator.core.values import Json


class ReplayStatus(Enum):
    """How a history and the code go together."""

    FITS = "fits"  #: the code orders what the history says
    MISMATCH = "mismatch"  #: it orders something else: such a run would be blocked
    FAILED = "failed"  #: it cannot be activated at all: a bug, a forbidden call, a bound
    UNKNOWN = "unknown"  #: no workflow of that name, or of the run's version, is registered
    UNREADABLE = "unreadable"  #: the file is damaged, or a value is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Where history and code part.

    Args:
        seq: Number of the event.
        recorded: What history has there, in words; of payloads the digest only.
        issued: What the code asks for.
        differs: The parts in which they differ, where both are of one kind.
        where: The author's source line, ``sagas/order.py:57``; "" where none is known.
    """

    seq: int
    recorded: str
    issued: str
    differs: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What became of one history.  True if the code fits it.

    Args:
        source: The file, or whatever else it came from.
        workflow_id: The run's id; "" where that could not be read.
        run: Which run of it.
        workflow: The workflow type.
        events: How many the history has.
        status: See `ReplayStatus`.
        mismatch: Both sides, for a mismatch.
        message: Why not, in one sentence; "" where it fits.
        where: The author's source line of a mismatch or of a failure.
        traceback: Of a bug.
        is_code_changed: Whether the workflow function's source is another one than the run was
            born with (or last moved again with); None where either is unknown.
        blocked: Why the run rests at the end of its history, or "": one that fits moves again.
    """

    source: str
    workflow_id: str = ""
    run: int = 0
    workflow: str = ""
    events: int = 0
    status: ReplayStatus
    mismatch: Mismatch | None = None
    message: str = ""
    where: str = ""
    traceback: str = ""
    is_code_changed: bool | None = None
    blocked: str = ""

    def __bool__(self) -> bool:
        return self.status is ReplayStatus.FITS

    def as_json(self) -> dict[str, Json]:
        """Return it as a JSON object; parts that say nothing are left out."""
        data: dict[str, Any] = {**asdict(self), "status": self.status.value}
        if self.mismatch is not None:
            data["mismatch"]["differs"] = list(self.mismatch.differs)
        return {name: value for name, value in data.items() if value not in (None, "")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What became of all of them, in the order in which they were given.

    True if the code fits every history, and there was one.  `is_cut_short`: it was to stop at the
    first that does not fit, and did.
    """

    results: Sequence[ReplayResult]
    is_cut_short: bool = False

    def __bool__(self) -> bool:
        return bool(self.results) and all(self.results)

    def from_store(self, folder: str | Path) -> "ReplayReport":
        """Return it with what was fetched into `folder`, for the replay alone, named by its run."""
        named = [
            replace(each, source=f"{each.workflow_id} run {each.run}")
            if each.workflow_id and Path(each.source).is_relative_to(folder)
            else each
            for each in self.results
        ]
        return replace(self, results=named)

    @property
    def unfit(self) -> list[ReplayResult]:
        """Those that do not fit."""
        return [result for result in self.results if not result]
