"""CU1, CU2, WS2 for runs that go on: an update is carried out once in a chain, whoever sends it."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.core.errors import RunClosed, WorkflowUpdateFailed, WorkflowUpdateRejected
from orchestrator.core.events import UpdateReceived
from orchestrator.store.ports import Kind, RunKey
from tests.engine.world import World


async def turning(turns: int = 0) -> int:
    """Go on as new at each update, and end at a signal."""
    is_turned = is_ended = False

    @workflow.on_update("turn", int)
    def turn(by: int) -> int:
        nonlocal is_turned
        is_turned = True
        return turns + by

    @turn.validator
    def check(by: int) -> None:
        if by < 0:
            raise ValueError("forwards only")

    @workflow.on_signal("end")
    def end(_: Any) -> None:
        nonlocal is_ended
        is_ended = True

    await workflow.wait_condition(lambda: is_turned or is_ended)
    if is_turned:
        workflow.continue_as_new(turns + 1)
    return turns


async def passing(part: int = 1) -> int:
    """Go on as new at a signal; the second run ends at once, the third takes an update."""
    if part == 2:
        return part
    heard: list[int] = []

    @workflow.on_update("add", int)
    def add(amount: int) -> int:
        heard.append(amount)
        return sum(heard)

    if part == 1:
        await workflow.signal("go")
        workflow.continue_as_new(2)
    await workflow.wait_condition(lambda: bool(heard))
    return sum(heard)


@pytest.fixture
def world() -> World:
    return World(turning, passing)


@pytest.fixture
def orc(world: World) -> Iterator[Orchestrator]:
    app = Celery("chains", broker="memory://", set_as_current=False)
    orc = Orchestrator(app, store=world.store)
    orc.workflow(turning)
    orc.workflow(passing)
    yield orc
    app.close()


def received(world: World) -> list[tuple[int, str]]:
    """Return in which runs which updates were carried out."""
    return [
        (run, event.update_id)
        for run in range(1, int(world.row()["run"]) + 1)
        for event in world.events(run=run)
        if isinstance(event, UpdateReceived)
    ]


def test_two_sendings_of_one_update_turn_a_chain_once(world: World, orc: Orchestrator) -> None:
    world.start("turning")
    world.settle()
    for _ in range(2):
        world.update("turn", 1, update_id="u")
    world.settle()
    assert received(world) == [(1, "u")]
    world.update("turn", 1, update_id="other")
    world.settle()
    assert received(world) == [(1, "u"), (2, "other")]
    # Two runs later, and after the chain's end, the id finds its outcome.
    assert orc.run("w").update("turn", 1, id="u", timeout=0) == 1
    world.signal("end")
    world.settle()
    assert received(world) == [(1, "u"), (2, "other")]
    assert orc.run("w").update("turn", 1, id="u", timeout=0) == 1
    assert orc.run("w").update("turn", 1, id="other", timeout=0) == 2
    with pytest.raises(RunClosed):
        orc.run("w").update("turn", 1, id="new", timeout=0)


def test_rejected_update_stays_rejected_along_the_chain(world: World, orc: Orchestrator) -> None:
    world.start("turning")
    world.settle()
    world.update("turn", -1, update_id="no")
    world.update("turn", 1, update_id="u")
    world.settle()
    assert world.row()["run"] == "2"
    with pytest.raises(WorkflowUpdateRejected, match="forwards only"):
        orc.run("w").update("turn", -1, id="no", timeout=0)


def test_update_and_signal_of_one_id_are_two(world: World) -> None:
    world.start("turning")
    world.settle()
    world.update("turn", 1, update_id="same")
    world.settle()
    world.signal("end", signal_id="same")
    world.settle()
    assert world.status() == "completed"


def test_outcome_whose_history_is_gone_is_not_waited_for(
    world: World, orc: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start("turning")
    world.settle()
    world.update("turn", 1, update_id="u")
    world.settle()
    world.store._of("w").logs.pop(RunKey(workflow_id="w", run=1))
    with pytest.raises(WorkflowUpdateFailed, match="its history is gone"):
        orc.run("w").update("turn", 1, id="u", timeout=0)


def test_owner_and_client_make_the_same_start_for_an_update_that_followed_a_chain(
    world: World, orc: Orchestrator
) -> None:
    world.start("passing")
    world.settle()
    world.signal("go")
    passing_workflow: Any = orc.get_workflow("passing")
    sent = passing_workflow.start_update_with_start("add", 5, id="w", args=[3], update_id="u")
    assert sent.run == 1
    world.settle()
    world.settle()
    assert world.row()["run"] == "3"
    assert sent.result(timeout=0) == 5
    world.settle()
    assert world.row()["run"] == "3"
    assert received(world) == [(3, "u")]


def test_client_makes_the_start_first_and_the_owner_repeats_it(
    world: World, orc: Orchestrator
) -> None:
    world.start("passing")
    world.settle()
    world.signal("go")
    passing_workflow: Any = orc.get_workflow("passing")
    sent = passing_workflow.start_update_with_start("add", 5, id="w", args=[3], update_id="u")
    # 1. Both runs end; 2. the owner dies before it settles what came too late; 3. the client sees
    # the end; 4. the next owner settles it.
    inbox = world.store._of("w").inbox
    (late,) = [entry for entry in inbox.values() if entry.kind is Kind.UPDATE]
    del inbox[late.id]
    world.settle()
    assert (world.row()["run"], world.status()) == ("2", "completed")
    with pytest.raises(TimeoutError):
        sent.result(timeout=0)
    inbox[late.id] = late
    world.restart()
    for _ in range(3):
        world.settle()
    assert received(world) == [(3, "u")]
    assert sent.result(timeout=0) == 5
