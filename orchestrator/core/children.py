"""Children: runs of other workflows, ordered by this one.

CH1  A child has an id of its own and a history of its own.  What became of it is an input of the
     parent's; that, and who ordered it, is all that the two histories say of each other.
CH2  Whoever waits for a child and is cancelled does what its `cancellation_type` says:
     "wait_cancellation_completed" asks it to stop and waits for its end, as a child cleans up (a
     second cancellation does not wait), "wait_cancellation_requested" asks and waits until the
     child's history has the request, "try_cancel" asks and does not wait, "abandon" leaves it.
CH3  When the parent ends first, its `parent_close_policy` says what becomes of the child:
     "terminate" (no further code of it runs, but for compensations), "request_cancel" or "abandon".
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from orchestrator.core.deadlines import timeouts_asked
from orchestrator.core.definition import Codec, WorkflowDefinition
from orchestrator.core.errors import ApplicationError, ChildWorkflowError, UsageError
from orchestrator.core.events import ChildCompleted, ChildFailed
from orchestrator.core.ids import checked_workflow_id
from orchestrator.core.retry import Retry
from orchestrator.core.steps import return_type
from orchestrator.core.values import Json

ParentClosePolicy = Literal["terminate", "request_cancel", "abandon"]
ChildCancellation = Literal[
    "wait_cancellation_completed", "wait_cancellation_requested", "try_cancel", "abandon"
]


@runtime_checkable
class ChildWorkflow(Protocol):
    """What `workflow.child` needs of the thing it is given: what ``@orc.workflow`` returns."""

    definition: WorkflowDefinition

    def encode_input(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> tuple[list[Json], dict[str, Json]]:
        """Validate a call against the function's signature and return it as JSON."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOrder:
    """What is asked for.  `id` is "" for one that is made from the parent's."""

    workflow: str
    id: str
    args: list[Json]
    kwargs: dict[str, Json]
    parent_close_policy: ParentClosePolicy
    cancellation_type: ChildCancellation = "wait_cancellation_completed"
    returns: Any = None  #: the declared type of the result; None for plain JSON
    scheduled: dict[str, Json] = field(default_factory=dict)  #: see `RunStarted`
    said: dict[str, Json] = field(default_factory=dict)  #: see `ChildScheduled`
    announced: bool = False  #: whether `Child.started` is wanted


@dataclass(slots=True, eq=False)
class Child:
    """A child that was ordered.

    `outcome` is None until it has ended, `run` is 0 until that is known.  `started` ends once it
    is, or once the child is known never to begin; `cancel_heard`, where it was asked for, once the
    child's history has the request to stop.
    """

    number: int
    id: str
    order: ChildOrder
    future: asyncio.Future[Any]
    outcome: ChildCompleted | ChildFailed | None = None
    is_cancel_requested: bool = False
    run: int = 0
    started: asyncio.Future[None] | None = None
    cancel_heard: asyncio.Future[Any] | None = None

    def begin(self, run: int) -> None:
        """Take note of its run; 0 for one that never begins."""
        self.run = self.run or run
        if self.started is not None and not self.started.done():
            self.started.set_result(None)

    def end(self, outcome: ChildCompleted | ChildFailed) -> None:
        """Take note of its end, and wake who waits for it."""
        self.outcome = outcome
        self.begin(outcome.run)
        self.future.set_result(None)

    def result(self, codec: Codec) -> Any:
        """Return the result as the workflow's declared type, or raise what the failure means.

        Raises:
            ChildWorkflowError: It ended without a result.
        """
        outcome = self.outcome
        assert outcome is not None, "asked before the child has ended"
        if isinstance(outcome, ChildCompleted):
            returns = self.order.returns
            return outcome.result if returns is None else codec.decode(returns, outcome.result)
        failure = outcome.failure
        cause = ApplicationError(
            failure.message, failure.type, failure.non_retryable, None, failure.details
        )
        raise ChildWorkflowError(
            self.id, self.order.workflow, outcome.run, outcome.kind, failure
        ) from cause


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """Settings of one child; see the module, `core.deadlines`, `core.run_retry` and `core.ids`."""

    id: str | None = None
    parent_close_policy: ParentClosePolicy = "terminate"
    cancellation_type: ChildCancellation = "wait_cancellation_completed"
    run_timeout: timedelta | None = None
    execution_timeout: timedelta | None = None
    retry: Retry | None = None

    def __post_init__(self) -> None:
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise UsageError(f"retry is a Retry or None, found {type(self.retry).__name__}")
        if self.id is not None:
            checked_workflow_id(self.id)
        timeouts_asked(self.run_timeout, self.execution_timeout)
        for name, kind in (
            ("parent_close_policy", ParentClosePolicy),
            ("cancellation_type", ChildCancellation),
        ):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}; it is one of {', '.join(get_args(kind))}"
                )

    def said(self) -> dict[str, Json]:
        """Return what the child's START says beside its input."""
        said = timeouts_asked(self.run_timeout, self.execution_timeout)
        if self.retry is not None:
            said["retry"] = self.retry.as_json()
        return said


def order_of_child(
    codec: Codec,
    workflow: ChildWorkflow | str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: ChildOptions,
) -> ChildOrder:
    """Return the order for a run of `workflow` with this input.

    Raises:
        InvalidPayload: The input does not fit the workflow's annotations.
        TypeError: An argument that has no JSON form.
        UsageError: Not a workflow.
    """
    returns = None
    if isinstance(workflow, str):
        name = workflow
        input_args = [codec.encode(one) for one in args]
        input_kwargs = {key: codec.encode(one) for key, one in kwargs.items()}
    elif isinstance(workflow, ChildWorkflow):
        name = workflow.definition.name
        input_args, input_kwargs = workflow.encode_input(args, kwargs)
        returns = return_type(workflow.definition.function)
    else:
        raise UsageError(f"a child is a workflow or its name, not {type(workflow).__name__}")
    return ChildOrder(
        workflow=name,
        id=options.id or "",
        args=input_args,
        kwargs=input_kwargs,
        parent_close_policy=options.parent_close_policy,
        cancellation_type=options.cancellation_type,
        returns=returns,
        said=options.said(),
    )
