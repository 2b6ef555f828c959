"""V1 to V5 on the engine: versions of one workflow side by side, deployed over open runs."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core import guard
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ApplicationError
from orchestrator.core.retry import Retry
from tests.engine.world import World, definition


@pytest.fixture(autouse=True)
def _guarded() -> None:
    guard.install()


async def first() -> Any:
    await workflow.step("one")
    await workflow.signal("go")
    return await workflow.step("one")


async def second() -> Any:
    await workflow.step("two")
    await workflow.signal("go")
    return await workflow.step("two")


async def patched() -> Any:
    is_new = workflow.patched("two-in-place-of-one")
    await workflow.step("two" if is_new else "one")
    await workflow.signal("go")
    return await workflow.step("two" if workflow.patched("two-at-the-end") else "one")


async def parent() -> Any:
    return await workflow.child("order", id="c")


async def chained(turn: int = 1) -> Any:
    if turn < 2:
        await workflow.signal("go")
        workflow.continue_as_new(turn + 1)
    return workflow.info().version


def version(function: Any, name: str, **options: Any) -> WorkflowDefinition:
    return definition(function, "order", version=name, **options)


ONE, TWO = version(first, "1"), version(second, "2")
UPGRADING = version(patched, "2", versioning="auto_upgrade")


def beside(default: WorkflowDefinition, *others: WorkflowDefinition) -> WorkflowDefinition:
    return replace(default, others=others)


def world_of(*definitions: Any) -> World:
    world = World(*definitions)
    world.tasks.update(one=lambda: 1, two=lambda: 2)
    return world


def deploy(world: World, *definitions: WorkflowDefinition) -> None:
    world.deploy(*definitions)
    world.restart()


def begin(world: World, name: str = "order", id: str = "w") -> None:
    world.start(name, id=id)
    world.settle()


def go(world: World, id: str = "w") -> None:
    world.signal("go", id=id)
    world.settle()


def started(world: World, id: str = "w", run: int = 1) -> e.RunStarted:
    event = world.events(id, run)[0]
    assert isinstance(event, e.RunStarted)
    return event


def test_open_runs_stay_with_their_version_and_new_ones_get_the_default() -> None:
    world = world_of(ONE)
    begin(world)
    deploy(world, beside(TWO, ONE))
    begin(world, id="new")
    go(world)
    go(world, "new")
    assert (world.result(), world.result("new")) == (1, 2)
    assert (started(world).version, started(world, "new").version) == ("1", "2")
    assert (world.row()["version"], world.row("new")["version"]) == ("1", "2")


def test_a_run_whose_version_is_gone_is_blocked_and_moves_where_it_is_back() -> None:
    world = world_of(ONE)
    begin(world)
    deploy(world, TWO)
    go(world)
    assert world.status() == "blocked"
    (blocked,) = [event for event in world.events() if isinstance(event, e.RunBlocked)]
    assert blocked.kind == "unknown_workflow"
    assert "'order' has no version '1' here; known: '2'" in blocked.message
    deploy(world, beside(TWO, ONE))
    world.settle()
    assert world.result() == 1
    world.check_chain()


def test_a_default_that_upgrades_takes_open_runs_over_along_their_branches() -> None:
    world = world_of(ONE)
    begin(world)
    deploy(world, UPGRADING)
    go(world)
    assert world.result() == 2
    assert [event.patch for event in world.events() if isinstance(event, e.PatchMarked)] == [
        "two-at-the-end"
    ]
    assert "RunBlocked" not in world.names()


def test_a_start_that_names_a_version_keeps_it() -> None:
    world = world_of(beside(UPGRADING, ONE))
    world.store.start(
        "w",
        request_id="r1",
        body={"workflow": "order", "args": [], "kwargs": {}, "version": "1", "request_id": "r1"},
    )
    world.settle()
    world.restart()
    go(world)
    assert world.result() == 1
    assert started(world).is_pinned


def test_every_attempt_of_a_start_that_names_a_version_has_it() -> None:
    async def failing() -> Any:
        if workflow.info().attempt == 1:
            raise ApplicationError("not yet", "Busy")
        return workflow.info().version

    world = world_of(beside(version(failing, "2"), version(failing, "1")))
    retry = Retry(attempts=2, initial=timedelta(seconds=1), factor=1).as_json()
    for id, said in (("named", {"version": "1"}), ("default", {})):
        world.start("order", id=id, retry=retry, **said)
        world.settle()
        world.advance(2_000)
        world.settle()
    assert [world.result(id) for id in ("named", "default")] == ["1", "2"]
    assert started(world, "named", 2).is_pinned


def test_a_start_that_names_a_version_which_is_not_here_waits_for_it() -> None:
    world = world_of(TWO)
    world.store.start(
        "w",
        request_id="r1",
        body={"workflow": "order", "args": [], "kwargs": {}, "version": "1", "request_id": "r1"},
    )
    world.settle()
    assert world.status() == "blocked"
    deploy(world, beside(TWO, ONE))
    go(world)
    assert world.result() == 1


def test_a_child_begins_under_the_default_version() -> None:
    world = world_of(beside(TWO, ONE), definition(parent))
    begin(world, "parent")
    go(world, "c")
    assert world.result() == 2


def test_the_next_run_of_a_chain_begins_under_the_default_version() -> None:
    one, two = version(chained, "1"), version(chained, "2")
    world = world_of(one)
    begin(world)
    deploy(world, beside(two, one))
    go(world)
    assert world.result() == "2"
    assert started(world).version == "1"


def test_runs_and_code_without_versions_find_each_other() -> None:
    world = world_of(definition(first, "order"))
    begin(world)
    deploy(world, version(first, "2"))
    begin(world, id="new")
    deploy(world, definition(first, "order"))
    go(world)
    go(world, "new")
    assert (world.result(), world.result("new")) == (1, 1)
    assert "version" not in world.row() or world.row()["version"] == ""
