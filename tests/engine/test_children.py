"""A child is started once, its end reaches its parent, and a parent's end is never missed (CH3).

Parent and child live in different partitions: what they say to each other survives the death of
the orchestrator at every call.
"""

import asyncio
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ChildWorkflowError
from orchestrator.core.values import Json
from orchestrator.store.keys import partition_of
from orchestrator.store.ports import Kind
from tests.engine.test_crashes import Faulty
from tests.engine.world import Node, World

CHILD = "w.1.child-1"


async def half(number: int) -> int:
    return int(await workflow.step("halve", number))


async def parent(number: int) -> Any:
    try:
        return await workflow.child("half", number)
    except ChildWorkflowError as error:
        return [error.status, error.type, error.failure.message]


async def waiting(policy: str = "terminate") -> None:
    call = workflow.child.options(id="child", parent_close_policy=policy)  # type: ignore[arg-type]
    background = [asyncio.create_task(call("patient"))]
    await workflow.signal("end")
    background.clear()


async def patient() -> str:
    try:
        await workflow.signal("go")
    finally:
        await workflow.step("tidy")
    return "went"


def family_world(**options: Any) -> World:
    world = World(half, parent, waiting, patient, **options)
    world.tasks.update(halve=lambda number: number // 2, tidy=lambda: None)
    return world


def test_parent_and_child_of_these_tests_live_apart() -> None:
    assert partition_of("w", 4) != partition_of(CHILD, 4)


def test_a_childs_result_becomes_an_event_of_its_parent() -> None:
    world = family_world()
    world.start("parent", 42)
    world.settle()
    assert world.result() == 21
    assert world.names() == ["RunStarted", "ChildScheduled", "ChildCompleted", "RunCompleted"]
    started = world.events(CHILD)[0]
    assert isinstance(started, e.RunStarted)
    assert started.parent == {"workflow": "w", "run": 1, "child": 1}
    world.check_chain()
    world.check_chain(CHILD)


def test_a_childs_failure_reaches_its_parent() -> None:
    world = family_world()
    world.tasks["halve"] = lambda number: number // 0
    world.start("parent", 42)
    for _ in range(20):
        world.settle()
        world.advance(60_000)
    assert world.result() == ["failed", "ZeroDivisionError", world.result()[2]]  # type: ignore[index]


def test_an_id_that_is_taken_refuses_the_child_and_leaves_the_other_run_alone() -> None:
    world = family_world()
    world.start("patient", id=CHILD)
    world.settle()
    world.start("parent", 42)
    world.settle()
    assert world.result()[:2] == ["refused", "WorkflowAlreadyStarted"]  # type: ignore[index]
    assert world.status(CHILD) == "running"
    assert world.names(CHILD) == ["RunStarted"]


@pytest.mark.parametrize("call", ["commit", "start", "post", "read_letters", "ack_letters"])
@pytest.mark.parametrize("happens", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_letters_survive_a_lost_answer_and_a_death_at_every_call(
    call: str, *, happens: bool, restarts: bool
) -> None:
    for at in range(1, 12):
        world = family_world()
        faulty = Faulty(world.store, call, at, happens=happens)
        world.nodes = [Node(world, "one", faulty)]
        world.start("parent", 42)
        world.settle()
        if restarts:
            world.restart()
            world.settle()
        assert world.result() == 21, at
        assert world.names().count("ChildCompleted") == 1
        assert world.names(CHILD).count("RunStarted") == 1
        assert len(world.ran) == 1
        world.check_chain()
        world.close()


def test_a_cancelled_parent_waits_until_its_child_has_cleaned_up() -> None:
    async def caller() -> None:
        await workflow.child("patient")

    world = World(patient, caller)
    world.tasks["tidy"] = lambda: None
    world.start("caller")
    world.settle()
    world.post(Kind.CANCEL, {"reason": "enough", "request_id": "r"})
    world.turn()
    assert (world.status(), world.status(CHILD)) == ("running", "running")
    world.settle()
    assert (world.status(), world.status(CHILD)) == ("cancelled", "cancelled")
    assert [task for task, _, _ in world.ran] == ["tidy"]
    assert world.names()[-2:] == ["ChildFailed", "RunCancelled"]


@pytest.mark.parametrize(
    ("policy", "status", "tidied"),
    [
        ("terminate", "terminated", 0),
        ("request_cancel", "cancelled", 1),
        ("abandon", "running", 0),
    ],
)
@pytest.mark.parametrize("dies", [False, True])
def test_a_parents_end_does_to_the_child_what_its_policy_says(
    policy: str, status: str, tidied: int, *, dies: bool
) -> None:
    world = family_world()
    world.start("waiting", policy)
    world.settle()
    if dies:
        # The orchestrator dies in the moment after the commit that ends the parent.
        faulty = Faulty(world.store, "read_letters", 1, happens=False)
        world.nodes[0].close()
        world.advance(10_000)
        world.nodes = [Node(world, "two", faulty)]
        world.signal("end")
        world.nodes[0].try_turn()
        world.restart()
    else:
        world.signal("end")
    world.settle()
    assert world.status() == "completed"
    assert world.status("child") == status
    assert len(world.ran) == tidied
    if policy == "abandon":
        world.signal("go", id="child")
        world.settle()
        assert world.status("child") == "completed"


def test_a_stranger_with_the_childs_id_is_not_stopped_in_its_place() -> None:
    world = family_world()
    world.start("waiting")
    world.settle()
    world.post(Kind.TERMINATE, {"reason": "by hand", "request_id": "x"}, id="child")
    # Its end is on its way; before the parent ends, somebody else takes the id.
    world.settle()
    world.start("patient", id="child")
    world.settle()
    world.signal("end")
    world.settle()
    assert (world.status(), world.status("child")) == ("completed", "running")


def test_a_stop_that_comes_for_a_child_of_another_parent_is_not_taken() -> None:
    world = family_world()
    world.start("patient", id="child")
    world.settle()
    by: dict[str, Json] = {"workflow": "w", "run": 1, "child": 1}
    for kind in (Kind.CANCEL, Kind.TERMINATE):
        world.post(
            kind, {"reason": "not yours", "request_id": kind.value, "parent": by}, id="child"
        )
    world.settle()
    assert world.names("child") == ["RunStarted"]


def test_large_input_and_large_results_of_children_travel_whole() -> None:
    async def echo(text: str) -> str:
        return text

    async def caller() -> int:
        answer = await workflow.child("echo", "x" * 100_000)
        return len(answer)

    world = World(echo, caller)
    world.start("caller")
    world.settle()
    assert world.result() == 100_000
    completed = world.events()[2]
    assert isinstance(completed, e.ChildCompleted)
    assert "sha256" in str(completed.result)


def test_a_child_of_an_unknown_workflow_waits_for_its_code() -> None:
    world = World(parent)
    world.tasks["halve"] = lambda number: number // 2
    world.start("parent", 42)
    world.settle()
    assert (world.status(), world.status(CHILD)) == ("running", "blocked")
    world.deploy(half)
    world.restart()
    world.settle()
    assert world.result() == 21
