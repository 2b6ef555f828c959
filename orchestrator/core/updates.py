"""Updates: validated, recorded, answered changes to a run.

U1  An update is accepted or rejected in the activation that receives it, and only once: history
    has the verdict, so replay does not run the validator again.
U2  A rejection is an event that changes nothing else.  What a validator does beyond reading is
    refused; as it may have left half of it behind, the execution is dropped (`is_spoiled`).
U3  A failure that leaves the handler fails the update; any other exception is taken for a bug, as
    everywhere.
U4  An update id is taken once.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from orchestrator.core import endings
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ActivationInterrupted, UsageError
from orchestrator.core.events import (
    Command,
    Event,
    UpdateAccepted,
    UpdateCompleted,
    UpdateFailed,
    UpdateReceived,
    UpdateRejected,
)
from orchestrator.core.handlers import Handlers, Running, Unfinished
from orchestrator.core.intercepting import handled
from orchestrator.core.loop import WorkflowLoop
from orchestrator.core.queries import decoded_args
from orchestrator.core.streams import Streams
from orchestrator.core.values import Json

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V", bound=Callable[..., Any])

_FORBIDDEN = "its validator did more than read"


class Host(Protocol):
    """What updates need of the execution they belong to."""

    definition: WorkflowDefinition
    loop: WorkflowLoop
    handlers: Handlers
    streams: Streams
    now_ms: int
    is_spoiled: bool

    def issue(self, command: Command) -> None:
        """Record a command."""
        ...

    def fail(self, error: BaseException) -> None:
        """Block the run for `error`."""
        ...


class UpdateHandler(Generic[F]):
    """What `workflow.on_update` makes of a function: callable as before, and with a `validator`.

    Args:
        type: What a single argument is; None for what the function's annotations say.
        dynamic: The function takes the update's name and the list of its arguments as JSON.
    """

    def __init__(
        self,
        function: F,
        type: Any,
        validator: Callable[..., Any] | None,
        unfinished: Unfinished,
        *,
        dynamic: bool,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.unfinished = unfinished
        self._type = type
        self._is_dynamic = dynamic
        self._validator: Callable[..., Any] | None = None
        if validator is not None:
            self.validator(validator)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    def validator(self, function: V) -> V:
        """Decorate the function that may reject an update, by raising; it must only read.

        It gets the arguments of the handler.  See U1 and U2.

        Raises:
            UsageError: It is a coroutine function.
        """
        if inspect.iscoroutinefunction(function):
            raise UsageError("a validator only reads, so it cannot be async")
        self._validator = function
        return function

    def values(self, name: str, args: list[Json], definition: WorkflowDefinition) -> list[Any]:
        """Return what the function is called with.

        Raises:
            TypeError, ValueError: The arguments do not fit.
        """
        if self._is_dynamic:
            return [name, args]
        decode = definition.codec.decode
        if self._type is None:
            return decoded_args(decode, self.function, args)
        inspect.signature(self.function).bind(*args)
        return [decode(self._type, value) for value in args]

    def check(self, values: list[Any]) -> None:
        """Call the validator; whatever it raises rejects the update."""
        if self._validator is not None:
            self._validator(*values)


class Updates:
    """The updates of one run, and their handlers."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._handlers: dict[str | None, UpdateHandler[Any]] = {}
        self._seen: set[str] = set()
        #: While a history is replayed: whether it says that an update was accepted (U1).
        self.verdicts: dict[str, bool] = {}

    def register(self, name: str | None, handler: UpdateHandler[Any]) -> None:
        """Have updates of that name handled; None takes those that have no handler of their own.

        Raises:
            UsageError: The name has a handler.
        """
        if name in self._handlers:
            raise UsageError(f"update {name!r} has a handler already")
        self._handlers[name] = handler

    def receive(self, event: UpdateReceived) -> None:
        """Take an update in, from the loop."""
        if event.update_id not in self._seen:
            self._seen.add(event.update_id)
            self._host.loop.call_soon(self._take, event)

    def reject(self, event: UpdateReceived, reason: str) -> None:
        """Say no, on record."""
        self._host.issue(
            UpdateRejected(
                at_ms=self._host.now_ms,
                update=event.update,
                update_id=event.update_id,
                reason=reason,
            )
        )

    def _take(self, event: UpdateReceived) -> None:
        verdict = self.verdicts.get(event.update_id)
        if verdict is False:
            self.reject(event, "")
            return
        handler = self._handlers.get(event.update, self._handlers.get(None))
        if handler is None:
            known = ", ".join(sorted(name for name in self._handlers if name))
            # An update may arrive with the start: the code has then run to its first await.
            late = "none; handlers that are to take the first ones belong before the first await"
            self.reject(event, f"there is no update {event.update!r} here; known: {known or late}")
            return
        try:
            values = handler.values(event.update, event.args, self._host.definition)
        except (TypeError, ValueError) as error:
            self.reject(event, f"the arguments do not validate: {error}"[:1_000])
            return
        reason = "" if verdict else self._why_refused(handler, values)
        if reason:
            self.reject(event, reason)
            return
        self._host.issue(
            UpdateAccepted(at_ms=self._host.now_ms, update=event.update, update_id=event.update_id)
        )
        self._run(event, handler, values)

    def _why_refused(self, handler: UpdateHandler[Any], values: list[Any]) -> str:
        host = self._host
        try:
            with host.loop.only_reading("validator"), host.streams.still():
                handler.check(values)
        except Exception as error:  # noqa: BLE001 - user code: it rejects the update, for the record
            return endings.reason_in(error)
        # A validator that caught the refusal has not got away with it.
        return _FORBIDDEN if host.is_spoiled else ""

    def _run(self, event: UpdateReceived, handler: UpdateHandler[Any], values: list[Any]) -> None:
        host = self._host
        what = f"handler of update {event.update!r}"
        try:
            definition, name, function = host.definition, event.update, handler.function
            returned = handled(definition, "handle_update", name, function, values)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - user code: see U3
            self._failed(event, error)
            return
        if not inspect.iscoroutine(returned):
            self._completed(event, returned)
            return
        running = host.handlers.begin(what, handler.unfinished)
        running.task = host.loop.create_task(returned, name=f"update {event.update}")
        running.task.add_done_callback(functools.partial(self._done, event, running))

    def _done(self, event: UpdateReceived, running: Running, task: "asyncio.Task[Any]") -> None:
        self._host.handlers.end(running)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._completed(event, task.result())
        elif not isinstance(error, ActivationInterrupted):
            self._failed(event, error)

    def _completed(self, event: UpdateReceived, returned: Any) -> None:
        host = self._host
        try:
            result = host.definition.codec.encode(returned)
        except (TypeError, ValueError) as error:
            host.fail(error)
            return
        host.issue(UpdateCompleted(at_ms=host.now_ms, update_id=event.update_id, result=result))

    def _failed(self, event: UpdateReceived, error: BaseException) -> None:
        host = self._host
        if not endings.is_failure(host.definition, error):
            host.fail(error)
            return
        host.issue(
            UpdateFailed(
                at_ms=host.now_ms, update_id=event.update_id, failure=endings.failure_in(error)
            )
        )


def verdicts_in(events: Iterable[Event]) -> dict[str, bool]:
    """Return whether each update of a history was accepted; of those that have a verdict."""
    return {
        event.update_id: isinstance(event, UpdateAccepted)
        for event in events
        if isinstance(event, UpdateAccepted | UpdateRejected)
    }
