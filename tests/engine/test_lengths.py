"""Promise: a history that grows too long is warned of, then parked; nothing is lost or ended."""

import asyncio
import logging
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.store.ports import Kind
from tests.engine.test_crashes import Faulty, Unsure
from tests.engine.world import Node, World, definition

MAX, RESERVED = 20, 10


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.engine.lengths.HISTORY_EVENTS_MAX", MAX)
    monkeypatch.setattr("orchestrator.engine.lengths.HISTORY_EVENTS_RESERVED", RESERVED)
    monkeypatch.setattr("orchestrator.engine.lengths.HISTORY_EVENTS_WARNED", 8)
    monkeypatch.setattr("orchestrator.engine.lengths.HISTORY_EVENTS_UNWINDING", 30)


async def endless(taken: list[int] | None = None) -> list[int]:
    """Take numbers until a negative one; each is two events: the signal, and a timer's start."""
    taken, timers = list(taken or []), []
    while True:
        number = await workflow.signal("number")
        if number < 0:
            return taken
        taken.append(number)
        timers.append(asyncio.ensure_future(workflow.sleep(10_000 + number)))


async def going_on(taken: list[int] | None = None) -> list[int]:
    """The same, mended: it goes on as new before its history is too long."""
    taken, timers = list(taken or []), []
    for left in range(9, -1, -1):
        number = await workflow.signal("number")
        if number < 0:
            return taken
        taken.append(number)
        if left:
            timers.append(asyncio.ensure_future(workflow.sleep(10_000 + number)))
    workflow.continue_as_new(taken)


def parked(signals: int) -> World:
    """Return a world whose run is parked after so many signals."""
    world = World(definition(endless, "flow"))
    world.start("flow")
    for number in range(signals):
        world.signal("number", number)
        world.settle()
    assert world.status() == "blocked", world.names()
    return world


def in_inbox(world: World) -> list[Any]:
    taken = world.store.take_inbox(dict.fromkeys(range(4), "0"), count=10_000, block_ms=0)
    return [entry for entries in taken.values() for entry in entries]


def blocks(world: World) -> list[e.RunBlocked]:
    return [event for event in world.events() if isinstance(event, e.RunBlocked)]


def test_run_at_the_bound_is_parked_with_a_sentence_and_records_what_arrives() -> None:
    world = parked(12)
    (blocked,) = blocks(world)
    assert blocked.kind == "limit"
    assert "continue_as_new" in world.row()["blocked"]
    assert "terminate" in world.row()["blocked"]
    received = [event for event in world.events() if isinstance(event, e.SignalReceived)]
    assert [event.payload for event in received] == list(range(12))
    assert in_inbox(world) == []
    world.check_chain()


def test_beyond_the_reserve_mail_stays_in_the_inbox_and_nothing_grows() -> None:
    world = parked(40)
    assert len(world.events()) == MAX + RESERVED
    kept = [entry.body["payload"] for entry in in_inbox(world)]
    received = [each.payload for each in world.events() if isinstance(each, e.SignalReceived)]
    assert received + kept == list(range(40))
    for _ in range(3):
        world.restart()
        world.settle()
    assert len(world.events()) == MAX + RESERVED, "a restart adds nothing"


def test_code_that_continues_as_new_takes_all_of_it_in_order() -> None:
    world = parked(40)
    world.deploy(definition(going_on, "flow"))
    world.restart()
    world.settle()
    world.signal("number", -1)
    world.settle()
    assert world.status() == "completed"
    assert world.result() == list(range(40))
    assert in_inbox(world) == []


def test_parked_run_can_be_terminated_and_its_kept_mail_is_turned_away() -> None:
    world = parked(40)
    count = len(in_inbox(world))
    assert count
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "t"})
    world.settle()
    assert world.status() == "terminated"
    assert in_inbox(world) == []
    rejected = world.store.rejected
    assert len(rejected) == count


@pytest.mark.parametrize(("kind", "ends"), [("TERMINATE", "terminated"), ("CANCEL", "cancelled")])
def test_parked_run_that_is_stopped_has_room_to_compensate(kind: str, ends: str) -> None:
    async def half_done() -> None:
        async with workflow.saga() as saga:
            await saga.step("reserve", undo="release")
            await endless()

    world = World(definition(half_done, "flow"))
    undone: list[str] = []
    world.tasks.update(reserve=lambda: "r", release=lambda *_, **__: undone.append("r"))
    world.start("flow")
    for number in range(12):
        world.signal("number", number)
        world.settle()
    assert world.status() == "blocked"
    world.post(Kind[kind], {"reason": "enough", "request_id": "t"})
    world.settle()
    assert world.status() == ends
    assert undone == ["r"]
    world.check_chain()


@pytest.mark.parametrize("is_told", [True, False], ids=["no answer", "unknown"])
def test_parked_run_that_is_stopped_ends_although_the_answer_was_lost(*, is_told: bool) -> None:
    world = parked(12)
    world.node.close()
    world.advance(10_000)
    kind = Faulty if is_told else Unsure
    world.nodes = [Node(world, "two", kind(world.store, "commit", 1, happens=True))]
    world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c"})
    world.settle()
    assert world.status() == "cancelled"


def test_run_warns_once_for_each_threshold(caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> int:
        return sum("continue_as_new before" in record.message for record in caplog.records)

    caplog.set_level(logging.WARNING, "orchestrator.engine")
    world = World(definition(endless, "flow"))
    world.start("flow")
    for number in range(8):
        world.signal("number", number)
        world.settle()
        expected = sum(len(world.events()) >= each for each in (8, MAX * 4 // 5))
        assert warnings() == expected
    assert warnings() == 2
    world.restart()
    world.signal("number", 8)
    world.settle()
    assert warnings() == 3, "who takes it over says so again, once"
