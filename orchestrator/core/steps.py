"""A step as the core sees it: what is ordered, what became of it, and what its result means.

Knows nothing of sagas or of the loop beyond a future to resolve.
"""

import asyncio
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Protocol

from orchestrator.core.definition import Codec
from orchestrator.core.errors import (
    ApplicationError,
    StepCancelled,
    StepError,
    StepLost,
    StepTimeout,
    UsageError,
)
from orchestrator.core.events import StepCompleted, StepFailed
from orchestrator.core.options import StepOptions
from orchestrator.core.values import Json

#: Keyword arguments of `workflow.step` that are settings, not the task's.
OPTION_NAMES = frozenset(part.name for part in fields(StepOptions)) - {"until_done"}

_ERRORS = {"timed_out": StepTimeout, "lost": StepLost, "cancelled": StepCancelled}


class Follower(Protocol):
    """Somebody who is told when a step has settled, before any user code learns of it."""

    def step_settled(self, step: "Step") -> None:
        """Take note of `step.outcome`."""
        ...


@dataclass(slots=True, kw_only=True)
class Order:
    """What is asked for: a task's name, its arguments as JSON, its options as recorded."""

    task: str
    args: list[Json]
    kwargs: dict[str, Json]
    options: dict[str, Json]
    summary: str = ""  #: for people
    returns: Any = None  #: the declared type of the result; None for plain JSON


@dataclass(slots=True, eq=False)
class Step:
    """A step that was ordered.  `outcome` is None until it has settled."""

    number: int
    order: Order
    future: asyncio.Future[Any] | None = None
    follower: Follower | None = None
    outcome: StepCompleted | StepFailed | None = None
    is_cancel_requested: bool = False

    def result(self, codec: Codec) -> Any:
        """Return the result as the task's declared type, or raise what the failure means.

        Raises:
            StepError: The step failed; its class tells how.
        """
        outcome = self.outcome
        assert outcome is not None, "asked before the step has settled"
        if isinstance(outcome, StepCompleted):
            returns = self.order.returns
            return outcome.result if returns is None else codec.decode(returns, outcome.result)
        failure = outcome.failure
        cause = ApplicationError(
            failure.message, failure.type, failure.non_retryable, None, failure.details
        )
        kind = _ERRORS.get(outcome.kind, StepError)
        raise kind(self.number, self.order.task, outcome.attempt, failure) from cause


def order_of(
    codec: Codec,
    task: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: StepOptions | None,
) -> Order:
    """Return the order for `task` with these arguments.

    Raises:
        TypeError: An argument that has no JSON form.
        UsageError: Not a task.
    """
    return Order(
        task=task_name(task, local=options is not None and options.local),
        args=[codec.encode(one) for one in args],
        kwargs={name: codec.encode(one) for name, one in kwargs.items()} if kwargs else {},
        options={} if options is None else options.as_json(),
        summary="" if options is None else options.summary,
        returns=None if isinstance(task, str) else return_type(function_of(task)),
    )


def task_name(task: Any, *, local: bool = False) -> str:
    """Return the name under which `task` is recorded.

    Raises:
        UsageError: Not a task, and not a function to be run locally.
    """
    if isinstance(task, str):
        return task
    name = getattr(task, "name", None)
    if isinstance(name, str):
        return name
    if not inspect.isroutine(task):
        raise UsageError(f"a step is a Celery task or its name, not {type(task).__name__}")
    if not local:
        raise UsageError(
            f"{task.__qualname__} is a plain function: make it a Celery task, "
            f"or run it inside the orchestrator with local=True"
        )
    return f"{task.__module__}.{task.__qualname__}"


def function_of(task: Any) -> Callable[..., Any]:
    """Return the function that `task`, a Celery task or a function, runs."""
    return typing.cast("Callable[..., Any]", getattr(task, "run", task))


@lru_cache(maxsize=4096)
def return_type(function: Callable[..., Any]) -> Any:
    """Return the declared type of what `function` returns, or None for none.

    Raises:
        UsageError: The annotation cannot be resolved.
    """
    plain = inspect.unwrap(function)
    declared = getattr(plain, "__annotations__", {}).get("return")
    if declared is None or not isinstance(declared, str):
        return declared
    try:
        hints = typing.get_type_hints(
            SimpleNamespace(__annotations__={"return": declared}),
            globalns=getattr(plain, "__globals__", {}),
        )
    except NameError as error:
        raise UsageError(
            f"{plain.__qualname__}: its return annotation {declared!r} cannot be resolved: {error}"
        ) from error
    return None if hints["return"] is type(None) else hints["return"]


@lru_cache(maxsize=4096)
def takes_result(function: Callable[..., Any]) -> bool:
    """Return whether `function` has a parameter named ``result``."""
    try:
        return "result" in inspect.signature(function).parameters
    except ValueError:
        return False
