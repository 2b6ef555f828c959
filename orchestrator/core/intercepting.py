"""How a run's calls pass its app's interceptors, inside an activation."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from orchestrator.core.children import ChildOrder
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.interceptors import (
    ExecuteWorkflow,
    HandleMessage,
    Headers,
    OrderChild,
    OrderStep,
    chained,
    checked_headers,
    overriding,
)
from orchestrator.core.options import StepOptions
from orchestrator.core.run_info import RunInfo
from orchestrator.core.steps import Order
from orchestrator.core.values import Json


class Host(Protocol):
    """The execution whose calls these are."""

    definition: WorkflowDefinition
    info: RunInfo


def main_of(host: Host, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Awaitable[Any]:
    """Return the coroutine of the workflow function, as the interceptors have it."""
    definition = host.definition
    if not overriding(definition.interceptors, "execute_workflow"):
        return definition.function(*args, **kwargs)

    async def last(call: ExecuteWorkflow) -> Any:
        return await definition.function(*call.args, **call.kwargs)

    call = ExecuteWorkflow(
        workflow=definition.name, args=args, kwargs=kwargs, headers=host.info.headers
    )
    main: Awaitable[Any] = chained(definition.interceptors, "execute_workflow", last)(call)
    return main


def handled(
    definition: WorkflowDefinition,
    kind: str,
    name: str,
    handler: Callable[..., Any],
    args: list[Any],
) -> Any:
    """Call the handler of a message through the interceptors; `kind` names their method."""
    last = chained(definition.interceptors, kind, lambda call: handler(*call.args))
    return last(HandleMessage(name=name, args=tuple(args)))


def ordered_step(host: Host, order: Order) -> tuple[Order, dict[str, Json] | None]:
    """Return the step as the interceptors want it, and its headers; None for the run's own."""
    wanted = overriding(host.definition.interceptors, "order_step")
    if not wanted:
        return order, None
    options = StepOptions.from_json(order.options)
    call = OrderStep(
        task=order.task,
        args=order.args,
        kwargs=order.kwargs,
        options=options,
        headers=host.info.headers,
    )
    for one in wanted:
        call = one.order_step(call)
    if call.options != options:
        order = replace(order, options=call.options.as_json())
    return order, _own(host, call.headers)


def ordered_child(host: Host, order: ChildOrder) -> dict[str, Json] | None:
    """Return the headers that the interceptors want for a child; None for the run's own."""
    wanted = overriding(host.definition.interceptors, "order_child")
    if not wanted:
        return None
    call = OrderChild(
        workflow=order.workflow, args=order.args, kwargs=order.kwargs, headers=host.info.headers
    )
    for one in wanted:
        call = one.order_child(call)
    return _own(host, call.headers)


def _own(host: Host, headers: Headers) -> dict[str, Json] | None:
    """Return headers that are not the run's, checked; None for those that are."""
    return None if dict(headers) == dict(host.info.headers) else checked_headers(headers)
