"""What live metrics are, and what a place is that takes them.

Metrics here are for looking at while a run trains.  They may be lost, come late or come twice (a
step that is trained again after a crash reports again); what a run came to stands in its log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.core.values import Json
from orchestrator.training.errors import BadRecord

#: Metrics of one step: a trainer has a handful.  Bounds what a full queue can hold.
VALUES_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The metrics of one step.  `step` counts from the first of the run, `epoch` from 0.

    (run, branch, step) names it: a point that comes again replaces the one before.
    """

    run: str
    branch: str
    step: int
    epoch: int
    values: Mapping[str, float]


class Sink(Protocol):
    """Takes points, on a thread of its own: it may be slow, hang or raise, and training goes on."""

    @property
    def name(self) -> str:
        """What it is called in logs and figures."""

    def write(self, points: Sequence[Point]) -> None:
        """Take points, oldest first.  May be given the same points again after it raised."""

    def close(self) -> None:
        """Let go of files and connections; called once, after the last `write`."""


def point_of(record: Mapping[str, Json]) -> Point:
    """Return the point that a record of run, branch, step, epoch and metrics stands for.

    Raises:
        BadRecord: It is no such record.
    """
    try:
        values = record["metrics"]
        if not isinstance(values, Mapping) or len(values) > VALUES_MAX:
            raise BadRecord("metrics", repr(values)[:60], f"up to {VALUES_MAX} numbers by name")
        return Point(
            run=str(record["run"]),
            branch=str(record["branch"]),
            step=int(str(record["step"])),
            epoch=int(str(record["epoch"])),
            values={str(name): float(str(value)) for name, value in values.items()},
        )
    except (KeyError, ValueError) as error:
        raise BadRecord("metrics", f"{type(error).__name__}: {error}"[:80], "a step's") from error
