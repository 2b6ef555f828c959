"""What clients read: rows, lists of runs, answers, and events they wait for."""

import threading
from collections.abc import Callable

import pytest

from orchestrator.core.limits import ANSWER_TTL_MS
from orchestrator.store.clocks import ManualClock
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Answer, RunKey
from tests.store.conftest import client_of
from tests.store.world import World


def test_unknown_id_has_no_row(world: World) -> None:
    assert world.store.find_row("nobody") is None


def test_answer_is_there_until_it_expires_and_the_first_one_stands(world: World) -> None:
    assert world.store.wait_for_answer("order-42", "reply-1", wait_ms=0) is None
    world.store.answer([Answer(reply_to="reply-1", body={"ok": {"n": []}})])
    world.store.answer([Answer(reply_to="reply-1", body={"error": "Late", "message": ""})])
    world.store.answer([])
    for wait_ms in (0, 50, 0):  # asked again after a lost answer, it is still there
        answer = world.store.wait_for_answer("order-42", "reply-1", wait_ms=wait_ms)
        assert answer == {"ok": {"n": []}}
    assert world.store.wait_for_answer("order-42", "reply-2", wait_ms=5) is None
    if world.client is not None:
        (name,) = world.client.keys("orc:*:answer:reply-1")
        assert world.client.llen(name) == 1


def test_answer_in_memory_expires() -> None:
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    store.answer([Answer(reply_to="reply-1", body={"ok": 1})])
    clock.advance(ANSWER_TTL_MS - 1)
    assert store.wait_for_answer("order-42", "reply-1", wait_ms=0) == {"ok": 1}
    clock.advance(1)
    assert store.wait_for_answer("order-42", "reply-1", wait_ms=0) is None


def waits_until(wait: Callable[[], object], act: Callable[[], object]) -> object:
    """Return what `wait` returns in a thread of its own, while `act` happens."""
    found: list[object] = []
    waiter = threading.Thread(target=lambda: found.append(wait()))
    waiter.start()
    act()
    waiter.join(10)
    assert not waiter.is_alive()
    return found[0]


def test_reader_is_woken_by_its_answer_which_then_still_expires(real_world: World) -> None:
    world = real_world
    client = client_of(world)

    def answer_once_somebody_waits() -> None:
        while client.info("clients")["blocked_clients"] == 0:
            pass
        world.store.answer([Answer(reply_to="reply-1", body={"ok": 1})])

    world.store.now_ms()
    found = waits_until(
        lambda: world.store.wait_for_answer("order-42", "reply-1", wait_ms=20_000),
        answer_once_somebody_waits,
    )
    assert found == {"ok": 1}
    (name,) = client.keys("orc:*:answer:reply-1")
    assert 0 < client.pttl(name) <= ANSWER_TTL_MS


def test_event_beyond_a_number_is_noticed(world: World) -> None:
    key = world.open_run()
    assert world.store.wait_for_event(key, after_seq=0, wait_ms=0)
    assert not world.store.wait_for_event(key, after_seq=1, wait_ms=0)
    assert not world.store.wait_for_event(key, after_seq=1, wait_ms=5)
    world.commit(key, ["a"])
    assert world.store.wait_for_event(key, after_seq=1, wait_ms=5)
    nobody = RunKey(workflow_id="nobody", run=1)
    assert not world.store.wait_for_event(nobody, after_seq=0, wait_ms=5)


def test_waiting_reader_is_woken_by_an_event(real_world: World) -> None:
    world = real_world
    key = world.open_run()

    def commit_once_somebody_waits() -> None:
        while client_of(world).info("clients")["blocked_clients"] == 0:
            pass
        world.commit(key, ["a"])

    assert waits_until(
        lambda: world.store.wait_for_event(key, after_seq=1, wait_ms=20_000),
        commit_once_somebody_waits,
    )


def test_server_id_stays_while_the_server_lives(real_world: World) -> None:
    assert real_world.store.server_id() == real_world.store.server_id() != ""


@pytest.mark.parametrize("wait_ms", [0, 60_000])
def test_manual_clock_never_waits(wait_ms: int) -> None:
    store = MemoryStore(clock=ManualClock())
    key = RunKey(workflow_id="nobody", run=1)
    assert not store.wait_for_event(key, after_seq=0, wait_ms=wait_ms)
    assert store.wait_for_answer("nobody", "r", wait_ms=wait_ms) is None
    assert store.take_inbox({1: "0"}, count=1, block_ms=wait_ms) == {}
