"""TH1 with a whole engine: the same call again is safe at any moment, another one is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.client.token_handle import TokenHandle
from orchestrator.core.errors import ApplicationError, StepClosed, StepError, StoreUnavailable
from orchestrator.core.failure import Failure
from orchestrator.core.retry import Retry
from orchestrator.core.values import digest
from orchestrator.store.ports import AttemptKey
from orchestrator.store.step_tokens import encode_token
from tests.engine.world import World
from tests.sealing.sealed_world import SealedWorld

NO = Failure(type="No", message="no", non_retryable=True)


async def asking() -> Any:
    try:
        answer = await workflow.step("ask", retry=Retry(attempts=2))
    except StepError as error:
        answer = error.type
    await workflow.signal("end")
    return answer


def left(world: World, orc: Orchestrator) -> TokenHandle:
    """Return the handle of an attempt that its worker left."""
    message = world.pop()
    assert message
    world.claim(message)
    key = AttemptKey.parse(message["key"])
    world.store.detach(key, "worker/1")
    return orc.step(encode_token(key, "worker/1"))


@pytest.fixture(params=[World, SealedWorld], ids=["plain", "sealed"])
def world(request: pytest.FixtureRequest) -> World:
    world: World = request.param(asking)
    world.start("asking")
    world.turn()
    return world


@pytest.fixture
def orc(world: World, tmp_path: Path) -> Iterator[Orchestrator]:
    app = Celery("again", broker="memory://", set_as_current=False)
    yield Orchestrator(app, store=world.store, blobs=tmp_path)
    app.close()


def test_answer_that_was_lost_is_had_by_the_same_call_at_any_moment(
    world: World, orc: Orchestrator
) -> None:
    handle = left(world, orc)
    handle.complete("approve")
    handle.complete("approve")  # Not read yet.
    world.settle()
    handle.complete("approve")  # The step is settled.
    world.settle()
    world.signal("end")
    world.settle()
    assert world.result() == "approve"
    handle.complete("approve")  # The run has ended.
    assert "OutcomeRefused" not in world.names()
    with pytest.raises(StepClosed):
        handle.complete("refuse")


def test_second_outcome_is_refused_to_its_caller_and_noted(world: World, orc: Orchestrator) -> None:
    handle = left(world, orc)
    handle.complete("approve")
    with pytest.raises(StepClosed):
        handle.fail(NO)
    world.settle()
    assert world.names().count("OutcomeRefused") == 1
    with pytest.raises(StepClosed):
        handle.fail(NO)
    world.settle()
    world.signal("end")
    world.settle()
    assert world.result() == "approve"


def test_failure_is_known_again_after_the_attempts_that_follow(
    world: World, orc: Orchestrator
) -> None:
    first = left(world, orc)
    first.fail(ApplicationError("busy", "Busy", details={"of": 3}))
    world.settle()
    first.fail(ApplicationError("busy", "Busy", details={"of": 3}))
    world.advance(60_000)
    world.turn()
    left(world, orc).fail(NO)
    world.turn()
    first.fail(ApplicationError("busy", "Busy", details={"of": 3}))
    world.signal("end")
    world.settle()
    assert world.result() == "No"
    first.fail(ApplicationError("busy", "Busy", details={"of": 3}))
    assert "OutcomeRefused" not in world.names()


def test_digest_of_what_was_said_cannot_be_tried_out_by_who_reads_a_sealed_store(
    world: World, orc: Orchestrator
) -> None:
    left(world, orc).complete("approve")
    store: Any = world.store
    (kept,) = [said for part in store._parts for said in part.said.values()]
    tried = digest(["worker/1", "completed", {"result": digest("approve")}])
    assert (kept == tried) is not isinstance(world, SealedWorld)


def test_who_may_not_read_histories_is_told_what_the_store_says(
    world: World, orc: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = left(world, orc)
    handle.complete("approve")
    world.settle()
    world.signal("end")
    world.settle()

    def refused(*_: object, **__: object) -> None:
        raise StoreUnavailable("read_history", "NoPermissionError")

    monkeypatch.setattr(world.store, "read_history", refused)
    with pytest.raises(StepClosed):
        handle.complete("approve")
