"""What every store keeps of the permits of a key: P1 to P5 of `permit_ports`."""

from collections.abc import Sequence

import pytest

from orchestrator.core.limits import RATE_REMEMBERED_MS
from orchestrator.store.permit_ports import Grant, Holder
from tests.store.conftest import client_of, keys_of
from tests.store.world import World

KEY = "account {42}"


def holder(name: str, permit: int = 1) -> Holder:
    return Holder(workflow_id=name, run=1, permit=permit)


def ask(world: World, name: str, *, limit: int = 1, permit: int = 1) -> list[Grant]:
    return world.store.request_permit(KEY, holder(name, permit), limit=limit)


def names(grants: Sequence[Grant]) -> list[str]:
    return [grant.holder.workflow_id for grant in grants]


def held(world: World) -> tuple[list[str], list[str]]:
    state = world.store.read_permits(KEY)
    return names(state.holders), [one.workflow_id for one in state.waiters]


def test_a_holder_reads_as_it_was_written() -> None:
    for one in (holder("a"), Holder(workflow_id="a.b c.1", run=12, permit=3)):
        assert Holder.parse(str(one)) == one


def test_who_asks_first_is_granted_first_and_never_more_than_the_limit(world: World) -> None:
    for name in ("c", "a", "b", "d"):
        ask(world, name, limit=2)
    assert held(world) == (["c", "a"], ["b", "d"])
    world.store.release_permit(KEY, holder("a"))
    assert held(world) == (["c", "b"], ["d"])
    world.store.release_permit(KEY, holder("d"))
    world.store.release_permit(KEY, holder("c"))
    assert held(world) == (["b"], [])


def test_fences_grow_also_when_nothing_is_left_of_the_key(world: World) -> None:
    fences = []
    for name in ("a", "b", "c"):
        (grant,) = ask(world, name)
        fences.append(grant.fence)
        world.store.release_permit(KEY, grant.holder)
        state = world.store.read_permits(KEY)
        assert (state.limit, list(state.holders), list(state.waiters)) == (0, [], [])
    assert fences == sorted(set(fences))
    assert fences[0] > 0


def test_a_repeated_request_takes_no_second_place(world: World) -> None:
    first = ask(world, "a")
    assert ask(world, "a") == first
    ask(world, "b")
    ask(world, "b")
    assert held(world) == (["a"], ["b"])
    ask(world, "a", permit=2)
    assert held(world) == (["a"], ["b", "a"])


def test_a_release_of_what_is_not_there_changes_nothing(world: World) -> None:
    assert world.store.release_permit(KEY, holder("nobody")) == []
    ask(world, "a")
    ask(world, "b")
    world.store.release_permit(KEY, holder("a", 2))
    assert held(world) == (["a"], ["b"])
    for _ in range(2):
        world.store.release_permit(KEY, holder("a"))
        assert held(world) == (["b"], [])


def test_a_grant_is_returned_until_its_holder_was_told(world: World) -> None:
    (first,) = ask(world, "a", limit=2)
    assert names(ask(world, "b", limit=2)) == ["a", "b"]
    world.store.note_told(KEY, first)
    assert names(ask(world, "c", limit=2)) == ["b"]
    assert names(world.store.release_permit(KEY, holder("a"))) == ["b", "c"]


def test_what_is_told_of_an_earlier_permit_says_nothing_of_a_later_one(world: World) -> None:
    (first,) = ask(world, "a")
    world.store.note_told(KEY, first)
    world.store.release_permit(KEY, holder("a"))
    world.store.note_told(KEY, first)
    assert held(world) == ([], [])
    (second,) = ask(world, "a")
    assert second.fence > first.fence
    world.store.note_told(KEY, first)
    assert ask(world, "a") == [second]


def test_the_limit_of_the_latest_request_counts(world: World) -> None:
    for name in ("a", "b", "c"):
        ask(world, name, limit=1)
    ask(world, "d", limit=3)
    assert held(world) == (["a", "b", "c"], ["d"])
    ask(world, "a", limit=9)  # A repeated request is none.
    assert held(world) == (["a", "b", "c"], ["d"])
    ask(world, "e", limit=1)
    for name in ("a", "b"):
        world.store.release_permit(KEY, holder(name))
        assert held(world)[1] == ["d", "e"]
    world.store.release_permit(KEY, holder("c"))
    assert held(world) == (["d"], ["e"])


def test_keys_know_nothing_of_each_other(world: World) -> None:
    ask(world, "a")
    (grant,) = world.store.request_permit("other", holder("b"), limit=1)
    assert grant.holder.workflow_id == "b"
    assert held(world) == (["a"], [])


def test_a_permit_says_since_when_it_is_held(world: World) -> None:
    before_ms = world.store.now_ms()
    ask(world, "a")
    (grant,) = world.store.read_permits(KEY).holders
    assert before_ms <= grant.since_ms <= world.store.now_ms()


def test_slots_come_in_order_and_no_more_than_the_limit_in_any_stretch(world: World) -> None:
    slots = [
        world.store.take_slot(KEY, holder(f"run-{n}"), limit=3, per_ms=60_000) for n in range(10)
    ]
    assert slots == sorted(slots)
    assert abs(slots[2] - world.store.now_ms()) < 30_000
    for at, later in zip(slots, slots[3:], strict=False):
        assert later - at >= 60_000
    assert slots[9] - slots[0] < 4 * 60_000
    kept = world.store.read_permits(KEY).slots
    assert [at_ms for at_ms, _ in kept] == slots


def test_a_request_for_a_slot_that_is_repeated_gets_the_same_one(world: World) -> None:
    slots = [
        world.store.take_slot(KEY, holder(name), limit=1, per_ms=1_000)
        for name in ("a", "b", "a", "b", "b")
    ]
    assert slots[2:] == [slots[0], slots[1], slots[1]]
    assert slots[1] == slots[0] + 1_000


def test_a_slot_that_is_past_costs_nothing_any_more(world: World) -> None:
    first = world.store.take_slot(KEY, holder("a"), limit=1, per_ms=20)
    world.pass_ms(25)
    before_ms = world.store.now_ms()
    second = world.store.take_slot(KEY, holder("b"), limit=1, per_ms=20)
    assert before_ms <= second <= world.store.now_ms()
    assert second - first >= 20


def test_slots_that_nobody_asks_about_go(server_world: World) -> None:
    world, client, keys = server_world, client_of(server_world), keys_of(server_world)
    world.store.take_slot(KEY, holder("a"), limit=1, per_ms=50)
    left_ms = client.pttl(keys.rate(KEY))
    assert 0 < left_ms <= RATE_REMEMBERED_MS + 100


def test_nothing_is_left_of_a_key_that_nobody_holds(server_world: World) -> None:
    world, client, keys = server_world, client_of(server_world), keys_of(server_world)
    for name in ("a", "b"):
        ask(world, name)
    for name in ("a", "b"):
        world.store.release_permit(KEY, holder(name))
    world.store.release_permit(KEY, holder("a"))
    assert client.exists(keys.permits(KEY), keys.waiting(KEY)) == 0
    assert keys.permits(KEY).startswith(f"orc:{{{keys.of_workflow(KEY)}}}:")


@pytest.mark.parametrize("limit", [1_000])
def test_as_many_as_may_be_are_granted(world: World, limit: int) -> None:
    for number in range(20):
        ask(world, "a", permit=number + 1, limit=1)
    assert len(ask(world, "b", limit=limit)) == 21
