"""What workflow code says of other runs of its own making: children, and the run that goes on."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

from orchestrator.core.child_handle import (
    ChildWorkflowHandle,
    beginning_of_child,
    end_of_child,
)
from orchestrator.core.children import (
    ChildCancellation,
    ChildOptions,
    ChildWorkflow,
    ParentClosePolicy,
    order_of_child,
)
from orchestrator.core.context import current
from orchestrator.core.errors import ContinueAsNew, UsageError
from orchestrator.core.limits import WORKFLOW_ID_CHARS_MAX
from orchestrator.core.retry import Retry
from orchestrator.core.run_info import RunInfo
from orchestrator.core.values import digest

#: Characters of ".child-<number>" behind the stem of a child's id.
_CHILD_SUFFIX_CHARS_MAX = 20
_STEM_CHARS = 120
#: Those that `child` itself takes; any other would take a name away from the workflow's input.
_SETTINGS = ("id", "parent_close_policy", "cancellation_type")


class ChildCall:
    """`workflow.child`: run another workflow as a child of this run, and wait for its result."""

    __slots__ = ("_options",)

    def __init__(self, options: ChildOptions | None = None) -> None:
        self._options = options

    def options(
        self,
        *,
        id: str | None = None,
        parent_close_policy: ParentClosePolicy = "terminate",
        cancellation_type: ChildCancellation = "wait_cancellation_completed",
        run_timeout: timedelta | None = None,
        execution_timeout: timedelta | None = None,
        retry: Retry | None = None,
    ) -> "ChildCall":
        """Return a `child` with these settings, whose keyword arguments are all the workflow's.

        With `retry`, a child that failed is attempted again as the next run of its id; the end that
        is awaited is that of its last attempt.  See `core.run_retry`.

        Raises:
            InvalidWorkflowId: See `core.ids`.
            UsageError: No such policy, or type, or a time-out that cannot be.
        """
        return ChildCall(
            ChildOptions(
                id=id,
                parent_close_policy=parent_close_policy,
                cancellation_type=cancellation_type,
                run_timeout=run_timeout,
                execution_timeout=execution_timeout,
                retry=retry,
            )
        )

    async def __call__(self, workflow: ChildWorkflow | str, /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of `workflow`, a workflow or the name of one, as a run of its own.

        The keyword arguments ``id``, ``parent_close_policy`` and ``cancellation_type`` are settings
        of the child; the others are the workflow's input.  Cancelling the waiting task asks the
        child to stop, and waits for its end, unless its type says otherwise (CH2).

        Raises:
            ChildWorkflowError: It failed, was cancelled or terminated, or another run with its id
                is open.
            InvalidPayload: The input does not fit the workflow's annotations.
            UsageError: Not a workflow, or a setting that cannot be.
        """
        options = self._split(kwargs)
        execution = current("child()")
        order = order_of_child(execution.definition.codec, workflow, args, kwargs, options)
        return await end_of_child(execution, execution.order_child(order, _stem_of(execution.info)))

    async def start(
        self, workflow: ChildWorkflow | str, /, *args: Any, **kwargs: Any
    ) -> ChildWorkflowHandle:
        """Start `workflow` as a child, and return its handle once its run is certain.

        Arguments and settings as in a call.  Cancelling who waits here is cancelling the child, as
        in a call.

        Raises:
            ChildWorkflowError: Another run with its id is open.
            InvalidPayload: The input does not fit the workflow's annotations.
            UsageError: Not a workflow, or a setting that cannot be.
        """
        options = self._split(kwargs)
        execution = current("child.start()")
        order = order_of_child(execution.definition.codec, workflow, args, kwargs, options)
        order = replace(order, announced=True)
        ordered = execution.order_child(order, _stem_of(execution.info))
        await beginning_of_child(execution, ordered)
        return ChildWorkflowHandle(ordered)

    def _split(self, kwargs: dict[str, Any]) -> ChildOptions:
        """Return the settings, and take those that `kwargs` has out of it."""
        if self._options is not None:
            return self._options
        given = {name: kwargs.pop(name) for name in _SETTINGS if name in kwargs}
        return ChildOptions(**given)


child = ChildCall()


def _stem_of(info: RunInfo) -> str:
    """Return what the ids of this run's children begin with; short enough for an id."""
    stem = f"{info.workflow_id}.{info.run}"
    if len(stem) <= WORKFLOW_ID_CHARS_MAX - _CHILD_SUFFIX_CHARS_MAX:
        return stem
    return f"{stem[:_STEM_CHARS]}~{digest(stem)[:16]}"


def continue_as_new(
    *args: Any, workflow: ChildWorkflow | str | None = None, **kwargs: Any
) -> NoReturn:
    """End this run, and go on as the next run of its id, with this input and an empty history.

    What arrived and was not taken goes over in the same act, in its order; what arrives later goes
    to the new run.  Steps and timers that are outstanding end; children are left as their policies
    say.  Call it in the workflow function or in a handler; nothing behind it runs but ``finally``.

    Args:
        args: Positional input.
        workflow: Another workflow, or the name of one, to go on as.
        kwargs: Input by name.

    Raises:
        InvalidPayload, ValueError: The input does not fit the workflow's annotations.
        UsageError: A saga is open: commit it first, or leave its block.
    """
    execution = current("continue_as_new()")
    if execution.has_open_saga:
        raise UsageError(
            "continue_as_new inside an open saga: commit it, or leave its block first, so that it "
            "is known whether its steps stand"
        )
    codec = execution.definition.codec
    if workflow is None:
        order = order_of_child(codec, execution.info.workflow, args, kwargs, ChildOptions())
        execution.definition.decode_input(order.args, order.kwargs)
    else:
        order = order_of_child(codec, workflow, args, kwargs, ChildOptions())
    raise ContinueAsNew(order.workflow, order.args, order.kwargs)
