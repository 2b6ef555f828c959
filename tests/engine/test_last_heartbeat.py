"""What an attempt said last is not lost with it: its time-out has the details."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import StepTimeout
from orchestrator.core.retry import Retry
from orchestrator.store.ports import AttemptKey, ClaimAnswer
from tests.engine.world import World
from tests.sealing.sealed_world import SECRET, SealedWorld

ONCE = Retry(attempts=1)
MINUTE = timedelta(minutes=1)


async def silent() -> Any:
    try:
        return await workflow.step("job", retry=ONCE, heartbeat=MINUTE)
    except StepTimeout as error:
        return [error.failure.type, error.failure.details]


async def slow() -> Any:
    try:
        return await workflow.step("job", retry=ONCE, start_to_close=MINUTE)
    except StepTimeout as error:
        return [error.failure.type, error.failure.details]


async def waiting() -> Any:
    try:
        return await workflow.step("job", retry=ONCE, schedule_to_start=MINUTE)
    except StepTimeout as error:
        return [error.failure.type, error.failure.details]


def claimed(world: World, name: str) -> AttemptKey:
    world.start(name)
    world.turn()
    message = world.pop()
    assert message
    assert world.claim(message) is ClaimAnswer.GRANTED
    return AttemptKey.parse(message["key"])


@pytest.mark.parametrize(
    ("function", "kind"), [(silent, "heartbeat_timeout"), (slow, "start_to_close_timeout")]
)
def test_time_out_has_the_details_of_the_last_heartbeat(function: Any, kind: str) -> None:
    world = World(function)
    key = claimed(world, function.__name__)
    for row in (1, 2):
        world.store.heartbeat(key, "worker/1", {"row": row})
    world.advance(60_000)
    world.settle()
    assert world.result() == [kind, {"row": 2}]
    world.restart()
    world.settle()
    world.check_chain()


@pytest.mark.parametrize("function", [silent, slow])
def test_time_out_of_an_attempt_that_said_nothing_has_no_details(function: Any) -> None:
    world = World(function)
    claimed(world, function.__name__)
    world.advance(60_000)
    world.settle()
    assert world.result()[1] is None  # type: ignore[index]


def test_attempt_that_nobody_took_said_nothing() -> None:
    world = World(waiting)
    world.start("waiting")
    world.turn()
    world.pop()
    world.advance(60_000)
    world.settle()
    assert world.result() == ["schedule_to_start_timeout", None]


def test_sealed_details_are_opened_for_the_workflow_and_sealed_in_its_history() -> None:
    world = SealedWorld(silent)
    key = claimed(world, "silent")
    world.store.heartbeat(key, "worker/1", {"card": SECRET})
    assert world.store.read_step(key.run_key, 1)["details"] == f'{{"card":"{SECRET}"}}'
    world.advance(60_000)
    world.settle()
    assert world.result() == ["heartbeat_timeout", {"card": SECRET}]
    assert [event.failure.type for event in world.events() if isinstance(event, e.StepFailed)]
    assert not world.is_readable()
