"""A child that was started: who it is, its end, and what its parent may tell it."""

import asyncio
from collections.abc import Generator
from typing import Any

from orchestrator.core.children import Child
from orchestrator.core.context import current
from orchestrator.core.execution import Execution


async def end_of_child(execution: Execution, ordered: Child) -> Any:
    """Wait for a child's end and return its result; whoever is cancelled here does as CH2 says.

    Raises:
        ChildWorkflowError: It ended without a result.
        ValueError: The result is not what its workflow declares.
    """
    await _wait(execution, ordered, ordered.future)
    return ordered.result(execution.definition.codec)


async def beginning_of_child(execution: Execution, ordered: Child) -> None:
    """Wait until a child's run is known; whoever is cancelled here does as CH2 says.

    Raises:
        ChildWorkflowError: Another run with its id is open: it never begins.
    """
    assert ordered.started is not None, "only of a child that was to say so"
    await _wait(execution, ordered, ordered.started)
    if not ordered.run:
        ordered.result(execution.definition.codec)


async def _wait(execution: Execution, ordered: Child, future: asyncio.Future[Any]) -> None:
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        kind = ordered.order.cancellation_type
        if kind != "abandon":
            execution.cancel_child(ordered)
        if kind == "wait_cancellation_completed":
            await asyncio.shield(ordered.future)
        elif ordered.cancel_heard is not None:
            # Its end will do as well: one that has ended before hears nothing any more.
            await asyncio.wait(
                [ordered.cancel_heard, ordered.future], return_when=asyncio.FIRST_COMPLETED
            )
        raise


class ChildWorkflowHandle:
    """A child that has begun: `await` it for its result.

    `id` is its workflow id, `run` the number of its run.
    """

    __slots__ = ("_child",)

    def __init__(self, child: Child) -> None:
        self._child = child

    @property
    def id(self) -> str:
        """The child's workflow id."""
        return self._child.id

    @property
    def run(self) -> int:
        """The number of the child's run."""
        return self._child.run

    @property
    def is_done(self) -> bool:
        """Whether it has ended, with or without a result."""
        return self._child.outcome is not None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.result().__await__()

    async def result(self) -> Any:
        """Wait for its end and return its result, as often as it is asked.

        Cancelling who waits asks the child to stop, unless its `cancellation_type` says otherwise.

        Raises:
            ChildWorkflowError: It failed, was cancelled or terminated.
        """
        return await end_of_child(current("the handle of a child"), self._child)

    async def signal(self, name: str, payload: Any = None) -> None:
        """Send it a signal; return once its history has it.

        If it has continued as new, the run that goes on takes it.

        Raises:
            ExternalWorkflowError: It has ended, or does not take such a signal.
            TypeError: A payload that has no JSON form.
        """
        execution = current("the handle of a child")
        encoded = execution.definition.codec.encode(payload)
        await execution.externals.signal(self.id, self.run, name, encoded)

    def cancel(self) -> None:
        """Ask it to stop, once; nobody waits for that here.  What became of it: `result`."""
        current("the handle of a child").cancel_child(self._child)
