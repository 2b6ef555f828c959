"""Attempts in a test: what was run, and how a body is called as a worker calls it."""

import inspect
import types
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import _Call, call

from celery import Celery
from celery.app.trace import task_has_custom

from orchestrator.core.definition import Codec
from orchestrator.core.errors import OrchestratorError, UsageError
from orchestrator.core.values import Json
from orchestrator.engine.ports import BlobStore
from orchestrator.local import find_function
from orchestrator.step import StepInfo
from orchestrator.store.ports import AttemptKey
from orchestrator.testing.plan import Plan
from orchestrator.worker.arguments import load_arguments
from orchestrator.worker.header import HEADER, read_header
from orchestrator.worker.protocol import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt that a worker began.

    Args:
        task: Name of the task.
        call: Its arguments as ``unittest.mock.call(…)``, in the types that the task declares.
        info: Which attempt at which step of which run.
        fault: What the test had planned for it; "" where its body ran in peace.
    """

    task: str
    call: _Call
    info: StepInfo
    fault: str = ""


class Bodies:
    """Finds what carries out a step: the task's own body, or what the test put in its place.

    Args:
        assertions: Gets every failed assertion of a body.
    """

    def __init__(
        self,
        app: Celery,
        plan: Plan,
        blobs: BlobStore,
        codec: Codec,
        assertions: list[AssertionError],
    ) -> None:
        self._app = app
        self._plan = plan
        self._blobs = blobs
        self._codec = codec
        self._assertions = assertions

    def work(self, key: AttemptKey, header: Mapping[str, Json], task: str) -> Work:
        """Return what the worker's protocol is to carry out.

        Raises:
            UsageError: Nothing of that name exists, and nothing was put in its place.
        """
        mock = self._plan.body(task)
        if mock is not None:
            # What it says it takes, else what the task says it takes.
            function = mock if _is_annotated(mock) else self._plain(task) or mock
            call: Callable[..., Any] = mock
        else:
            function, call = self._own(task, str(key), header)
        return Work(key=key, header=header, task=task, function=function, call=self._watched(call))

    def arguments(self, work: Work) -> _Call:
        """Return the attempt's arguments in the types that its task declares; for people."""
        header = read_header(work.header, work.key)
        plain = self._plain(work.task) or work.function
        try:
            args, kwargs = load_arguments(
                plain, header.args, header.kwargs, blobs=self._blobs, codec=self._codec
            )
        except OrchestratorError:  # They do not fit, as its outcome will say.
            args, kwargs = load_arguments(
                lambda *_, **__: None, header.args, header.kwargs, blobs=self._blobs,
                codec=self._codec,
            )  # fmt: skip
        return call(*args, **kwargs)

    def _own(
        self, task: str, task_id: str, header: Mapping[str, Json]
    ) -> tuple[Callable[..., Any], Callable[..., Any]]:
        found = self._app.tasks.get(task)
        if found is None:
            function = _find(task)
            return function, function

        def in_request(*args: Any, **kwargs: Any) -> Any:
            run = found if task_has_custom(found, "__call__") else found.run
            with _request(found, task_id, header, args, kwargs):
                return run(*args, **kwargs)

        return found.run, in_request

    def _plain(self, task: str) -> Callable[..., Any] | None:
        """Return the function the author wrote, without what Celery wraps it in."""
        found = self._app.tasks.get(task)
        if found is None:
            return None
        body: Callable[..., Any] = inspect.unwrap(found.run, stop=inspect.ismethod)
        if inspect.ismethod(body):
            return types.MethodType(inspect.unwrap(body.__func__), body.__self__)
        return body

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def watched(coroutine: Coroutine[Any, Any, Any]) -> Any:
            with self._noting():
                return await coroutine

        def watch(*args: Any, **kwargs: Any) -> Any:
            with self._noting():
                result = call(*args, **kwargs)
            return watched(result) if inspect.iscoroutine(result) else result

        return watch

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            self._assertions.append(error)
            raise


def _find(name: str) -> Callable[..., Any]:
    try:
        return find_function(name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"no task and no function is named {name!r}: import the module that defines it, "
            f"or put something in its place: env.mock({name!r}, …)"
        ) from error


def _is_annotated(function: Callable[..., Any]) -> bool:
    said = getattr(inspect.unwrap(function), "__annotations__", {})
    return any(kind not in (Any, "Any") for name, kind in said.items() if name != "return")


@contextmanager
def _request(
    task: Any, task_id: str, header: Mapping[str, Json], args: Any, kwargs: Any
) -> Iterator[None]:
    """Let the body see the request that a worker shows it."""
    task.push_request(
        id=task_id,
        args=args,
        kwargs=kwargs,
        called_directly=False,
        is_eager=False,
        **{HEADER: header},
    )
    try:
        yield
    finally:
        task.pop_request()
