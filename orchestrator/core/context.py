"""What workflow code may ask of its run.  `orchestrator.workflow` is the public face of this.

Every function finds its run through the running event loop; outside a workflow it raises
`UsageError`.
"""

import asyncio
from asyncio import events
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack
from uuid import UUID

from orchestrator.core import randomness
from orchestrator.core.errors import UsageError
from orchestrator.core.execution import Execution
from orchestrator.core.limits import (
    HISTORY_EVENTS_SUGGESTED,
    SUMMARY_BYTES_MAX,
)
from orchestrator.core.loop import WorkflowLoop
from orchestrator.core.options import CANCELLATIONS, Cancellation, StepOptions
from orchestrator.core.permits import given_back_on_error
from orchestrator.core.rates import Rate
from orchestrator.core.retry import Retry
from orchestrator.core.run_info import RunInfo
from orchestrator.core.search_attributes import checked_text
from orchestrator.core.steps import OPTION_NAMES, Step, order_of

if TYPE_CHECKING:
    from orchestrator.core.generators import Generator

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - one spelling on every Python


def current(call: str) -> Execution:
    """Return the execution whose activation runs on this thread.

    Raises:
        UsageError: There is none; the text names `call`.
    """
    loop = events._get_running_loop()
    if not isinstance(loop, WorkflowLoop):
        raise UsageError(f"workflow.{call} works only in workflow code, while its run is activated")
    assert isinstance(loop.host, Execution)
    return loop.host


def seconds(duration: timedelta | float) -> float:
    """Return `duration`, a timedelta or a number of seconds, in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


class StepSettings(TypedDict, total=False):
    """The settings of a step; see `StepOptions`."""

    queue: str | None
    priority: int | None
    retry: Retry | None
    schedule_to_start: timedelta | None
    start_to_close: timedelta | None
    schedule_to_close: timedelta | None
    heartbeat: timedelta | None
    local: bool
    summary: str
    cancellation: Cancellation | None
    concurrency_key: str | None
    concurrency_limit: int | None
    rate_limit: Rate | None


class StepCall:
    """`workflow.step`: order a step, and wait for its result."""

    __slots__ = ()

    def options(self, **settings: Unpack[StepSettings]) -> "BoundStepCall":
        """Return a `step` with these settings, whose keyword arguments are all the task's.

        Raises:
            UsageError: A setting of a wrong type.
        """
        options, unknown = split_options(dict(settings))
        if unknown:
            raise UsageError(f"a step has no setting {', '.join(sorted(unknown))}")
        return BoundStepCall(options)

    async def __call__(self, task: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of `task`, run by a worker.

        The keyword arguments that `StepOptions` names are settings of the step; the others are
        the task's.  Cancelling the waiting task asks the step to stop, and does not wait for it;
        ``cancellation="wait"`` and ``"abandon"`` are the other ways.

        Raises:
            StepError: It failed, for the last time.
            TypeError: An argument that has no JSON form.
            UsageError: Not a task, or a setting that cannot be.
        """
        options: StepOptions | None = None
        if not OPTION_NAMES.isdisjoint(kwargs):
            options, kwargs = split_options(kwargs)
        return await run_step(task, args, kwargs, options)


