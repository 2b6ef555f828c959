"""Temporal's feature tests of that group, by name, where `workflow.child` has what they need."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from orchestrator import (
    ApplicationError,
    ChildWorkflowError,
    Orchestrator,
    Retry,
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


@orc.workflow
async def signalling_parent() -> list[Any]:
    handle = await workflow.child.start(cleaning_up, id="child")
    await handle.signal("unblock", "unblocked")
    return [handle.id, handle.run, await handle]


@orc.workflow
async def starting_parent() -> list[Any]:
    call = workflow.child.options(id="child", parent_close_policy="abandon")
    handle = await call.start(cleaning_up)
    return [handle.id, handle.run, "ended" if handle.is_done else "running"]


@orc.workflow
async def handling_parent() -> list[Any]:
    first = await workflow.child.start(echo, "test")
    other = await workflow.child.start(cleaning_up)
    other.cancel()
    try:
        await other
    except ChildWorkflowError as error:
        return [await first, await first.result(), [error.status]]
    return []


@orc.workflow
async def flaky(how: str) -> int:
    if workflow.info().run < 3:
        raise ApplicationError(how, type="Flaky", non_retryable=how == "final")
    return workflow.info().run


@orc.workflow
async def retrying_parent(how: str) -> Any:
    call = workflow.child.options(id="child", retry=Retry(attempts=3))
    try:
        return await call(flaky, how)
    except ChildWorkflowError as error:
        return [error.status, error.run]


@orc.workflow
async def timing_parent() -> list[Any]:
    call = workflow.child.options(run_timeout=timedelta(minutes=1))
    try:
        return [await call(cleaning_up)]
    except ChildWorkflowError as error:
        return [error.status, error.failure.type]


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
    """By the handle that its parent has, and from outside by its id."""
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        assert env.start(signalling_parent).result() == ["child", 1, "unblocked"]
        handle = env.start(waiting_parent)
        env.settle()
        env.run("child").signal("unblock", "unblocked")
        assert handle.result() == ["unblocked"]


def test_start() -> None:
    """The run is certain and the child is at work, before anybody waits for its end."""
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        handle = env.start(starting_parent)
        assert handle.result() == ["child", 1, "running"]
        assert env.run("child").status() == "running"


def test_handle() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        assert env.start(handling_parent).result() == ["test", "test", ["cancelled"]]


def test_retry() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        handle = env.start(retrying_parent, "not yet")
        assert handle.result() == 3
        names = [one.type for one in handle.history()]
        assert names.count("ChildScheduled") == 1, "the child's own runs are its attempts"
        assert env.run("child").describe().key.run == 3


def test_retry_not_of_what_is_final() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        assert env.start(retrying_parent, "final").result() == ["failed", 1]


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


def test_cancel_wait_requested() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        hold = env.hold(tidy)
        handle = env.start(cancelling_parent, "wait_cancellation_requested")
        handle.signal("end")
        assert handle.result()[0] == "cancelled"
        requested = [one for one in env.run("child").history() if one.type == "CancelRequested"]
        assert len(requested) == 1, "the child has it before its parent goes on"
        assert "ExternalCompleted" in [one.type for one in handle.history()]
        assert env.run("child").status() == "running", "it cleans up, and nobody waits"
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
        with pytest.raises(WorkflowFailed, match="by another request"):
            env.start(signalling_parent).result()
        assert other.status() == "running"


def test_throws_on_termination() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        handle = env.start(waiting_parent)
        env.settle()
        env.run("child").terminate("by hand")
        assert handle.result() == ["terminated", "Terminated"]
        with pytest.raises(WorkflowFailed, match="terminated"):
            env.run("child").result()


def test_throws_on_timeout() -> None:
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        handle = env.start(timing_parent)
        env.skip(minutes=2)
        assert handle.result() == ["failed", "WorkflowTimeout"]
