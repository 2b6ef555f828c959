"""Temporal's feature tests of that group, by name: what goes in comes out, as it is declared."""

from typing import Any

import pytest
from celery import Celery
from pydantic import BaseModel, ConfigDict

from orchestrator import (
    ApplicationError,
    InvalidPayload,
    Orchestrator,
    Retry,
    StepError,
    WorkflowFailed,
    workflow,
)
from orchestrator.core.events import RunStarted, StepCompleted, StepScheduled
from orchestrator.testing import WorkflowEnvironment
from tests.sealing.sealed_world import SECRET, SealedWorld

app = Celery("data-converter", broker="redis://127.0.0.1:1/0")
orc = Orchestrator(app)


class Spec(BaseModel):
    spec: bool


class Binary(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


@app.task
def binary_step(binary: Binary) -> Binary:
    assert isinstance(binary.data, bytes)
    return binary


@app.task
def empty_step(nothing: None) -> None:
    assert nothing is None


@app.task
def failing_step() -> None:
    try:
        raise ValueError("cause message")
    except ValueError as cause:
        raise ApplicationError("main error", type="Main", details=[1, "two"]) from cause


@app.task
def json_step(spec: Spec) -> Spec:
    assert isinstance(spec, Spec)
    return spec


@orc.workflow
async def binary_workflow(binary: Binary) -> Binary:
    found = await workflow.step(binary_step, binary)
    assert isinstance(found, Binary)
    return found


@orc.workflow
async def bare_binary_workflow(data: bytes) -> bytes:
    return data


@orc.workflow
async def empty_workflow() -> None:
    await workflow.step(empty_step, None)


@orc.workflow
async def failure_workflow() -> Any:
    try:
        await workflow.step(failing_step, retry=Retry(attempts=1))
    except StepError as error:
        failure = error.failure
        assert failure.cause is not None
        raise ApplicationError(
            failure.message, type=failure.type, details=[failure.details, failure.cause.message]
        ) from error


@orc.workflow
async def json_workflow(spec: Spec) -> Spec:
    found = await workflow.step(json_step, spec)
    assert isinstance(found, Spec)
    return found


def test_binary() -> None:
    data = b"\x00\xde\xad\xbe\xef\xff"
    with WorkflowEnvironment(orc) as env:
        handle = env.start(binary_workflow, Binary(data=data))
        assert handle.result() == Binary(data=data)
        started = handle.history()[0].event
        assert isinstance(started, RunStarted)
        assert started.args == [{"data": "AN6tvu__"}], "text in JSON, as its model says"
        with pytest.raises(InvalidPayload, match="bytes has no JSON form: text that is not valid"):
            env.start(bare_binary_workflow, data)


def test_empty() -> None:
    with WorkflowEnvironment(orc) as env:
        handle = env.start(empty_workflow)
        assert handle.result() is None
        events = [one.event for one in handle.history()]
        (scheduled,) = [one for one in events if isinstance(one, StepScheduled)]
        (completed,) = [one for one in events if isinstance(one, StepCompleted)]
        assert (scheduled.args, completed.result) == ([None], None)


def test_failure() -> None:
    with WorkflowEnvironment(orc) as env, pytest.raises(WorkflowFailed) as failed:
        env.start(failure_workflow).result()
    failure = failed.value.failure
    assert failure is not None
    assert (failure.type, failure.message) == ("Main", "main error")
    assert failure.details == [[1, "two"], "cause message"]
    assert failure.cause is not None, "what it was raised from is kept too"


def test_json() -> None:
    with WorkflowEnvironment(orc) as env:
        handle = env.start(json_workflow, Spec(spec=True))
        assert handle.result() == Spec(spec=True)
        started = handle.history()[0].event
        assert isinstance(started, RunStarted)
        assert started.args == [{"spec": True}]


def test_codec() -> None:
    """What a codec makes of payloads lies in the store; who has it sees them as they are."""

    async def echo(text: str) -> str:
        return f"{text} {await workflow.signal('more')}"

    world = SealedWorld(echo)
    world.start("echo", SECRET)
    world.signal("more", SECRET)
    world.settle()
    assert world.result() == f"{SECRET} {SECRET}"
    assert not world.is_readable()
