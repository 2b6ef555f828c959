"""CH1, EX1, CN4: an answer is for the run that asked, not for the one that goes on in its place."""

import asyncio
from typing import Any, Literal

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ApplicationError, ChildWorkflowError
from orchestrator.core.retry import Retry
from orchestrator.store.ports import Kind
from tests.engine.world import World

Policy = Literal["terminate", "request_cancel", "abandon"]


async def job() -> Any:
    return await workflow.signal("end")


async def parent(policy: Policy, part: int = 1) -> Any:
    """Leave the first child behind, and wait for the second one."""
    call = workflow.child("job", id=f"child-{part}", parent_close_policy=policy)
    ordered = asyncio.create_task(call)
    if part == 2:
        return await ordered
    await workflow.sleep(1)
    workflow.continue_as_new(policy, 2)


async def hasty(part: int = 1) -> Any:
    """Order a child whose id is taken, and go on before that is known."""
    ordered = asyncio.create_task(workflow.child("job", id="taken" if part == 1 else "child-2"))
    if part == 2:
        return await ordered
    await asyncio.sleep(0)
    workflow.continue_as_new(2)


async def stubborn() -> Any:
    attempt = workflow.info().attempt
    ordered = asyncio.create_task(workflow.child("job", id=f"child-{attempt}"))
    if attempt == 2:
        try:
            return await ordered
        except ChildWorkflowError as error:
            return error.failure.type
    await workflow.sleep(1)
    raise ApplicationError("again")


async def watcher(part: int = 1) -> Any:
    asked = asyncio.create_task(workflow.external(f"job-{part}").result())
    if part == 2:
        return await asked
    await workflow.sleep(1)
    workflow.continue_as_new(2)


def until_run_2(world: World) -> None:
    for _ in range(3):
        world.settle()
        world.advance(60_000)
    world.settle()
    assert world.row()["run"] == "2"


@pytest.mark.parametrize("policy", ["terminate", "request_cancel", "abandon"])
def test_end_of_a_child_left_behind_is_not_that_of_a_child_of_the_next_run(policy: str) -> None:
    world = World(parent, job)
    world.start("parent", policy)
    until_run_2(world)
    world.signal("end", "first", id="child-1")
    world.settle()
    world.signal("end", "second", id="child-2")
    world.settle()
    assert world.result() == "second"


def test_end_of_a_child_of_one_attempt_is_not_that_of_a_child_of_the_next() -> None:
    world = World(stubborn, job)
    world.start("stubborn", retry=Retry(attempts=2).as_json())
    until_run_2(world)
    world.signal("end", "second", id="child-2")
    world.settle()
    assert world.result() == "second"


def test_refusal_of_a_child_is_not_that_of_a_child_of_the_next_run() -> None:
    world = World(hasty, job)
    world.start("job", id="taken")
    world.start("hasty")
    world.settle()
    assert "ChildScheduled" in world.names()
    world.signal("end", "second", id="child-2")
    world.settle()
    assert world.result() == "second"


def test_end_that_one_run_awaited_is_not_the_end_that_the_next_one_awaits() -> None:
    world = World(watcher, job)
    for number in (1, 2):
        world.start("job", id=f"job-{number}")
    world.start("watcher")
    until_run_2(world)
    for name, job_id in (("first", "job-1"), ("second", "job-2")):
        world.signal("end", name, id=job_id)
        world.settle()
    assert world.result() == "second"


async def stepping(part: int = 1) -> Any:
    ordered = asyncio.create_task(workflow.step("job", part))
    if part == 2:
        return await ordered
    await workflow.sleep(1)
    workflow.continue_as_new(2)


def test_decision_about_a_step_is_for_the_run_it_was_made_for() -> None:
    world = World(stepping)
    world.start("stepping")
    world.turn()
    world.advance(1_000)
    world.turn()
    assert world.row()["run"] == "2"
    world.post(Kind.DECISION, {"step": 1, "decision": "pause", "reason": "x", "for_run": 1})
    world.turn()
    last = world.events("w", 2)[-1]
    assert isinstance(last, e.RequestRejected)
    assert "step 1 of run 1, which has ended" in last.reason
    world.post(Kind.DECISION, {"step": 1, "decision": "pause", "reason": "x", "for_run": 2})
    world.turn()
    assert isinstance(world.events("w", 2)[-1], e.StepPaused)
