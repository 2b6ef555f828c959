"""What workflow code may ask of the runs before its own; see `core.last_ends` for which those are.

Temporal's ``get_last_completion_result``, ``has_last_completion_result``, ``get_last_failure``.
"""

from typing import Any

from orchestrator.core.context import current
from orchestrator.core.failure import Failure
from orchestrator.core.last_ends import LastEnds


def last_completion_result(type: Any = None) -> Any:
    """Return the result of the last run of the schedule that completed, as `type` or as JSON.

    Runs that failed in between change nothing of it.  None where none has completed yet, or where
    its result was None: `has_last_completion_result` tells which.

    Raises:
        ValueError: The result is no `type`.
    """
    execution = current("last_completion_result()")
    last = LastEnds.of(execution.started)
    return execution.definition.codec.decode(type, last.result) if last.has_result else None


def has_last_completion_result() -> bool:
    """Return whether a run of the schedule has completed before this one began."""
    return LastEnds.of(current("has_last_completion_result()").started).has_result


def last_failure() -> Failure | None:
    """Return how the latest run of the schedule, or the attempt before this one, has failed.

    None where it completed, or where there was none.  Tracebacks stay with the run that failed.
    """
    failure = LastEnds.of(current("last_failure()").started).failure
    return Failure.from_json(failure) if failure else None
