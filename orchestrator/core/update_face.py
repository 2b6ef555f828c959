"""`workflow.on_update`, and the question whether all handlers are through."""

from collections.abc import Callable
from typing import Any, TypeVar

from orchestrator.core.context import current
from orchestrator.core.handlers import Unfinished, checked_unfinished
from orchestrator.core.updates import UpdateHandler

F = TypeVar("F", bound=Callable[..., Any])


def on_update(
    name: str | None,
    type: Any = None,
    *,
    validator: Callable[..., Any] | None = None,
    unfinished: Unfinished = "wait",
) -> Callable[[F], UpdateHandler[F]]:
    """Decorate a function that carries out updates of that name and returns their answer.

    It may be ``async``.  A failure that leaves it fails the update, not the run; any other
    exception is taken for a bug.  Register it before the workflow function first waits: an update
    that finds no handler is rejected.

    Args:
        name: None for a dynamic handler, called with the name and the list of arguments, as JSON,
            for updates that have no handler of their own.
        type: What a single argument is; else the function's annotations say it.
        validator: May reject an update by raising; or decorate it with ``.validator``.
        unfinished: See `core.handlers`: what becomes of a handler that is at work when the
            workflow function returns.

    Raises:
        UsageError: The name has a handler, the validator is async, or no such policy.
    """
    execution = current("on_update()")
    checked_unfinished(unfinished)

    def register(function: F) -> UpdateHandler[F]:
        handler = UpdateHandler(function, type, validator, unfinished, dynamic=name is None)
        execution.updates.register(name, handler)
        return handler

    return register


def all_handlers_finished() -> bool:
    """Return whether no handler of a signal or update is at work; for `wait_condition`."""
    return current("all_handlers_finished()").handlers.are_finished
