"""Waiting for signals, and handling them as they come."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from orchestrator.core import endings
from orchestrator.core.context import current, seconds
from orchestrator.core.errors import ContinueAsNew, UsageError
from orchestrator.core.events import SignalReceived, SignalRefused
from orchestrator.core.execution import Execution
from orchestrator.core.handlers import Running, Unfinished, checked_unfinished
from orchestrator.core.intercepting import handled
from orchestrator.core.own_signals import is_reserved

_REFUSED = object()


async def signal(
    name: str,
    type: Any = None,
    *,
    timeout: timedelta | float | None = None,
) -> Any:
    """Return the payload of the oldest signal of that name that nobody has taken; wait for one.

    A payload that is no `type` is refused, on record, and the wait goes on.

    Args:
        name: The signal's name.
        type: What the payload is; the declared type of the signal, or plain JSON, unless given.
        timeout: How long to wait, as a timedelta or in seconds.

    Raises:
        TimeoutError: No such signal came in time.
        UsageError: The name is one of the engine's own; see `core.own_signals`.
    """
    execution = current("signal()")
    _check_name(execution, name)
    while (kept := execution.mailbox.find(name)) is not None:
        value = _value(execution, kept, type)
        if value is not _REFUSED:
            return value
    async with asyncio.timeout(None if timeout is None else seconds(timeout)):
        first = False
        while True:
            value = _value(execution, await _next(execution, name, first=first), type)
            if value is not _REFUSED:
                return value
            first = True


class signals:
    """Iterate, without end, over the payloads of the signals of one name; see `signal`.

    With a `timeout` the iteration ends, without an exception, once it has waited for the next one
    for so long.  A signal that comes while the loop's body runs is kept for its next turn; who is
    cancelled while he waits has taken nothing.
    """

    def __init__(
        self, name: str, type: Any = None, *, timeout: timedelta | float | None = None
    ) -> None:
        current("signals()")
        self._name = name
        self._type = type
        self._timeout = timeout

    def __aiter__(self) -> "signals":
        return self

    async def __anext__(self) -> Any:
        try:
            return await signal(self._name, self._type, timeout=self._timeout)
        except TimeoutError:
            raise StopAsyncIteration from None


def on_signal(
    name: str | None, type: Any = None, *, unfinished: Unfinished = "warn"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function that is called with the payload of every signal of that name.

    Those that came before get handled first.  A coroutine function runs as a task of its own.
    An exception that leaves the handler counts as one that leaves the workflow.

    Args:
        name: None for the dynamic handler: called with the name and the payload of signals that
            have no handler of their own, and that nobody waits for when they come.
        type: What the payload is; the declared type of the signal, or plain JSON, unless given.
        unfinished: See `core.handlers`: what becomes of a handler that is at work when the
            workflow function returns.

    Raises:
        UsageError: The name has a handler, or is the engine's own; or no such policy.
    """
    execution = current("on_signal()")
    checked_unfinished(unfinished)
    _check_name(execution, name)
    if execution.mailbox.has_handler(name):
        raise UsageError(f"signal {name!r} has a handler already")

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        if name is None:
            by_name = _Handler(execution, handler, type, unfinished, is_dynamic=True)
            execution.mailbox.handle_others(by_name)
        else:
            execution.mailbox.handle(name, _Handler(execution, handler, type, unfinished))
        return handler

    return register


class _Handler:
    """Calls a handler, from the loop: a signal may arrive while other user code runs."""

    def __init__(
        self,
        execution: Execution,
        handler: Callable[..., Any],
        kind: Any,
        unfinished: Unfinished,
        *,
        is_dynamic: bool = False,
    ) -> None:
        self._execution = execution
        self._handler = handler
        self._type = kind
        self._unfinished = unfinished
        self._is_dynamic = is_dynamic

    def __call__(self, received: SignalReceived) -> None:
        what = f"handler of signal {received.signal!r}"
        running = self._execution.handlers.begin(what, self._unfinished)
        self._execution.loop.call_soon(self._handle, received, running)

    def _handle(self, received: SignalReceived, running: Running) -> None:
        self._execution.mailbox.read(received)
        value = _value(self._execution, received, self._type)
        if value is _REFUSED:
            self._execution.handlers.end(running)
            return
        try:
            args = [received.signal, value] if self._is_dynamic else [value]
            definition, name = self._execution.definition, received.signal
            returned = handled(definition, "handle_signal", name, self._handler, args)
        except (Exception, ContinueAsNew) as error:  # noqa: BLE001 - user code: ends or blocks
            self._execution.handlers.end(running)
            self._execution.handler_failed(error)
            return
        if not inspect.iscoroutine(returned):
            self._execution.handlers.end(running)
            return
        running.task = self._execution.loop.create_task(returned, name=f"signal {received.signal}")
        running.task.add_done_callback(functools.partial(self._done, running))

    def _done(self, running: Running, task: "asyncio.Task[Any]") -> None:
        self._execution.handlers.end(running)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._execution.handler_failed(error)


def _check_name(execution: Execution, name: str | None) -> None:
    if name is not None and is_reserved(name, execution.flags):
        raise UsageError(
            f"signal {name!r} is the engine's own, as all names that begin with two underscores; "
            "give yours another one"
        )


async def _next(execution: Execution, name: str, *, first: bool) -> SignalReceived:
    future: asyncio.Future[SignalReceived] = execution.loop.create_future()
    execution.mailbox.wait(name, future, first=first)
    try:
        received = await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled():
            # Handed over, and cancelled before it was seen: the next one gets it.
            execution.mailbox.give_back(future.result())
        raise
    execution.mailbox.read(received)
    return received


def _value(execution: Execution, received: SignalReceived, kind: Any) -> Any:
    """Return the payload as `kind`, or refuse it on record and return `_REFUSED`."""
    definition = execution.definition
    if kind is None and definition.signals is not None:
        kind = definition.signals.get(received.signal)
    try:
        return definition.codec.decode(kind, received.payload)
    except ValueError as error:
        execution.issue(
            SignalRefused(
                at_ms=execution.now_ms,
                signal_id=received.signal_id,
                signal=received.signal,
                reason=endings.reason_in(error),
            )
        )
        return _REFUSED
