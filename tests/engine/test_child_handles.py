"""What a child's handle promises holds whatever dies: one beginning, one signal, one request."""

import asyncio
from typing import Any

import pytest

from orchestrator import Retry, workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ApplicationError, ChildWorkflowError
from orchestrator.store.keys import partition_of
from orchestrator.store.ports import Kind
from tests.engine.test_crashes import Faulty
from tests.engine.world import Node, World

CALLS = ("commit", "start", "post", "read_letters", "ack_letters")


async def patient() -> Any:
    try:
        return await workflow.signal("go")
    finally:
        await workflow.step("tidy")


async def starter() -> Any:
    handle = await workflow.child.start("patient", id="kid")
    await handle.signal("go", "went")
    return [handle.run, await handle]


async def refused() -> str:
    try:
        await workflow.child.start("patient", id="kid")
    except ChildWorkflowError as error:
        return error.status
    return "started"


async def stopper() -> str:
    call = workflow.child.options(
        id="kid",
        cancellation_type="wait_cancellation_requested",
        parent_close_policy="abandon",
    )
    handle = await call.start("patient")
    waiter = asyncio.create_task(handle.result())
    await workflow.signal("stop")
    waiter.cancel()
    await asyncio.wait([waiter])
    return "asked"


async def flaky() -> int:
    if workflow.info().run == 1:
        raise ApplicationError("not yet")
    return workflow.info().run


async def retrier() -> Any:
    return await workflow.child.options(id="kid", retry=Retry())("flaky")


async def counting(left: int) -> Any:
    if left:
        workflow.continue_as_new(left - 1)
    return await workflow.signal("go")


async def follower() -> Any:
    handle = await workflow.child.start("counting", 2, id="kid")
    await workflow.signal("now")
    await handle.signal("go", "reached")
    return await handle


def handle_world() -> World:
    world = World(patient, starter, refused, stopper, flaky, retrier, counting, follower)
    world.tasks["tidy"] = lambda: None
    return world


def finish(world: World) -> None:
    for _ in range(20):
        world.settle()
        world.advance(5_000)


def test_parent_and_child_of_these_tests_live_apart() -> None:
    assert partition_of("w", 4) != partition_of("kid", 4)


def test_a_beginning_becomes_an_event_of_the_parent() -> None:
    world = handle_world()
    world.start("starter")
    world.settle()
    assert world.result() == [1, "went"]
    assert world.names() == [
        *("RunStarted", "ChildScheduled", "ChildStarted", "ExternalSignalSent"),
        *("ExternalCompleted", "ChildCompleted", "RunCompleted"),
    ]
    world.check_chain()
    world.check_chain("kid")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("happens", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_beginning_survives_a_lost_answer_and_a_death_at_every_call(
    call: str, *, happens: bool, restarts: bool
) -> None:
    for at in range(1, 14):
        world = handle_world()
        world.nodes = [Node(world, "one", Faulty(world.store, call, at, happens=happens))]
        world.start("starter")
        world.settle()
        if restarts:
            world.restart()
            world.settle()
        assert world.result() == [1, "went"], at
        assert world.names().count("ChildStarted") == 1
        assert world.names("kid").count("SignalReceived") == 1
        assert len(world.ran) == 1
        world.check_chain()
        world.close()


def test_a_letter_that_is_delivered_again_tells_the_parent_nothing_new() -> None:
    world = handle_world()
    world.start("stopper")
    world.settle()
    for _ in range(2):
        world.post(Kind.CHILD, {"child": 1, "run": 1, "status": "started"})
        world.settle()
    assert world.names().count("ChildStarted") == 1
    world.signal("go", id="kid")
    world.settle()
    world.post(Kind.CHILD, {"child": 1, "run": 1, "status": "started"})
    world.settle()
    assert world.names()[-1] == "ChildCompleted"
    world.check_chain()


def test_a_child_that_is_called_tells_nothing_of_its_beginning() -> None:
    world = handle_world()
    world.start("retrier")
    world.settle()
    assert "ChildStarted" not in world.names()


def test_an_id_that_is_taken_refuses_the_start() -> None:
    world = handle_world()
    world.start("patient", id="kid")
    world.settle()
    world.start("refused")
    world.settle()
    assert world.result() == "refused"
    assert world.names() == ["RunStarted", "ChildScheduled", "ChildFailed", "RunCompleted"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("happens", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_request_to_stop_is_heard_once_and_answered_whatever_dies(
    call: str, *, happens: bool, restarts: bool
) -> None:
    for at in range(1, 10):
        world = handle_world()
        world.start("stopper")
        world.settle()
        world.nodes[0].close()
        world.advance(10_000)
        world.nodes = [Node(world, "two", Faulty(world.store, call, at, happens=happens))]
        world.signal("stop")
        world.settle()
        if restarts:
            world.restart()
            world.settle()
        assert world.result() == "asked", at
        asked = [one for one in world.events() if isinstance(one, e.ChildCancelRequested)]
        assert [one.external for one in asked] == [1]
        assert world.names("kid").count("CancelRequested") == 1
        assert "RequestRejected" not in world.names("kid")
        world.close()


def test_a_parent_is_not_left_waiting_by_a_child_that_has_ended_meanwhile() -> None:
    world = handle_world()
    world.start("stopper")
    world.settle()
    world.signal("go", id="kid")
    world.signal("stop")
    world.settle()
    assert world.result() == "asked"


def test_each_attempt_of_a_child_is_the_next_run_of_its_id() -> None:
    world = handle_world()
    world.start("retrier")
    finish(world)
    assert world.result() == 2
    runs = [one.run for one in world.events() if isinstance(one, e.ChildFailed | e.ChildCompleted)]
    assert runs == [2]
    started = world.events("kid", 2)[0]
    assert isinstance(started, e.RunStarted)
    assert started.parent["child"] == 1


def test_a_handle_reaches_the_run_that_goes_on_where_its_child_continued() -> None:
    world = handle_world()
    world.start("follower")
    world.settle()
    assert int(world.row("kid")["run"]) == 3
    world.signal("now")
    world.settle()
    assert world.result() == "reached"
