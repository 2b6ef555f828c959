"""Read-only answers about a run, and the one that every run gives: where its tasks wait."""

import inspect
import typing
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import (
    ApplicationError,
    InvalidPayload,
    OrchestratorError,
    UnknownQuery,
    UsageError,
)
from orchestrator.core.intercepting import handled
from orchestrator.core.loop import WorkflowLoop, WorkflowTask
from orchestrator.core.places import in_words, is_authored, place_of_frame
from orchestrator.core.values import Json

#: The query that every run answers.
STACK = "stack"


class Info(Protocol):
    """The part of `RunInfo` that an error names."""

    @property
    def workflow_id(self) -> str:
        """The run's id."""
        ...


class Host(Protocol):
    """What a query needs of the execution it reads."""

    definition: WorkflowDefinition
    loop: WorkflowLoop

    @property
    def info(self) -> Info:
        """Which run it is."""
        ...


class Queries:
    """The query handlers of one run."""

    def __init__(self) -> None:
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._dynamic: Callable[..., Any] | None = None

    def register(self, name: str | None, handler: Callable[..., Any]) -> None:
        """Answer queries of that name by `handler`; None takes those that have none of their own.

        Raises:
            UsageError: It is a coroutine function, or the name is taken.
        """
        if inspect.iscoroutinefunction(handler):
            raise UsageError(f"query {name!r}: its handler only reads, so it cannot be async")
        if name in self._handlers or name == STACK or (name is None and self._dynamic):
            raise UsageError(f"query {name!r} has a handler already")
        if name is None:
            self._dynamic = handler
        else:
            self._handlers[name] = handler

    def answer(self, name: str, args: list[Json], host: Host) -> Json:
        """See `Execution.query`."""
        own = self._handlers.get(name)
        if own is None and name == STACK:
            return stack(host.loop)
        handler = own or self._dynamic
        if handler is None:
            raise UnknownQuery(host.info.workflow_id, name, (*self._handlers, STACK))
        codec = host.definition.codec
        try:
            values = decoded_args(codec.decode, own, args) if own else [name, args]
        except (TypeError, ValueError) as error:
            raise InvalidPayload(f"query {name!r}", str(error)) from error
        try:
            return codec.encode(handled(host.definition, "handle_query", name, handler, values))
        except OrchestratorError:
            raise
        except Exception as error:
            raise ApplicationError(str(error), type(error).__name__) from error


def decoded_args(
    decode: Callable[[Any, Json], Any], handler: Callable[..., Any], args: list[Json]
) -> list[Any]:
    """Return `args` as the handler's annotations want them.

    Raises:
        TypeError, ValueError: They do not fit.
    """
    signature = inspect.signature(handler)
    names = [name for name, _ in zip(signature.bind(*args).arguments, args, strict=False)]
    hints = typing.get_type_hints(handler)
    kinds = [hints.get(name) for name in names[: len(args)]]
    kinds += [None] * (len(args) - len(kinds))
    return [decode(kind, value) for kind, value in zip(kinds, args, strict=True)]


def stack(loop: WorkflowLoop) -> str:
    """Return where each task waits, oldest task first; one task per line, innermost place last."""
    return "\n".join(f"{task.get_name()}: {' > '.join(_chain(task))}" for task in loop.tasks())


def waiting_at(task: WorkflowTask) -> str:
    """Return the innermost place of the author's code in which `task` waits, or ""."""
    found = ""
    for frame in _frames(task):
        found = in_words(place_of_frame(frame)) if is_authored(frame) else found
    return found


def _chain(task: WorkflowTask) -> list[str]:
    return [
        f"{frame.f_code.co_qualname} ({in_words(place_of_frame(frame))})" for frame in _frames(task)
    ]


def _frames(task: WorkflowTask) -> list[FrameType]:
    frames = []
    awaited: Any = task.get_coro()
    while inspect.iscoroutine(awaited):
        if awaited.cr_frame is not None:
            frames.append(awaited.cr_frame)
        awaited = awaited.cr_await
    return frames
