"""RT2, RS2, RS4: a run goes on from the history of one that has ended, or of another id."""

from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.resetting import Origin
from orchestrator.core.values import Json
from orchestrator.store.ports import RunKey
from tests.engine.resetting import (
    begin_from,
    check,
    check_cut,
    number_of,
    paid_until_charged,
    world_of,
)
from tests.engine.world import World

# --- runs that have ended, and forks -------------------------------------------------------------


async def named(word: str) -> list[Json]:
    about = workflow.info()
    first = await workflow.step("price", f"{about.workflow_id} {about.run}")
    said = await workflow.signal("on")
    later = workflow.info()
    return [word, first, said, f"{later.workflow_id} {later.run}"]


def ended() -> World:
    world = world_of(named)
    world.start("named", "x")
    world.settle()
    world.signal("on", 1)
    world.settle()
    assert world.result() == ["x", "price w 1", 1, "w 1"]
    return world


def test_run_that_has_ended_is_followed_by_one_that_goes_on_from_an_event() -> None:
    world = ended()
    begin_from(world, number_of(world, e.SignalReceived))
    assert world.result() == ["x", "price w 1", 1, "w 2"]
    assert world.status() == "completed"
    check(world)


def test_fork_goes_on_under_another_id_and_leaves_the_first_alone() -> None:
    world = ended()
    before = world.events()
    begin_from(world, number_of(world, e.SignalReceived), id="other", signals=False)
    # What was kept was done as run 1 of "w"; what follows is the fork's own.
    assert world.result("other") == ["x", "price w 1", 1, "other 1"]
    assert world.events() == before
    world.restart()
    world.settle()
    check(world, "w", "other")


def test_fork_with_another_payload_and_with_another_input() -> None:
    world = ended()
    at = number_of(world, e.SignalReceived)
    begin_from(world, at, id="two", changed={"payload": 2})
    assert world.result("two") == ["x", "price w 1", 2, "two 1"]
    begin_from(world, at, id="three", changed={"args": ["y"], "payload": 3})
    assert world.result("three") == ["y", "price w 1", 3, "three 1"]
    begin_from(world, 1, id="four", changed={"args": ["z"]}, signals=True)
    assert world.result("four") == ["z", "price four 1", 1, "four 1"]
    check(world, "w", "two", "three", "four")


def test_fork_does_not_undo_what_the_other_run_would_undo() -> None:
    world = paid_until_charged()
    at = number_of(world, e.StepCompleted, 2)
    with pytest.raises(Exception, match="step 1 reserve, step 2 charge, which either run would"):
        check_cut(world, at, is_fork=True)
    check_cut(world, 1, is_fork=True)


def test_fork_of_a_child_does_not_answer_for_it() -> None:
    async def boss() -> Any:
        return await workflow.child.options(id="w")("named", "x")

    world = world_of(named, boss)
    world.start("boss", id="boss")
    world.settle()
    for at, id in ((1, "anew"), (3, "copied")):
        begin_from(world, at, id=id)
        world.signal("on", id, id=id)
        world.settle()
        assert world.status(id) == "completed"
    assert world.status("boss") == "running"
    world.signal("on", "itself")
    world.settle()
    assert world.result("boss") == ["x", "price w 1", "itself", "w 1"]


def test_origin_that_is_not_there_ends_the_run_with_that_reason() -> None:
    world = ended()
    stored = world.store.read_history(RunKey(workflow_id="w", run=1))
    for source, head in (("nobody", stored[2].head), ("w", "0" * 64)):
        origin = Origin(id=source, run=1, event=3, head=head, signals=True)
        id = world.start("named", "x", id=f"from-{source}", origin=origin.as_json()).workflow_id
        world.settle()
        assert world.status(id) == "terminated"
        last = world.events(id)[-1]
        assert isinstance(last, e.RunTerminated)
        assert f"it cannot go on from run 1 of {source}" in last.reason
