"""DL1, DL2: a run whose time is over ends failed, once, with what it had to undo undone."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ChildWorkflowError
from orchestrator.core.replay import replay
from orchestrator.core.values import loads
from orchestrator.store.ports import Kind
from tests.engine.world import World, definition

_HOUR_MS = 3_600_000


async def patient() -> str:
    return str(await workflow.signal("go"))


async def booking() -> str:
    async with workflow.saga() as saga:
        await saga.step("reserve", undo="release")
        await workflow.signal("go")
        await saga.step("charge", undo="refund")
    return "booked"


async def rounds(number: int = 1) -> None:
    await workflow.signal("go")
    workflow.continue_as_new(number + 1)


async def parent() -> Any:
    child = workflow.child.options(id="child", run_timeout=timedelta(seconds=5))
    try:
        return await child("patient")
    except ChildWorkflowError as error:
        return [error.status, error.failure.type]


def failure(world: World, id: str = "w") -> dict[str, Any]:
    found: dict[str, Any] = loads(world.row(id)["failure"])  # type: ignore[assignment]
    return found


def timers(world: World) -> list[Any]:
    _, found = world.store.sweep(range(4), count=100)
    return [timer for due in found.values() for timer in due.timers] + [
        due.next_due_ms for due in found.values() if due.next_due_ms is not None
    ]


def check(world: World, run: int = 1) -> None:
    world.check_chain("w", run)
    started = world.events("w", run)[0]
    assert isinstance(started, e.RunStarted)
    replayed = replay(world.registry[started.workflow], "w", run, world.events("w", run))
    assert replayed.pending == []
    replayed.execution.close()


@pytest.mark.parametrize("restart", [True, False])
def test_run_whose_time_is_over_fails_and_says_why(*, restart: bool) -> None:
    world = World(patient)
    world.start("patient", run_timeout_ms=60_000)
    world.settle()
    world.advance(20_000)
    if restart:
        world.restart()
    world.settle()
    assert world.status() == "running"
    world.advance(40_000)
    world.settle()
    assert world.status() == "failed"
    assert failure(world)["type"] == "WorkflowTimeout"
    assert "run_timeout was over at 20" in failure(world)["message"]
    assert world.names() == ["RunStarted", "RunTimedOut", "RunFailed"]
    check(world)


def test_run_that_ends_in_time_leaves_no_timer() -> None:
    world = World(patient)
    world.start("patient", run_timeout_ms=60_000, execution_timeout_ms=_HOUR_MS)
    world.settle()
    assert timers(world)
    world.signal("go", "x")
    world.settle()
    assert world.result() == "x"
    assert not timers(world)


@pytest.mark.parametrize("turns", range(8))
def test_what_was_done_is_undone_also_by_an_orchestrator_that_comes_later(turns: int) -> None:
    world = World(booking)
    done: list[str] = []
    for name in ("reserve", "release", "charge", "refund"):
        world.tasks[name] = lambda name=name: done.append(name)
    world.start("booking", run_timeout_ms=60_000)
    world.settle()
    world.advance(60_000)
    for _ in range(turns):
        world.node.try_turn()
    world.restart()
    world.settle()
    assert world.status() == "failed"
    assert failure(world)["type"] == "WorkflowTimeout"
    assert done == ["reserve", "release"]
    assert world.names().count("RunTimedOut") == 1
    check(world)


def test_time_that_is_over_while_a_run_compensates_does_not_end_it_earlier() -> None:
    world = World(booking)
    world.tasks["reserve"] = lambda: None
    world.start("booking", run_timeout_ms=60_000)
    world.settle()
    world.post(Kind.CANCEL, {"reason": "no", "request_id": "c"})
    world.turn()
    assert world.status() == "compensating"
    world.advance(60_000)
    world.turn()
    assert world.status() == "compensating"
    world.tasks["release"] = lambda: None
    world.settle()
    assert world.names()[-2:] == ["CompensationCompleted", "RunFailed"]
    check(world)


def test_each_run_of_a_chain_has_its_own_run_timeout() -> None:
    world = World(rounds)
    world.start("rounds", run_timeout_ms=60_000)
    for _ in range(3):
        world.settle()
        world.advance(50_000)
        world.signal("go")
    world.settle()
    assert (world.row()["run"], world.status()) == ("4", "running")
    world.advance(60_000)
    world.settle()
    assert world.status() == "failed"
    check(world, 4)


def test_execution_timeout_is_of_the_whole_chain() -> None:
    world = World(rounds)
    world.start("rounds", run_timeout_ms=60_000, execution_timeout_ms=120_000)
    for _ in range(2):
        world.settle()
        world.advance(50_000)
        world.signal("go")
    world.settle()
    assert (world.row()["run"], world.status()) == ("3", "running")
    world.advance(20_000)
    world.restart()
    world.settle()
    assert world.status() == "failed"
    assert failure(world)["message"].startswith("the run's execution_timeout was over at")
    deadlines = {
        event.execution_deadline_at_ms
        for run in (1, 2, 3)
        for event in world.events("w", run)
        if isinstance(event, e.RunStarted)
    }
    assert len(deadlines) == 1


def test_parent_is_told_of_a_child_whose_time_is_over() -> None:
    world = World(parent, patient)
    world.start("parent")
    world.settle()
    world.advance(5_000)
    world.settle()
    assert world.status("child") == "failed"
    assert world.result() == ["failed", "WorkflowTimeout"]
    check(world)


def _blocked(function: Callable[..., Any]) -> World:
    world = World(definition(function, "flow"))
    world.tasks.update(reserve=lambda: None, release=lambda: None)
    world.start("flow", run_timeout_ms=60_000)
    world.settle()
    world.deploy(definition(_other, "flow"))
    world.restart()
    world.signal("note")
    world.settle()
    assert world.status() == "blocked"
    world.advance(60_000)
    world.settle()
    return world


async def _other() -> None:
    await workflow.step("reserve")
    await workflow.step("something_else")


async def stepping() -> None:
    await workflow.step("release")
    await workflow.signal("go")


def test_blocked_run_ends_when_its_time_is_over() -> None:
    world = _blocked(stepping)
    assert world.status() == "failed"
    assert failure(world)["type"] == "WorkflowTimeout"


def test_blocked_run_with_something_to_undo_waits_for_code_that_can() -> None:
    world = _blocked(booking)
    assert world.status() == "blocked"
    assert "RunTimedOut" in world.names()
    world.deploy(definition(booking, "flow"))
    world.restart()
    world.signal("note")
    world.settle()
    assert world.status() == "failed"
    assert [task for task, _, _ in world.ran] == ["reserve", "release"]
    check(world)
