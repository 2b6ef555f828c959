"""The event loop that workflow code runs on: asyncio's interface, and nothing of the outside.

L1  Callbacks run in the order they were asked for; nothing else orders them.
L2  Time stands still while the loop is drained: it is the input's.
L3  A timer is a durable one, kept by the host; its end arrives as an input.
L4  Tasks and futures are numbered as they are created, and hash by their number, so that the sets
    of them inside the standard library (``TaskGroup``, ``wait``) iterate in an order that follows
    from history, not from addresses.
L5  Once shut, user code runs only to be unwound: what it asks for is neither done nor recorded.
"""

import asyncio
import math
import sys
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context
from types import AsyncGeneratorType
from typing import Any, NoReturn, Protocol, TypeVarTuple

from orchestrator.core.errors import ActivationInterrupted, ForbiddenInWorkflow
from orchestrator.core.outside import refusing_outside
from orchestrator.core.places import in_words, place_of_traceback
from orchestrator.core.unwinding import unwind, unwind_generator

_Ts = TypeVarTuple("_Ts")

#: Complaints about background tasks that are kept until somebody takes them.
_COMPLAINTS_MAX = 20


class Host(Protocol):
    """What the loop needs of the execution it belongs to."""

    def start_timer(self, duration_ms: int) -> int:
        """Order a durable timer; return its number."""
        ...

    def cancel_timer(self, timer: int) -> None:
        """Take a timer back that has not fired."""
        ...

    def refuse(self, call: str, instead: str) -> NoReturn:
        """Raise `ForbiddenInWorkflow`, and keep it."""
        ...

    def interrupted(self, error: BaseException) -> None:
        """Take note of an `ActivationInterrupted` that ended a task or a callback."""
        ...


class WorkflowFuture(asyncio.Future[Any]):
    """A future of this loop (L4)."""

    number: int = 0

    def __hash__(self) -> int:
        return self.number


class WorkflowTask(asyncio.Task[Any]):
    """A task of this loop (L4)."""

    number: int

    def __new__(cls, *_args: object, loop: "WorkflowLoop", **_kwargs: object) -> "WorkflowTask":
        """Number the task."""
        task = super().__new__(cls)
        # Before __init__, which puts the task into asyncio's set of all tasks.
        task.number = loop.next_number()
        return task

    def __hash__(self) -> int:
        return self.number


class DurableTimer(asyncio.TimerHandle):
    """A callback that waits for a durable timer; `timer` is its number, 0 for none."""

    timer: int = 0


