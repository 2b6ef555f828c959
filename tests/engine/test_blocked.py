"""P3: code that does not fit a history stops the run with both sides shown, and loses nothing."""

import time
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core import flags, guard
from orchestrator.core.errors import ApplicationError
from orchestrator.engine import mail
from orchestrator.store.ports import Kind
from tests.engine.test_crashes import Faulty, Unsure
from tests.engine.world import Node, World, definition


@pytest.fixture(autouse=True)
def _guarded() -> None:
    guard.install()


async def flow() -> Any:
    value = await workflow.step("first")
    await workflow.signal("go")
    return [value, await workflow.step("second")]


async def renamed() -> Any:
    value = await workflow.step("other")
    await workflow.signal("go")
    return [value, await workflow.step("second")]


def world_of(function: Any) -> World:
    world = World(definition(function, "flow"))
    world.tasks.update(first=lambda: 1, second=lambda: 2, other=lambda: 3)
    return world


def blocked_events(world: World) -> list[e.RunBlocked]:
    return [event for event in world.events() if isinstance(event, e.RunBlocked)]


def test_changed_code_blocks_the_run_with_both_sides_and_fitting_code_moves_it_again() -> None:
    world = world_of(flow)
    world.start("flow")
    world.settle()
    world.deploy(definition(renamed, "flow"))
    world.restart()
    world.signal("go")
    world.settle()
    assert world.status() == "blocked"
    (blocked,) = blocked_events(world)
    assert blocked.kind == "nondeterminism"
    assert "first" in blocked.recorded
    assert "other" in blocked.issued
    assert "test_blocked.py" in blocked.where
    assert "first" in world.row()["blocked"]
    world.deploy(definition(flow, "flow"))
    world.restart()
    world.settle()
    assert world.status() == "completed"
    assert world.result() == [1, 2]
    assert world.row()["blocked"] == ""
    assert [task for task, _, _ in world.ran] == ["first", "second"]
    world.check_chain()


def test_a_blocked_run_that_is_loaded_again_does_not_repeat_itself_in_its_history() -> None:
    world = world_of(flow)
    world.start("flow")
    world.settle()
    world.deploy(definition(renamed, "flow"))
    for _ in range(3):
        world.restart()
        world.settle()
    # Nothing made the run move, so that nothing had to be replayed at all.
    world.signal("go")
    for _ in range(3):
        world.restart()
        world.settle()
    assert len(blocked_events(world)) == 1


def test_outcomes_and_signals_of_a_blocked_run_are_kept() -> None:
    world = world_of(flow)
    world.start("flow")
    world.turn()
    message = world.pop()
    assert message
    world.deploy(definition(renamed, "flow"))
    world.restart()
    world.claim(message)
    world.signal("go")
    world.turn()
    assert world.status() == "blocked"
    world.finish(message, {"kind": "completed", "result": "kept"})
    world.turn()
    assert world.status() == "blocked"
    world.deploy(definition(flow, "flow"))
    world.restart()
    world.settle()
    assert world.status() == "completed"
    assert world.result() == ["kept", 2]


def test_a_bug_parks_the_run_with_its_traceback_and_a_mended_deploy_continues_it() -> None:
    async def buggy() -> Any:
        value = await workflow.step("first")
        return value.nonsense

    async def mended() -> Any:
        value = await workflow.step("first")
        return value + 1

    world = world_of(buggy)
    world.start("flow")
    world.settle()
    assert world.status() == "blocked"
    (blocked,) = blocked_events(world)
    assert blocked.kind == "bug"
    assert "AttributeError" in blocked.message
    assert "nonsense" in blocked.traceback or "buggy" in blocked.traceback
    world.deploy(definition(mended, "flow"))
    world.restart()
    world.settle()
    assert world.result() == 2
    assert len(world.ran) == 1


def test_a_bug_inside_a_saga_undoes_nothing() -> None:
    async def buggy() -> None:
        async with workflow.saga() as saga:
            await saga.step("first", undo="other")
            raise RuntimeError("bug")

    world = world_of(buggy)
    world.start("flow")
    world.settle()
    assert world.status() == "blocked"
    assert [task for task, _, _ in world.ran] == ["first"]


def test_a_setting_makes_bugs_fail_the_run() -> None:
    async def buggy() -> None:
        raise RuntimeError("bug")

    world = World(definition(buggy, "flow", bugs_fail=True))
    world.start("flow")
    world.settle()
    assert world.status() == "failed"


def test_a_workflow_that_tells_the_time_is_blocked_with_the_right_way_named() -> None:
    async def impure() -> float:
        return time.time()  # noqa: TID251

    world = world_of(impure)
    world.start("flow")
    world.settle()
    assert world.status() == "blocked"
    (blocked,) = blocked_events(world)
    assert blocked.kind == "forbidden"
    assert "time.time" in blocked.message
    assert "workflow." in blocked.message
    world.deploy(definition(flow, "flow"))
    world.restart()
    world.settle()
    assert world.status() == "running"


