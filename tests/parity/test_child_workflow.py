"""Temporal's feature tests of that group, by name, where `workflow.child` has what they need."""

import asyncio
from typing import Any

import pytest
from celery import Celery

from orchestrator import (
    ApplicationError,
    ChildWorkflowError,
    Orchestrator,
    WorkflowFailed,
    workflow,
)
from orchestrator.testing import WorkflowEnvironment

app = Celery("child-workflow", broker="redis://127.0.0.1:1/0")
orc = Orchestrator(app)


@app.task
def tidy() -> None:
    return None


@orc.workflow
async def echo(text: str) -> str:
    return text


@orc.workflow
async def refusing() -> None:
    raise ApplicationError("failed on purpose", type="Refused", details={"code": 7})


@orc.workflow
async def cleaning_up() -> str:
    try:
        return str(await workflow.signal("unblock"))
    finally:
        await workflow.step(tidy)


@orc.workflow
async def result_parent() -> str:
    return str(await workflow.child(echo, "test"))


@orc.workflow
async def waiting_parent() -> list[Any]:
    try:
        return [await workflow.child(cleaning_up, id="child")]
    except ChildWorkflowError as error:
        return [error.status, error.type]


@orc.workflow
async def throwing_parent() -> list[Any]:
    try:
        await workflow.child(refusing)
    except ChildWorkflowError as error:
        return [error.status, error.type, error.failure.message, error.failure.details]
    return []


@orc.workflow
async def cancelling_parent(kind: str = "wait_cancellation_completed") -> list[Any]:
    child = asyncio.create_task(waiting_parent_body(kind))
    await workflow.sleep(1)
    child.cancel()
    result = await child
    await workflow.signal("end")
    return result


async def waiting_parent_body(kind: str) -> list[Any]:
    call = workflow.child.options(
        id="child",
        cancellation_type=kind,  # type: ignore[arg-type]
        parent_close_policy="abandon",
    )
    try:
        return [await call(cleaning_up)]
    except asyncio.CancelledError:
        return ["cancelled", workflow.now().isoformat()]


def test_result() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        assert env.start(result_parent).result() == "test"


def test_signal() -> None:
    """By the child's id, from outside; from its parent it is not built yet."""
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        handle = env.start(waiting_parent)
        env.settle()
        env.run("child").signal("unblock", "unblocked")
        assert handle.result() == ["unblocked"]


def test_cancel_wait_completed() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        hold = env.hold(tidy)
        handle = env.start(cancelling_parent)
        handle.signal("end")
        env.skip(hours=1)
        assert handle.status() == "running", "the child still cleans up"
        hold.complete()
        assert handle.result()[0] == "cancelled"
        assert env.run("child").status() == "cancelled"
        ended = env.run("child").describe().closed_at
        assert ended is not None
        assert ended.isoformat() == handle.result()[1], "not before its child"


def test_cancel_try_cancel() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        hold = env.hold(tidy)
        handle = env.start(cancelling_parent, "try_cancel")
        before = env.now
        handle.signal("end")
        assert handle.result()[0] == "cancelled"
        assert (env.now - before).total_seconds() == 1, "it did not wait"
        assert env.run("child").status() == "running", "it was asked, and cleans up"
        hold.complete()
        assert env.run("child").status() == "cancelled"


def test_cancel_abandon() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        handle = env.start(cancelling_parent, "abandon")
        handle.signal("end")
        assert handle.result()[0] == "cancelled"
        assert "ChildCancelRequested" not in [one.type for one in handle.history()]
        env.run("child").signal("unblock", "still here")
        assert env.run("child").result() == "still here"


def test_throws_on_execute() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        result = env.start(throwing_parent).result()
    assert result == ["failed", "Refused", "failed on purpose", {"code": 7}]


def test_throws_on_start() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        other = env.start(cleaning_up, id="child")
        assert env.start(waiting_parent).result() == ["refused", "WorkflowAlreadyStarted"]
        assert other.status() == "running"


def test_throws_on_termination() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        handle = env.start(waiting_parent)
        env.settle()
        env.run("child").terminate("by hand")
        assert handle.result() == ["terminated", "Terminated"]
        with pytest.raises(WorkflowFailed, match="terminated"):
            env.run("child").result()
