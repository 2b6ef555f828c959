"""The example of docs/interceptors.md: one trace id, from the client to the last step."""

import itertools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery

from orchestrator import (
    ExecuteStep,
    ExecuteWorkflow,
    Interceptor,
    Orchestrator,
    StartWorkflow,
    step,
    workflow,
)
from orchestrator.testing import WorkflowEnvironment

trace_id: ContextVar[str] = ContextVar("trace_id", default="")
numbers = itertools.count(100)  # A tracing library would draw its ids at random.
spans: list[tuple[str, str]] = []


class Tracing(Interceptor):
    """Every span of a run, its children and its steps has the trace id of who started it."""

    async def start_workflow(
        self, call: StartWorkflow, proceed: Callable[[StartWorkflow], Awaitable[int]]
    ) -> int:
        trace = trace_id.get() or f"t-{next(numbers)}"
        spans.append((trace, f"start {call.workflow}"))
        return await proceed(replace(call, headers={**call.headers, "trace": trace}))

    async def execute_workflow(
        self, call: ExecuteWorkflow, proceed: Callable[[ExecuteWorkflow], Awaitable[Any]]
    ) -> Any:
        try:
            return await proceed(call)
        finally:
            # A workflow's logger is silent on replay; so the line is written once.
            workflow.logger.info("trace %s: %s ends", call.headers["trace"], call.workflow)

    def execute_step(self, call: ExecuteStep, proceed: Callable[[ExecuteStep], Any]) -> Any:
        token = trace_id.set(str(call.headers.get("trace", "")))
        try:
            return proceed(call)
        finally:
            spans.append((trace_id.get(), f"step {call.task} attempt {call.attempt}"))
            trace_id.reset(token)


app = Celery("tracing", broker="redis://127.0.0.1:1/0")
orc = Orchestrator(app, interceptors=[Tracing()])


@app.task(name="pack")
def pack(item: str) -> str:
    info = step.current()
    assert info is not None
    assert trace_id.get() == info.headers["trace"]
    return f"{item} packed"


@orc.workflow
async def ship(item: str) -> str:
    return str(await workflow.step(pack, item))


@orc.workflow
async def order(item: str, rounds: int = 1) -> list[str]:
    if rounds:
        workflow.continue_as_new(item, rounds - 1)
    handle = await workflow.child.start(ship, item)
    return [await handle, str(await workflow.step(pack, "the invoice"))]


def test_one_trace_id_goes_from_the_client_through_workflow_child_and_steps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spans.clear()
    token = trace_id.set("t-1")
    with WorkflowEnvironment(orc, replay_every_turn=True) as env, caplog.at_level("INFO"):
        assert env.start(order, "a book").result() == ["a book packed", "the invoice packed"]
    trace_id.reset(token)
    assert spans == [
        ("t-1", "start order"),
        ("t-1", "step pack attempt 1"),
        ("t-1", "step pack attempt 1"),
    ]
    lines = [one.getMessage() for one in caplog.records if one.name == "orchestrator.workflow"]
    assert lines == [
        "trace t-1: order ends",  # The run that was continued.
        "trace t-1: ship ends",
        "trace t-1: order ends",
    ]


def test_two_starts_have_two_traces() -> None:
    spans.clear()
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        env.start(ship, "one").result()
        env.start(ship, "two").result()
    assert len({trace for trace, _ in spans}) == 2
    assert len(spans) == 4