def test_a_workflow_cannot_swallow_the_refusal() -> None:
    async def impure() -> str:
        try:
            time.time()  # noqa: TID251
        except Exception:
            return "swallowed"
        return "never refused"

    world = world_of(impure)
    world.start("flow")
    world.settle()
    assert world.status() == "blocked"


def test_a_workflow_nobody_knows_waits_for_its_deploy() -> None:
    world = World()
    world.tasks.update(first=lambda: 1, second=lambda: 2)
    world.start("flow")
    world.settle()
    assert world.status() == "blocked"
    assert blocked_events(world)[0].kind == "unknown_workflow"
    world.deploy(definition(flow, "flow"))
    world.restart()
    world.signal("go")
    world.settle()
    assert world.status() == "completed"


def test_a_run_that_a_newer_engine_began_waits_for_one_that_knows_its_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(definition(flow, "flow"))
    world.tasks.update(first=lambda: 1, second=lambda: 2)
    with monkeypatch.context() as newer:
        newer.setattr(flags, "FLAGS", (*flags.FLAGS, 99))
        newer.setattr(mail, "FLAGS", (*flags.FLAGS, 99))
        world.start("flow")
        world.settle()
        assert world.status() == "running"
        world.restart()
    world.signal("go")
    world.settle()
    assert world.status() == "blocked"
    (why,) = blocked_events(world)
    assert (why.kind, "flags 99" in why.message) == ("newer_engine", True)
    monkeypatch.setattr(flags, "FLAGS", (*flags.FLAGS, 99))
    world.restart()
    world.settle()
    assert world.status() == "completed"


def test_a_blocked_run_without_obligations_can_be_terminated() -> None:
    world = World()
    world.start("flow")
    world.settle()
    world.post(Kind.TERMINATE, {"reason": "mistake", "request_id": "t"})
    world.settle()
    assert world.status() == "terminated"


def test_a_blocked_run_with_something_to_undo_is_terminated_once_its_code_fits() -> None:
    async def committed() -> None:
        async with workflow.saga() as saga:
            await saga.step("first", undo="other")
            await workflow.sleep(timedelta(days=1))

    async def changed() -> None:
        async with workflow.saga() as saga:
            await saga.step("second", undo="other")

    world = world_of(committed)
    world.start("flow")
    world.settle()
    world.deploy(definition(changed, "flow"))
    world.restart()
    world.post(Kind.TERMINATE, {"reason": "mistake", "request_id": "t"})
    world.settle()
    assert world.status() == "blocked"
    world.deploy(definition(committed, "flow"))
    world.restart()
    world.settle()
    assert world.status() == "terminated"
    assert [task for task, _, _ in world.ran] == ["first", "other"]


def test_published_state_beyond_its_bound_blocks_the_run() -> None:
    async def verbose() -> None:
        workflow.publish({"text": "x" * 300_000})
        await workflow.signal("go")

    world = world_of(verbose)
    world.start("flow")
    world.settle()
    assert world.status() == "blocked"
    assert blocked_events(world)[0].kind == "limit"


def test_an_oversized_detail_of_a_failure_is_left_out_and_said_so() -> None:
    async def detailed() -> None:
        raise ApplicationError("no", details="x" * 600_000)

    world = world_of(detailed)
    world.start("flow")
    world.settle()
    assert world.status() == "failed"
    assert "left out" in world.row()["failure"]


def taken_over(kind: type[Faulty], call: str, at: int, *, happens: bool) -> World:
    """Block a run; let an orchestrator with fitting code take it over, whose store falters once."""
    world = world_of(flow)
    world.start("flow")
    world.settle()
    world.deploy(definition(renamed, "flow"))
    world.restart()
    world.signal("go")
    world.settle()
    assert world.status() == "blocked"
    world.deploy(definition(flow, "flow"))
    world.node.close()
    world.advance(10_000)
    world.nodes = [Node(world, "two", kind(world.store, call, at, happens=happens))]
    return world


CALLS = ["read_history", "commit", "list_blocked", "take_inbox", "sweep"]


@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize(
    ("kind", "call"), [*((Faulty, call) for call in CALLS), (Unsure, "commit")]
)
def test_a_run_whose_code_fits_again_moves_although_its_owner_got_no_answer(
    kind: type[Faulty], call: str, at: int, *, happens: bool
) -> None:
    world = taken_over(kind, call, at, happens=happens)
    world.settle()
    world.advance(2_000)
    world.settle()
    assert world.status() == "completed"
    world.check_chain()


def test_a_run_moves_that_rested_when_it_was_to_try_again() -> None:
    """1 The log does not answer: it rests.  2 A doubt has it listed again.  3 It rests still."""
    world = taken_over(Faulty, "read_history", 1, happens=False)
    world.turn()
    world.node.owner.doubt()
    world.turn()
    world.advance(2_000)
    world.settle()
    assert world.status() == "completed"
