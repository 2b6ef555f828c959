"""Handlers of messages that are at work, and whether the run's end waits for them.

HD1  A handler counts from the moment its message is handed to it until it has returned or raised.
HD2  Once the workflow function has *returned*, or continues as new, the run ends only after the
     handlers that are declared ``unfinished="wait"``; one that raised, or was cancelled, waits for
     none.
HD3  A handler declared "warn" or "abandon" that is still at work when the run ends is unwound;
     of the first kind the log tells.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal, get_args

from orchestrator.core.errors import UsageError, continuation_in
from orchestrator.core.loop import WorkflowLoop

Unfinished = Literal["wait", "abandon", "warn"]


def checked_unfinished(unfinished: str) -> None:
    """Raise unless `unfinished` is one of the three.

    Raises:
        UsageError: It is not.
    """
    if unfinished not in get_args(Unfinished):
        known = ", ".join(get_args(Unfinished))
        raise UsageError(f"unfinished is {unfinished!r}; it is one of {known}")


@dataclass(slots=True, eq=False)
class Running:
    """One handler at work; `task` is None for one that has not begun, or is no coroutine."""

    what: str
    unfinished: Unfinished
    task: asyncio.Task[Any] | None = None


class Handlers:
    """The handlers of one run that are at work, oldest first."""

    def __init__(self) -> None:
        self._running: list[Running] = []

    @property
    def are_finished(self) -> bool:
        """Whether none is at work."""
        return not self._running

    @property
    def are_waited_for(self) -> bool:
        """Whether the run's end waits (HD2)."""
        return any(one.unfinished == "wait" for one in self._running)

    def begin(self, what: str, unfinished: Unfinished) -> Running:
        """Count a handler, named `what` for people (HD1)."""
        running = Running(what, unfinished)
        self._running.append(running)
        return running

    def end(self, running: Running) -> None:
        """Count it no more."""
        if running in self._running:
            self._running.remove(running)

    def begin_to_linger(self, loop: WorkflowLoop, *, cancel_reason: str | None) -> bool:
        """Let the loop go on for the handlers once the main task has returned (HD2).

        Return whether it begins to; a run that is cancelled asks them to stop.
        """
        main = loop.main
        if loop.lingers or main is None or not main.done() or main.cancelled():
            return False
        # The attribute and not the method: asking would mark the exception as looked at.
        failed = main._exception
        has_returned = failed is None or continuation_in(failed) is not None
        loop.lingers = has_returned and self.are_waited_for
        if loop.lingers and cancel_reason is not None:
            self.cancel_waited_for()
        return loop.lingers

    def cancel_waited_for(self) -> None:
        """Cancel what the run's end waits for."""
        for one in list(self._running):
            if one.unfinished == "wait" and one.task is not None:
                one.task.cancel()

    def complaints(self) -> list[str]:
        """Return what to say of those that the run's end cuts off (HD3)."""
        return [
            f"the run ends while its {one.what} is at work; await "
            "workflow.wait_condition(workflow.all_handlers_finished), or declare the handler "
            'unfinished="wait" or "abandon"'
            for one in self._running
            if one.unfinished == "warn"
        ]
