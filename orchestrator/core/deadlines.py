"""How long a run, and the chain that it is part of, may last.

DL1  A deadline is an instant of the history: `run_timeout` counts from the run's beginning, so each
     run of a chain has its own; `execution_timeout` from the beginning of the chain's first run,
     and the runs that continue it have what is left.
DL2  At the earlier of the two the run ends as if it were terminated: no further code of it runs,
     its open sagas are undone, however long that takes, and then it has failed.
DL3  Between the event that a run goes on from and the instant at which it does (`core.resetting`)
     its deadlines stand still, and so does the `schedule_to_close` of its outstanding steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.core.errors import UsageError
from orchestrator.core.events import RunStarted, RunTimedOut
from orchestrator.core.failure import Failure
from orchestrator.core.limits import RUN_TIMEOUT_MS_MAX
from orchestrator.core.values import Json

#: Type of the failure of a run whose time was over.
FAILURE_TYPE = "WorkflowTimeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When a run's time is over, and by which of its time-outs: "run" or "execution"."""

    at_ms: int
    kind: str


def deadline_of(started: RunStarted) -> Deadline | None:
    """Return the earlier deadline of a run, or None for one that may last for ever."""
    found = []
    if started.execution_deadline_at_ms:
        found.append(Deadline(at_ms=started.execution_deadline_at_ms, kind="execution"))
    if started.run_timeout_ms:
        found.append(Deadline(at_ms=started.at_ms + started.run_timeout_ms, kind="run"))
    return min(found, key=lambda deadline: deadline.at_ms, default=None)


def timeouts_in(body: Mapping[str, Json], at_ms: int) -> dict[str, Any]:
    """Return the fields of `RunStarted` that a START's body asks for, which is taken at `at_ms`."""
    run, whole = body.get("run_timeout_ms"), body.get("execution_timeout_ms")
    until = body.get("execution_deadline_at_ms")
    found: dict[str, Any] = {}
    if isinstance(run, int):
        found["run_timeout_ms"] = run
    if isinstance(until, int):
        found["execution_deadline_at_ms"] = until
    elif isinstance(whole, int):
        found["execution_deadline_at_ms"] = at_ms + whole
    return found


def moved(started: RunStarted, by_ms: int) -> RunStarted:
    """Return the start of a run whose deadlines stood still for so long."""
    until = started.execution_deadline_at_ms
    return replace(
        started,
        at_ms=started.at_ms + by_ms,
        execution_deadline_at_ms=until + by_ms if until else 0,
    )


def timeouts_left(started: RunStarted) -> dict[str, Json]:
    """Return what the START of the run that continues this one says of its time."""
    left: dict[str, Json] = {}
    if started.run_timeout_ms:
        left["run_timeout_ms"] = started.run_timeout_ms
    if started.execution_deadline_at_ms:
        left["execution_deadline_at_ms"] = started.execution_deadline_at_ms
    return left


def timeouts_asked(
    run_timeout: timedelta | None, execution_timeout: timedelta | None
) -> dict[str, Json]:
    """Return what the START of a new run says of its time; {} where it may last for ever.

    Raises:
        UsageError: A time-out that cannot be.
    """
    asked: dict[str, Json] = {}
    for name, timeout in (("run_timeout", run_timeout), ("execution_timeout", execution_timeout)):
        if timeout is not None:
            asked[f"{name}_ms"] = span_ms(name, timeout)
    return asked


def span_ms(setting: str, span: timedelta) -> int:
    """Return a span as whole milliseconds.

    Raises:
        UsageError: It is no `timedelta`, not above zero, or beyond its bound.
    """
    if not isinstance(span, timedelta):
        raise UsageError(f"{setting} is {type(span).__name__}; a timedelta is wanted")
    ms = round(span / timedelta(milliseconds=1))
    if not 1 <= ms <= RUN_TIMEOUT_MS_MAX:
        most = timedelta(milliseconds=RUN_TIMEOUT_MS_MAX)
        raise UsageError(f"{setting} is {span}; it is more than nothing, and at most {most}")
    return ms


def failure_of_timeout(event: RunTimedOut) -> Failure:
    """Return why a run failed whose time was over."""
    at = datetime.fromtimestamp(event.due_at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return Failure(type=FAILURE_TYPE, message=f"the run's {event.kind}_timeout was over at {at}")
