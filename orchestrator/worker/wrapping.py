"""Every task of an app made runnable as a step, unchanged.

WR1  Without our header a task runs as it always did.
WR2  The protocol is the outermost layer, outside of ``autoretry_for`` and of a base class' own
     ``__call__``, so that what these raise is what is recorded.
WR3  A task is wrapped once, however often it is looked at.
WR4  A step that asks Celery for a retry sends nothing: the wish is its outcome, and the next
     attempt is the log's.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from celery.app.trace import build_tracer, task_has_custom

from orchestrator import step as face
from orchestrator.store.ports import AttemptKey
from orchestrator.worker.header import HEADER, find_key
from orchestrator.worker.protocol import StepProtocol, Work

_MARK = "_orchestrator_is_wrapped"

Protocol = Callable[[], StepProtocol]


def wrap_tasks(tasks: Iterable[Any], protocol: Protocol) -> None:
    """Wrap those of `tasks` that are not wrapped yet; `protocol` gives this process' own."""
    for task in tasks:
        if task.name.startswith("celery.") or _MARK in vars(task):
            continue
        setattr(task, _MARK, True)
        task.retry = _wrapped_retry(task, task.retry)
        if task_has_custom(task, "__call__"):
            _wrap_class(type(task), protocol)
        else:
            task.run = _wrapped_run(task, task.run, protocol)
        if task.__trace__ is not None:
            # Celery has looked at the task already, and kept the function it found.
            app = task.app
            hostname = task.request_stack and getattr(task.request, "hostname", None)
            task.__trace__ = build_tracer(task.name, task, app.loader, hostname, app=app)


def _wrapped_run(task: Any, run: Callable[..., Any], protocol: Protocol) -> Callable[..., Any]:
    @functools.wraps(run)
    def run_or_step(*args: Any, **kwargs: Any) -> Any:
        header = _step_to_run(task)
        if header is None:
            return run(*args, **kwargs)
        work = Work(key=header[0], header=header[1], task=task.name, function=run, call=run)
        return protocol().run(work)

    return run_or_step


def _wrap_class(cls: Any, protocol: Protocol) -> None:
    if _MARK in vars(cls):
        return
    setattr(cls, _MARK, True)
    call = cls.__call__

    @functools.wraps(call)
    def call_or_step(task: Any, *args: Any, **kwargs: Any) -> Any:
        header = _step_to_run(task)
        if header is None:
            return call(task, *args, **kwargs)
        bound = functools.partial(call, task)
        work = Work(key=header[0], header=header[1], task=task.name, function=task.run, call=bound)
        return protocol().run(work)

    cls.__call__ = call_or_step


def _wrapped_retry(task: Any, retry: Callable[..., Any]) -> Callable[..., Any]:
    """Keep `retry` from sending what would run outside of the step, without its arguments."""

    @functools.wraps(retry)
    def retry_or_say_so(*args: Any, **kwargs: Any) -> Any:
        request = task.request_stack.top
        if getattr(request, HEADER, None) is None or face.current() is None:
            return retry(*args, **kwargs)
        # Celery's own way to raise ``Retry`` and send nothing.
        before, request.is_eager = request.is_eager, True
        try:
            return retry(*args, **kwargs)
        finally:
            request.is_eager = before

    return retry_or_say_so


def _step_to_run(task: Any) -> tuple[AttemptKey, Any] | None:
    """Return key and header of the step that this call of `task` is to carry out, if it is one."""
    request = task.request_stack.top
    value = getattr(request, HEADER, None)
    if value is None or request.called_directly:
        return None
    key = find_key({HEADER: value})
    running = face.current()
    if key is None or (running is not None and _is_same(running, key)):
        # The body of the step calls its own task's function: that is no second step.
        return None
    return key, value


def _is_same(info: face.StepInfo, key: AttemptKey) -> bool:
    return (info.workflow_id, info.run, info.step, info.attempt) == (
        key.workflow_id,
        key.run,
        key.step,
        key.attempt,
    )
