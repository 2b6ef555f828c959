"""Patched code over living runs: deployed while they wait, killed at every commit, and blocked."""

from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import StoreUnavailable
from tests.engine.test_crashes import Faulty
from tests.engine.world import Node, World, definition


async def old() -> list[Any]:
    done: list[Any] = []
    for _ in range(4):
        if await workflow.signal("say") == "work":
            done.append(await workflow.step("job"))
    return done


async def patched() -> list[Any]:
    done: list[Any] = []
    for _ in range(4):
        said = await workflow.signal("say")
        if workflow.patched("audit"):
            done.append(await workflow.step("audit"))
        if said == "work":
            done.append(await workflow.step("job"))
    return done


async def buggy() -> list[Any]:
    for _ in range(3):
        await workflow.signal("say")
    raise RuntimeError("a bug")


def world_of(function: Any) -> World:
    world = World(definition(function, "flow"))
    world.tasks.update(job=lambda: "job", audit=lambda: "audit")
    return world


def say(world: World, what: str, number: int) -> None:
    world.signal("say", what, signal_id=f"say-{number}")
    world.settle()


def markers(world: World) -> list[e.PatchMarked]:
    return [event for event in world.events() if isinstance(event, e.PatchMarked)]


def test_a_loop_that_was_open_at_the_deployment_takes_the_new_branch_from_its_next_turn() -> None:
    world = world_of(old)
    world.start("flow")
    say(world, "idle", 1)
    say(world, "work", 2)
    world.deploy(definition(patched, "flow"))
    world.restart()
    say(world, "idle", 3)
    world.restart()
    say(world, "work", 4)
    assert world.result() == ["job", "audit", "audit", "job"]
    assert len(markers(world)) == 1
    world.check_chain()


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
def test_an_owner_that_dies_at_a_commit_decides_no_patch_anew(at: int, *, happens: bool) -> None:
    world = world_of(old)
    world.start("flow")
    say(world, "idle", 1)
    say(world, "idle", 2)
    world.deploy(definition(patched, "flow"))
    world.restart()
    faulty = Faulty(world.store, "commit", at, happens=happens)
    world.nodes = [Node(world, "doomed", faulty)]
    world.clock.advance(10_000)
    for number in (3, 4):
        world.signal("say", "work", signal_id=f"say-{number}")
        for _ in range(30):
            try:
                world.nodes[0].turn()
            except StoreUnavailable:
                world.restart()
            world.work()
    world.settle()
    assert faulty.calls >= at, "the owner was never stopped"
    assert world.result() == ["audit", "job", "audit", "job"]
    assert [marker.activation for marker in markers(world)] == [4]
    assert [task for task, _, _ in world.ran] == ["audit", "job", "audit", "job"]
    world.check_chain()


def test_what_a_blocked_run_received_is_decided_by_the_patched_code_and_survives_a_kill() -> None:
    world = world_of(buggy)
    world.start("flow")
    for number in (1, 2, 3, 4):
        say(world, "work" if number > 2 else "idle", number)
    assert world.status() == "blocked"
    world.deploy(definition(patched, "flow"))
    world.restart()
    world.turn()
    assert [marker.activation for marker in markers(world)] == [4]
    world.restart()
    world.settle()
    assert world.result() == ["audit", "job", "audit", "job"]
    world.check_chain()
