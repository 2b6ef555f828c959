"""DY1 to DY5: a run that is put off begins once, in time, and takes what came for it in order."""

import random
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.replay import replay
from orchestrator.core.values import Json
from orchestrator.core.with_start import with_start
from orchestrator.engine.draft import Draft
from orchestrator.store.ports import Kind, RunKey, StartAnswer, TimerKey, TimerKind
from tests.engine.world import World

_DELAY_MS = 60_000


async def collect(count: int = 3) -> list[Any]:
    await workflow.step("begin")
    return [await workflow.signal("number") for _ in range(count)]


def put_off(count: int = 3, **said: Any) -> World:
    world = World(collect)
    world.tasks["begin"] = lambda: None
    world.start("collect", count, start_delay_ms=_DELAY_MS, **said)
    return world


def check(world: World) -> None:
    world.check_chain()
    replayed = replay(world.registry["collect"], "w", 1, world.events())
    assert replayed.pending == []
    replayed.execution.close()
    _, found = world.store.sweep(range(4), count=100)
    assert not any(due.timers or due.next_due_ms for due in found.values()), "no timer is left"
    row = world.row()
    assert not row.get("start")
    assert not row.get("begins_at_ms")


def inbox(world: World) -> list[Kind]:
    taken = world.store.take_inbox(dict.fromkeys(range(4), "0"), count=100, block_ms=0)
    return [entry.kind for entries in taken.values() for entry in entries]


def test_run_that_is_put_off_begins_when_its_delay_is_over() -> None:
    world = put_off(0, run_timeout_ms=_DELAY_MS)
    world.settle()
    assert (world.status(), world.names(), inbox(world)) == ("pending", [], [])
    begins_at_ms = int(world.row()["begins_at_ms"])
    assert begins_at_ms == int(world.row()["started_at_ms"]) + _DELAY_MS
    world.advance(_DELAY_MS - 1)
    world.settle()
    assert (world.status(), world.ran) == ("pending", [])
    world.advance(1)
    world.settle()
    assert world.status() == "completed"
    assert world.events()[0].at_ms == begins_at_ms
    check(world)


def test_signals_wait_and_are_taken_in_their_order() -> None:
    world = put_off()
    for number in range(2):
        world.signal("number", number)
        world.settle()
    assert (world.status(), inbox(world)) == ("pending", [Kind.SIGNAL] * 2)
    world.advance(_DELAY_MS)
    world.signal("number", 2)
    world.settle()
    assert world.result() == [0, 1, 2]
    check(world)


@pytest.mark.parametrize("seed", range(12))
def test_orchestrators_that_die_at_any_turn_lose_and_double_nothing(seed: int) -> None:
    """Goal: the run begins once and takes its mail in order, whoever owns it when.

    Method: signals, turns, deaths and time at random, until the delay is over and all is sent.
    """
    rng = random.Random(seed)
    world, sent = put_off(8), 0
    while sent < 8 or world.status() == "pending":
        match rng.choice(["signal", "turn", "restart", "time"]):
            case "signal" if sent < 8:
                world.signal("number", sent)
                sent += 1
            case "turn":
                world.node.try_turn()
            case "restart":
                world.restart()
            case _:
                world.advance(rng.choice([1, 500, 5_000]))
                world.work()
    world.settle()
    assert world.result() == list(range(8))
    assert world.names().count("RunStarted") == 1
    assert [task for task, _, _ in world.ran] == ["begin"]
    check(world)


def test_delay_counts_from_the_start_although_no_orchestrator_was_there() -> None:
    world = put_off(0)
    world.advance(_DELAY_MS)
    world.settle()
    assert world.status() == "completed"
    check(world)


@pytest.mark.parametrize("is_known", [True, False])
def test_message_with_a_start_begins_it_at_once_and_comes_after_what_came_before(
    *, is_known: bool
) -> None:
    world = put_off(2)
    if is_known:
        world.settle()
    world.signal("number", 1)
    if is_known:
        world.settle()
    start: dict[str, Json] = {"workflow": "collect", "args": [2], "kwargs": {}}
    message: dict[str, Json] = {"signal": "number", "signal_id": "with", "payload": 2}
    both = with_start("other", start, message)
    for _ in range(2):  # Its answer is lost, and it is sent again.
        found = world.store.start(
            "w", request_id="other", body=both.start, message=(Kind.SIGNAL, both.message)
        )
    assert (found.answer, found.run) == (StartAnswer.REPEATED, 1)
    world.settle()
    assert world.result() == [1, 2]
    check(world)