class BoundStepCall:
    """A `workflow.step` with settings of its own."""

    __slots__ = ("_options",)

    def __init__(self, options: StepOptions) -> None:
        self._options = options

    async def __call__(self, task: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See `StepCall`; every keyword argument is the task's."""
        return await run_step(task, args, kwargs, self._options)


step = StepCall()


def split_options(kwargs: dict[str, Any]) -> tuple[StepOptions, dict[str, Any]]:
    """Return the settings in `kwargs`, and the rest of it.

    Raises:
        UsageError: A setting of a wrong type, or one that cannot be.
    """
    given = {name: kwargs[name] for name in OPTION_NAMES if kwargs.get(name) is not None}
    for name, value in given.items():
        wanted = _OPTION_TYPES[name]
        if not isinstance(value, wanted):
            raise UsageError(
                f"{name}= is a setting of the step and wants a {wanted.__name__}, found "
                f"{type(value).__name__}; for an argument of the task use workflow.step.options()"
            )
    cancellation = given.get("cancellation", "try")
    if cancellation not in CANCELLATIONS:
        raise UsageError(
            f"cancellation= is one of {', '.join(CANCELLATIONS)}, found {cancellation!r}; "
            f"for an argument of the task use workflow.step.options()"
        )
    rest = {name: value for name, value in kwargs.items() if name not in OPTION_NAMES}
    return StepOptions(**given), rest


_OPTION_TYPES: dict[str, type] = {
    "queue": str,
    "priority": int,
    "retry": Retry,
    "local": bool,
    "summary": str,
    "cancellation": str,
    "concurrency_key": str,
    "concurrency_limit": int,
    "rate_limit": Rate,
    **dict.fromkeys(
        ("schedule_to_start", "start_to_close", "schedule_to_close", "heartbeat"), timedelta
    ),
}
assert _OPTION_TYPES.keys() == OPTION_NAMES == StepSettings.__annotations__.keys(), (
    "every setting of a step has a type"
)


async def run_step(
    task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: StepOptions | None
) -> Any:
    """Order a step and wait for it; see `StepCall`."""
    execution = current("step()")
    order = order_of(execution.definition.codec, task, args, kwargs, options)
    hold = await execution.permits.taken_for(options)
    with given_back_on_error(hold):
        ordered = execution.order_step(order, follower=hold)
    return await outcome_of(execution, ordered)


async def outcome_of(execution: Execution, ordered: Step) -> Any:
    """Wait for a step that was ordered; see `StepCall`."""
    assert ordered.future is not None
    waits = ordered.order.options.get("cancellation") == "wait"
    try:
        await (asyncio.shield(ordered.future) if waits else ordered.future)
    except asyncio.CancelledError:
        execution.cancel_step(ordered)
        if waits:
            # As for a child: whatever the end is, who was cancelled goes on cancelled.  A second
            # cancellation does not wait.
            await asyncio.shield(ordered.future)
        raise
    return ordered.result(execution.definition.codec)


async def sleep(duration: timedelta | float, *, summary: str = "") -> None:
    """Wait; a durable timer, which costs nothing meanwhile.  Zero or less only lets others run.

    Args:
        duration: How long.
        summary: What for, in one line, for people.

    Raises:
        UsageError, PayloadTooLarge: The summary is no text, or beyond its bound.
    """
    execution = current("sleep()")
    checked_text("summary of a timer", summary, SUMMARY_BYTES_MAX)
    if not summary or seconds(duration) <= 0:
        await asyncio.sleep(seconds(duration))
        return
    # What asyncio.sleep does, callback by callback: a summary that comes or goes with a deploy
    # changes nothing of the order.
    future = execution.loop.create_future()
    execution.timer_summary = summary
    try:
        handle = execution.loop.call_later(seconds(duration), _wake, future)
    finally:
        execution.timer_summary = ""
    try:
        await future
    finally:
        handle.cancel()


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.cancelled():
        future.set_result(None)


async def wait_condition(
    predicate: Callable[[], object], timeout: timedelta | float | None = None
) -> None:
    """Wait until `predicate()` is true.  It is asked after every activation; it must only read.

    Raises:
        TimeoutError: It was not, for so long.
    """
    execution = current("wait_condition()")
    if predicate():
        return
    condition = execution.conditions.add(predicate, execution.loop.create_future())
    try:
        async with asyncio.timeout(None if timeout is None else seconds(timeout)):
            await condition.future
    finally:
        execution.conditions.forget(condition)


def now() -> datetime:
    """Return the time of the current activation, aware, in UTC."""
    return _EPOCH + timedelta(milliseconds=current("now()").now_ms)


def time() -> float:
    """Return the time of the current activation, in seconds since the epoch."""
    return current("time()").now_ms / 1000


def random() -> Random:
    """Return the run's random numbers: one stream, seeded by history."""
    execution = current("random()")
    assert execution.random is not None
    return execution.random


def rng(name: str) -> "Generator":
    """Return a numpy generator of the run's own for `name`; the next call returns the same one.

    Its stream follows from the run's seed and the name alone, or from the seed of the last reseed:
    the object that the code holds then goes on from there.  Where each stream stands is recorded
    after an activation that drew from it.  What numpy's `spawn` makes of it is not watched: ask for
    another name instead.  A query's handler and a validator may not draw.

    Raises:
        UsageError: numpy is not installed.
    """
    return current("rng()").streams.generator(name)


def uuid4() -> UUID:
    """Return a UUID drawn from `random`."""
    return randomness.uuid4(random())


def patched(patch: str) -> bool:
    """Return True where the run takes the new branch of a change, False where it took the old.

    Runs that begin after the change take the new branch.  A run that was open takes the old one
    wherever it has already been, and the new one from the first activation that is not recorded
    yet: the answer may turn from False to True within one run, once.  Where two places must
    agree, ask once and keep the answer in a variable, or give each place a patch of its own.

    Raises:
        ForbiddenInWorkflow: Asked in a query's handler, or in a condition.
        UsageError: `patch` cannot name a patch.
    """
    execution = current("patched()")
    return execution.patches.ask(execution, patch, deprecated=False)


def deprecate_patch(patch: str) -> None:
    """Stand where `patched` stood, once no open run needs the old branch.

    Histories with and without the patch's marker replay.  Once no open run has a marker that
    `patched` recorded, this call may go too.

    Raises:
        ForbiddenInWorkflow: Asked in a query's handler, or in a condition.
        UsageError: `patch` cannot name a patch.
    """
    execution = current("deprecate_patch()")
    execution.patches.ask(execution, patch, deprecated=True)


def info() -> RunInfo:
    """Return which run this is."""
    execution = current("info()")
    return replace(
        execution.info,
        history_length=execution.seq,
        is_continue_as_new_suggested=execution.seq >= HISTORY_EVENTS_SUGGESTED,
    )


def publish(model: T) -> T:
    """Make `model` the run's published state: read anew, as JSON, after each activation."""
    current("publish()").published = model
    return model


def on_query(name: str | None) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Decorate a function that answers queries of that name; it must only read.

    With None it is the dynamic handler: called with the name and the list of arguments, as JSON,
    for queries that have no handler of their own.
    """

    def register(handler: Callable[..., T]) -> Callable[..., T]:
        current("on_query()").queries.register(name, handler)
        return handler

    return register