@refusing_outside
class WorkflowLoop(asyncio.AbstractEventLoop):
    """See the module."""

    def __init__(self, host: Host, *, salt: int) -> None:
        self.host = host
        self.now_ms = 0
        self.main: WorkflowTask | None = None
        #: Set to leave `drain` before the next callback.
        self.halt = False
        self.is_shut = False
        #: Whether the run goes on for its handlers although the main task is done.
        self.lingers = False
        #: "query", "validator" or "predicate" while such a function runs, which must order nothing.
        self.read_only = ""
        self.complaints: deque[str] = deque(maxlen=_COMPLAINTS_MAX)
        self._barred = False
        # The salt keeps equal numbers of many runs apart in asyncio's one set of all tasks; being
        # above the low bits it does not reorder the small sets of one run.
        self._salt = (salt & 0xFFFFFFF) << 32
        self._number = 0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: dict[int, DurableTimer] = {}
        self._tasks: dict[int, WorkflowTask] = {}
        self._generators: list[AsyncGeneratorType[Any, Any]] = []
        self._generators_checked = 8
        self._outer: list[tuple[Any, ...]] = []

    # --- draining ------------------------------------------------------------------------------

    def __enter__(self) -> None:
        """Become this thread's running loop, until `__exit__`."""
        self._outer.append((events._get_running_loop(), *sys.get_asyncgen_hooks()))
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generator_began, None)

    def __exit__(self, *_: object) -> None:
        outer, *hooks = self._outer.pop()
        sys.set_asyncgen_hooks(*hooks)
        events._set_running_loop(outer)

    def drain(self, callbacks_max: int) -> int:
        """Run what is ready until nothing is; return how many callbacks ran.

        Stops early when `halt` is set, the main task is done (unless the run lingers), or
        `callbacks_max` have run.
        """
        ready = self._ready
        main = self.main
        count = 0
        while ready and not self.halt and count < callbacks_max:
            handle = ready.popleft()
            if handle.cancelled():
                continue
            count += 1
            try:
                handle._context.run(handle._callback, *handle._args)  # type: ignore[attr-defined]
            except (ActivationInterrupted, SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio's Handle does; reported
                self.call_exception_handler({"message": "callback failed", "exception": error})
            if main is not None and main.done() and not self.lingers:
                break
        return count

    @contextmanager
    def only_reading(self, reader: str) -> Generator[None, None, None]:
        """Refuse whatever orders something."""
        self.read_only, self._barred = reader, True
        try:
            yield
        finally:
            self.read_only, self._barred = "", self.is_shut

    @contextmanager
    def outside(self) -> Generator[None, None, None]:
        """Let what runs here be as if it were in no workflow: no loop runs, nothing is refused."""
        events._set_running_loop(None)
        try:
            yield
        finally:
            events._set_running_loop(self)

    def fire(self, timer: int) -> None:
        """Make the callback of `timer` ready; nothing for one that was cancelled."""
        handle = self._timers.pop(timer, None)
        if handle is not None:
            self._ready.append(handle)

    def shut(self) -> None:
        """Unwind all user code, silently (L5).  Idempotent."""
        if self.is_shut:
            return
        self.is_shut = self._barred = True
        self._ready.clear()
        self._timers.clear()
        with self:
            # Unwinding may create tasks, which have to be closed as well.
            while self._tasks:
                _, task = self._tasks.popitem()
                if not task.done() and not unwind(task.get_coro()):
                    self.complaints.append(f"task {task.get_name()} would not be unwound; it leaks")
            while self._generators:
                unwind_generator(self._generators.pop())
        self._ready.clear()

    def tasks(self) -> list[WorkflowTask]:
        """Return the tasks that are not done, oldest first."""
        return [task for task in self._tasks.values() if not task.done()]

    def next_number(self) -> int:
        """Return the number of the next task or future."""
        self._number += 1
        return self._salt | self._number

    # --- asyncio's interface -------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See asyncio; dropped once the loop is shut."""
        handle = asyncio.Handle(callback, args, self, context)
        if self._barred:
            self._check_reading()
        else:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Refuse what comes from another thread: its instant is not in history."""
        if events._get_running_loop() is not self:
            # Not kept: which activation it hits is chance.
            raise ForbiddenInWorkflow(
                "a call into a workflow from another thread", "send the workflow a signal"
            )
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Start a durable timer, in whole milliseconds, rounded up."""
        # Rounded to microseconds first: what lies below is the error of a float of seconds.
        duration_ms = math.ceil(round(delay * 1000, 3))
        handle = DurableTimer(self.time() + delay, callback, args, self, context)
        if self._barred:
            self._check_reading()
        elif duration_ms <= 0:
            self._ready.append(handle)
        else:
            handle.timer = self.host.start_timer(duration_ms)
            self._timers[handle.timer] = handle
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Start a durable timer; `when` is in the terms of `time`."""
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        timer = getattr(handle, "timer", 0)
        if self._timers.pop(timer, None) is not None and not self._barred:
            self.host.cancel_timer(timer)

    def time(self) -> float:
        """Return the input's time, in seconds since the epoch (L2)."""
        return self.now_ms / 1000

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        future = WorkflowFuture(loop=self)
        future.number = self.next_number()
        return future

    def create_task(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        *,
        name: object = None,
        context: Context | None = None,
        **_options: object,
    ) -> asyncio.Task[Any]:
        """See asyncio; never eager, on any Python."""
        if self._barred and not self.is_shut:
            if asyncio.iscoroutine(coro):
                coro.close()
            self._check_reading()
        number = self._number + 1
        task = WorkflowTask(
            coro, loop=self, name=f"task-{number}" if name is None else str(name), context=context
        )
        self._tasks[number] = task
        task.add_done_callback(self._task_done)
        return task

    def get_debug(self) -> bool:
        """Return False: asyncio's debug mode measures time."""
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - asyncio's signature
        """Ignore: see `get_debug`."""

    def is_running(self) -> bool:
        """Return whether the loop is being drained on this thread."""
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        """Return False: user code must not find a difference while it is unwound."""
        return False

    def get_exception_handler(self) -> None:
        """Return None: see `call_exception_handler`."""

    def get_task_factory(self) -> None:
        """Return None: tasks are made by the loop."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep a complaint for the host to report; like asyncio's own it is not fatal."""
        error = context.get("exception")
        if isinstance(error, ActivationInterrupted):
            self.host.interrupted(error)
        words = str(context.get("message", "exception"))
        if isinstance(error, BaseException):
            where = in_words(place_of_traceback(error.__traceback__))
            words = f"{words}: {type(error).__name__} at {where or 'an unknown place'}"
        self.complaints.append(words)

    # --- inside --------------------------------------------------------------------------------

    def _check_reading(self) -> None:
        if self.read_only:
            self.host.refuse(
                f"ordering something in a {self.read_only}", "only read the workflow's state there"
            )

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        assert isinstance(task, WorkflowTask)
        self._tasks.pop(task.number & 0xFFFFFFFF, None)
        # The attribute and not the method: asking would mark the exception as looked at.
        error = task._exception
        if isinstance(error, ActivationInterrupted):
            self.host.interrupted(error)

    def _generator_began(self, generator: AsyncGenerator[Any, Any]) -> None:
        assert isinstance(generator, AsyncGeneratorType)
        # Held until it is exhausted or the run ends: were the garbage collector to finish an
        # abandoned one, its ``finally`` would run at an instant that no history knows.
        self._generators.append(generator)
        if len(self._generators) > self._generators_checked:
            self._generators = [one for one in self._generators if one.ag_frame is not None]
            self._generators_checked = 8 + 2 * len(self._generators)
