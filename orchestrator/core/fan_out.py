"""One task for many items: bounded parallelism, results in the order of the items.

FO1  At most `max_parallel` steps of one call are under way; the next item is ordered when a step
     has settled, so that one activation never orders more than it may.
FO2  Each item is a step of its own: recorded, retried and timed out alone.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Unpack

from orchestrator.core.context import StepSettings, current, run_step, split_options
from orchestrator.core.errors import StepError, UsageError
from orchestrator.core.limits import MAP_PARALLEL_DEFAULT, MAP_PARALLEL_MAX
from orchestrator.core.options import StepOptions


async def map_step(
    task: Any,
    items: Iterable[Any],
    /,
    *,
    max_parallel: int = MAP_PARALLEL_DEFAULT,
    return_exceptions: bool = False,
    **settings: Unpack[StepSettings],
) -> list[Any]:
    """Return the results of `task`, run once for each of `items`, in their order.

    A step that fails for good ends the call: no further item is ordered, the steps under way are
    treated as their ``cancellation`` says, and its error is raised.  With `return_exceptions` the
    error takes the place of the result, and the other items go on.  Cancelling the waiting task
    cancels the steps under way.

    Args:
        task: See `workflow.step`; it gets the item as its one argument.
        items: Read to its end at once.
        max_parallel: Steps under way at a time, from 1 to ``MAP_PARALLEL_MAX``.
        return_exceptions: As in `asyncio.gather`, for errors of steps; others are raised.
        settings: Of each step; see `StepOptions`.

    Raises:
        StepError: A step failed for good; the first one, where several did in one activation.
        TypeError: An item that has no JSON form.
        UsageError: Not a task, or a setting that cannot be.
    """
    current("map()")
    _check_parallel(max_parallel)
    options, unknown = split_options(dict(settings))
    if unknown:
        raise UsageError(
            f"workflow.map has no setting {', '.join(sorted(unknown))}; the task gets the item "
            f"alone: put what else it needs into the item"
        )
    todo = list(items)
    results: list[Any] = [None] * len(todo)
    left = iter(enumerate(todo))
    lanes = min(max_parallel, len(todo))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(
                    _lane(task, left, results, options, return_exceptions=return_exceptions)
                )
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
    else:
        return results
    # Outside of the handler: the error keeps its own cause, and drags no group along.
    raise first


async def _lane(
    task: Any,
    left: Iterator[tuple[int, Any]],
    results: list[Any],
    options: StepOptions,
    *,
    return_exceptions: bool,
) -> None:
    """Carry out one item after the other, of those that no other lane has taken."""
    for index, item in left:
        try:
            results[index] = await run_step(task, (item,), {}, options)
        except StepError as error:
            if not return_exceptions:
                raise
            results[index] = error


def _check_parallel(max_parallel: object) -> None:
    is_number = isinstance(max_parallel, int) and not isinstance(max_parallel, bool)
    if not is_number or not 1 <= max_parallel <= MAP_PARALLEL_MAX:  # type: ignore[operator]
        raise UsageError(
            f"max_parallel= is a whole number from 1 to {MAP_PARALLEL_MAX}, found {max_parallel!r}"
        )
