"""Local steps: run inside the orchestrator, for what takes milliseconds.

Functions run in a bounded pool of threads, coroutines on one asyncio loop in a thread of its own.
A local step has no claim to renew and no heartbeat to keep: it lives and dies with its owner.

LR1  Every step that was submitted gets exactly one outcome, also when the runner is closed first.
"""

import asyncio
import concurrent.futures
import contextvars
import importlib
import inspect
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery

from orchestrator import step as face
from orchestrator.core.definition import Codec
from orchestrator.core.interceptors import ExecuteStep, Interceptor, chained, overriding
from orchestrator.core.limits import LOCAL_THREADS_MAX
from orchestrator.core.values import Json
from orchestrator.engine.ports import BlobStore, Outgoing
from orchestrator.store.ports import AttemptKey
from orchestrator.worker import outcomes
from orchestrator.worker.arguments import load_arguments
from orchestrator.worker.intercepting import call_of

Done = Callable[[Mapping[str, Json]], None]


class ThreadedLocalRunner:
    """See `engine.ports.LocalRunner`.  Threads start with the first step.

    Args:
        app: Its tasks are found by name; any other function as ``module.qualname``.
        codec: See `Codec`.
        blobs: For large arguments and results.
        threads_max: Functions that run at a time; the others wait.
        interceptors: What stands around the bodies; with one, a coroutine takes a thread too.
    """

    def __init__(
        self,
        app: Celery,
        codec: Codec,
        blobs: BlobStore,
        *,
        threads_max: int = LOCAL_THREADS_MAX,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self._app = app
        self._interceptors = overriding(interceptors, "execute_step")
        self._blobs = blobs
        self._codec = codec
        self._threads = ThreadPoolExecutor(threads_max, thread_name_prefix="orchestrator-local")
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None
        self._steps: dict[AttemptKey, face.RunningStep] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, outgoing: Outgoing, done: Done) -> None:
        """See `LocalRunner.submit`."""
        step = face.RunningStep(_info_of(outgoing), lambda _details: True)
        with self._lock:
            self._steps[outgoing.key] = step
        try:
            self._threads.submit(self._start, outgoing, step, done)
        except RuntimeError:  # the pool is shut down
            self._end(outgoing, done, outcomes.cancelled("the orchestrator stops", ran=False))

    def cancel(self, key: AttemptKey) -> None:
        """See `LocalRunner.cancel`.  A function learns it by `step.is_cancelled`."""
        with self._lock:
            step = self._steps.get(key)
        if step is not None:
            step.cancel()

    def close(self) -> None:
        """Tell all steps to stop, and wait for their ends."""
        with self._lock:
            steps = list(self._steps.values())
        for step in steps:
            step.cancel()
        self._threads.shutdown(wait=True)
        if self._loop is not None and self._loop_thread is not None:
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join()
            self._loop.close()

    def _start(self, outgoing: Outgoing, step: face.RunningStep, done: Done) -> None:
        """Run a function here, or hand a coroutine to the loop; in a thread of the pool."""
        if step.is_cancelled:
            self._end(outgoing, done, outcomes.cancelled("cancelled before it began", ran=False))
            return
        try:
            function, call = self._find(outgoing.task)
            args, kwargs = load_arguments(
                function, outgoing.args, outgoing.kwargs, blobs=self._blobs, codec=self._codec
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the step must hear of it
            # A thread pool keeps what is raised here to itself.
            body = outcomes.failed_before(type(error).__name__, str(error))
            self._end(outgoing, done, body)
            return
        with face.running(step):
            if self._interceptors:
                made = call_of(step.info, args, kwargs)
                self._end(outgoing, done, self._intercepted(call, made, step))
                return
            if inspect.iscoroutinefunction(inspect.unwrap(function)):
                self._spawn(call(*args, **kwargs), outgoing, step, done)
                return
            try:
                body = self._body_of(call(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - the boundary: all of it is recorded
                body = _failed(error, step)
        self._end(outgoing, done, body)

    def _intercepted(
        self, call: Callable[..., Any], made: ExecuteStep, step: face.RunningStep
    ) -> outcomes.Body:
        """Run a body through the interceptors, which stand around its result: the thread waits."""

        def last(made: ExecuteStep) -> Any:
            result = call(*made.args, **made.kwargs)
            return self._awaited(result, step) if inspect.iscoroutine(result) else result

        try:
            return self._body_of(chained(self._interceptors, "execute_step", last)(made))
        except BaseException as error:  # noqa: BLE001 - the boundary: all of it is recorded
            return _failed(error, step)

    def _awaited(self, coroutine: Coroutine[Any, Any, Any], step: face.RunningStep) -> Any:
        """Return the result of a coroutine that the loop runs."""
        loop = self._running_loop()

        async def run() -> Any:
            task = asyncio.current_task()
            assert task is not None
            step.on_cancel(lambda: _cancel_from_outside(loop, task))
            return await coroutine

        try:
            return asyncio.run_coroutine_threadsafe(run(), loop).result()
        except concurrent.futures.CancelledError as error:
            raise asyncio.CancelledError from error

    def _spawn(
        self,
        coroutine: Coroutine[Any, Any, Any],
        outgoing: Outgoing,
        step: face.RunningStep,
        done: Done,
    ) -> None:
        loop = self._running_loop()

        async def run() -> None:
            task = asyncio.current_task()
            assert task is not None
            step.on_cancel(lambda: _cancel_from_outside(loop, task))
            try:
                body = await asyncio.to_thread(self._body_of, await coroutine)
            except BaseException as error:  # noqa: BLE001 - the boundary: all of it is recorded
                body = _failed(error, step)
            self._end(outgoing, done, body)

        def create() -> None:
            task = loop.create_task(run(), context=context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        context = contextvars.copy_context()
        loop.call_soon_threadsafe(create)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop_thread = threading.Thread(
                    target=self._loop.run_forever, name="orchestrator-local-loop", daemon=True
                )
                self._loop_thread.start()
            return self._loop

    async def _drain(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _body_of(self, result: object) -> outcomes.Body:
        return outcomes.completed(result, codec=self._codec, blobs=self._blobs)

    def _end(self, outgoing: Outgoing, done: Done, body: outcomes.Body) -> None:
        with self._lock:
            self._steps.pop(outgoing.key, None)
        done(body)

    def _find(self, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the function that `name` stands for, to look at and to call."""
        task = self._app.tasks.get(name)
        if task is not None:
            return task.run, task
        function = find_function(name)
        return function, function


def _cancel_from_outside(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    loop.call_soon_threadsafe(task.cancel)


def find_function(name: str) -> Callable[..., Any]:
    """Return the function ``module.qualname``.

    Raises:
        ImportError, AttributeError: There is none.
    """
    module, _, rest = name.rpartition(".")
    path = [rest]
    while module:
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            module, _, part = module.rpartition(".")
            path.insert(0, part)
            continue
        for part in path:
            found = getattr(found, part)
        if not callable(found):
            raise AttributeError(f"{name} is not a function")
        return found  # type: ignore[no-any-return]
    raise ImportError(f"no task and no function is named {name}")


def _failed(error: BaseException, step: face.RunningStep) -> outcomes.Body:
    if step.is_cancelled and outcomes.is_interruption(error):
        return outcomes.cancelled("stopped on request")
    return outcomes.failed(error)


def _info_of(outgoing: Outgoing) -> face.StepInfo:
    return face.StepInfo(
        workflow_id=outgoing.key.workflow_id,
        workflow=outgoing.workflow,
        run=outgoing.key.run,
        step=outgoing.key.step,
        attempt=outgoing.key.attempt,
        idempotency_key=outgoing.idempotency_key,
        compensates=outgoing.compensates,
        task=outgoing.task,
        headers=outgoing.headers,
    )
