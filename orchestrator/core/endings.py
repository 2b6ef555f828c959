"""What it means that an exception leaves the workflow: a failure, or a bug.

A *failure* is part of the story: the run fails, sagas compensate.  Anything else is taken for a
*bug*: the run rests, undamaged, until mended code is deployed.
"""

import asyncio
import traceback
from collections.abc import Iterator
from dataclasses import replace

from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import (
    ActivationFailed,
    ApplicationError,
    ChildWorkflowError,
    ExternalWorkflowError,
    StepError,
    beside_continuation,
    continuation_in,
)
from orchestrator.core.events import RunCancelled, RunContinuedAsNew, RunFailed
from orchestrator.core.failure import Failure, failure_of
from orchestrator.core.limits import FAILURE_MESSAGE_CHARS_MAX, FAILURE_TRACEBACK_CHARS_MAX
from orchestrator.core.places import in_words, place_of_traceback
from orchestrator.core.values import digest

_FAILURES = (
    ApplicationError,
    ChildWorkflowError,
    ExternalWorkflowError,
    StepError,
    TimeoutError,
    asyncio.CancelledError,
)


def is_failure(definition: WorkflowDefinition, error: BaseException) -> bool:
    """Return whether `error` is a failure; a group is one if all its members are."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_failure(definition, member) for member in error.exceptions)
    if isinstance(error, (*_FAILURES, *definition.failure_types)):
        return True
    return definition.bugs_fail and isinstance(error, Exception)


def failure_in(error: BaseException) -> Failure:
    """Return what history keeps of `error`; of a group, also its first member as the cause."""
    failure = failure_of(error)
    if isinstance(error, BaseExceptionGroup):
        return replace(failure, cause=failure_of(next(_members(error))))
    return failure


def ending_for(
    definition: WorkflowDefinition, error: BaseException, cancel_reason: str | None
) -> RunCancelled | RunContinuedAsNew | RunFailed:
    """Return what ends a run that `error` left, not yet stamped; `cancel_reason` if it was asked.

    Raises:
        ActivationFailed: It is a bug.
    """
    if isinstance(error, asyncio.CancelledError) and cancel_reason is not None:
        return RunCancelled(at_ms=0, reason=cancel_reason)
    if (goes_on := continuation_in(error)) is not None:
        return RunContinuedAsNew(
            at_ms=0,
            workflow=goes_on.workflow,
            args_digest=digest([goes_on.arguments, goes_on.kwargs]),
            args=goes_on.arguments,
            kwargs=goes_on.kwargs,
        )
    failed = beside_continuation(error)
    if not is_failure(definition, failed):
        raise bug(failed) from error
    return RunFailed(at_ms=0, failure=failure_in(failed))


def reason_in(error: BaseException) -> str:
    """Return one line on `error`."""
    failure = failure_of(next(_members(error)), depth=0)
    return f"{failure.type}: {failure.message}"[:200]


def bug(error: BaseException, kind: str = "bug") -> ActivationFailed:
    """Return what the engine is told about an exception that is not a failure."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    failed = ActivationFailed(
        kind,
        f"{type(error).__name__}: {error}"[:FAILURE_MESSAGE_CHARS_MAX],
        in_words(place_of_traceback(error.__traceback__)),
        frames[-FAILURE_TRACEBACK_CHARS_MAX:],
    )
    failed.__cause__ = error
    return failed


def _members(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _members(member)
    else:
        yield error