def test_start_that_is_put_off_and_has_a_message_begins_at_once() -> None:
    world = World(collect)
    world.tasks["begin"] = lambda: None
    start: dict[str, Json] = {
        "workflow": "collect", "args": [1], "kwargs": {}, "start_delay_ms": _DELAY_MS
    }  # fmt: skip
    both = with_start("r", start, {"signal": "number", "signal_id": "with", "payload": 7})
    world.store.start("w", request_id="r", body=both.start, message=(Kind.SIGNAL, both.message))
    world.settle()
    assert world.result() == [7]
    check(world)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize(
    ("kind", "status", "names"),
    [
        (Kind.CANCEL, "cancelled", ["RunStarted", "CancelRequested", "RunCancelled"]),
        (Kind.TERMINATE, "terminated", ["RunStarted", "TerminateRequested", "RunTerminated"]),
    ],
)
def test_run_that_is_stopped_before_it_began_runs_no_code(
    kind: Kind, status: str, names: list[str], *, is_known: bool
) -> None:
    world = put_off(run_timeout_ms=_DELAY_MS)
    if is_known:
        world.settle()
    world.signal("number", 1, signal_id="s")
    for _ in range(2):
        world.post(kind, {"reason": "no", "request_id": "c"})
    world.settle()
    assert (world.status(), world.names(), world.ran) == (status, names, [])
    assert inbox(world) == [], "the signal was rejected, not forgotten"
    assert [fields["signal_id"] for fields in world.store.rejected] == ["s"]
    world.restart()
    world.settle()
    check(world)


def test_what_a_parent_asks_of_its_child_does_not_stop_a_stranger_that_is_put_off() -> None:
    world = put_off(0)
    world.settle()
    parent: dict[str, Json] = {"workflow": "p", "run": 1, "child": 1}
    world.post(Kind.CANCEL, {"reason": "no", "request_id": "c", "parent": parent})
    world.settle()
    assert world.status() == "pending"
    world.advance(_DELAY_MS)
    world.settle()
    assert world.status() == "completed"


def test_query_is_told_that_the_run_has_not_begun() -> None:
    world = put_off()
    world.settle()
    answer = world.query("stack")
    assert isinstance(answer, dict)
    assert answer["error"] == "RunBlocked"
    assert "has not begun" in str(answer["message"])
    assert (world.status(), inbox(world)) == ("pending", [])


def test_runs_that_are_put_off_do_not_hold_up_others() -> None:
    world = put_off(1)
    world.signal("number", 1)
    world.settle()
    world.start("collect", 1, id="x")
    world.signal("number", 2, id="x")
    world.settle()
    assert world.result("x") == [2]
    assert world.status() == "pending"


def test_runs_that_are_put_off_take_no_place_in_memory() -> None:
    world = put_off()
    world.signal("number", 1)
    world.settle()
    assert world.node.owner.cache.take(RunKey(workflow_id="w", run=1)) is None


async def on_and_on(taken: int = 0) -> int:
    await workflow.signal("number")
    if taken == 2:
        return taken
    workflow.continue_as_new(taken + 1)


def rest_of(world: World) -> dict[TimerKey, int]:
    """Let the owners come to rest, and return the timers that are set then."""
    world.settle()
    return dict(world.store._of("w").timers)


def test_timer_of_a_start_goes_with_the_run_that_its_mail_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1 Run 1 goes on as run 2.  2 A signal for run 2 is read.  3 Its timer is not yet due."""
    world = World(on_and_on)
    now_ms = world.store.now_ms
    monkeypatch.setattr(world.node.owner, "_clock", lambda: now_ms() + 1)
    world.start("on_and_on")
    for number in range(3):
        world.signal("number", number)
        world.settle()
    world.advance(1)
    assert not rest_of(world)
    assert world.result() == 2


@pytest.mark.parametrize("is_kept", [True, False], ids=["history", "no history"])
def test_timer_that_a_run_before_this_one_has_left_behind_vanishes(*, is_kept: bool) -> None:
    world = World(on_and_on)
    world.start("on_and_on")
    for number in range(2):
        world.signal("number", number)
        world.settle()
    part = world.store._of("w")
    left = RunKey(workflow_id="w", run=2)
    part.timers[Draft.timer_of(left, TimerKind.START, 0)] = 0
    if not is_kept:
        del part.logs[left]
    world.node.owner.look_now()
    assert not rest_of(world)
    world.signal("number", 2)
    world.settle()
    assert world.result() == 2
