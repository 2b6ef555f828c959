"""A sweep finds what is due by the store's own clock, and changes nothing that we have written."""

from orchestrator.store.ports import Due, TimerKind
from tests.store.conftest import client_of, keys_of
from tests.store.world import LONG_MS, World, timer


def test_sweep_finds_due_timers_oldest_first_and_the_next_instant(world: World) -> None:
    key = world.open_run()
    now_ms = world.store.now_ms()
    kinds = list(TimerKind)
    due = {timer(key, kind, 1, 2): 100 - place for place, kind in enumerate(kinds)}
    later = {
        timer(key, TimerKind.SLEEP, 8): now_ms + LONG_MS,
        timer(key, TimerKind.SLEEP, 9): now_ms + 2 * LONG_MS,
    }
    world.commit(key, ["a"], timers_set=due | later)
    swept_ms, found = world.store.sweep([world.partition()], count=99)
    assert now_ms <= swept_ms <= world.store.now_ms()
    assert found == {
        world.partition(): Due(timers=list(reversed(due)), claims=[], next_due_ms=now_ms + LONG_MS)
    }
    assert world.store.sweep([world.partition()], count=99)[1] == found


def test_timer_is_due_at_its_instant(world: World) -> None:
    key = world.open_run()
    sleep = timer(key, TimerKind.SLEEP)
    world.commit(key, ["a"], timers_set={sleep: world.store.now_ms() + 20})
    world.pass_ms(20)
    _, found = world.store.sweep([world.partition()], count=9)
    assert found[world.partition()] == Due(timers=[sleep], claims=[], next_due_ms=None)


def test_sweep_is_bounded(world: World) -> None:
    key = world.open_run()
    world.commit(key, ["a"], timers_set={timer(key, TimerKind.SLEEP, n): n for n in range(1, 8)})
    for step in (1, 2, 3):
        world.store.claim(world.send(key, step), "one", ttl_ms=1)
        world.pass_ms(2)
    _, found = world.store.sweep([world.partition()], count=2)
    due = found[world.partition()]
    assert [found_timer.number for found_timer in due.timers] == [1, 2]
    assert [claim.step for claim in due.claims] == [1, 2]


def test_sweep_of_several_partitions_tells_them_apart(world: World) -> None:
    key = world.open_run()
    world.commit(key, ["a"], timers_set={timer(key, TimerKind.SLEEP): 5})
    empty = (world.partition() + 1) % 16
    _, found = world.store.sweep([empty, world.partition()], count=9)
    assert found[empty] == Due(timers=[], claims=[], next_due_ms=None)
    assert len(found[world.partition()].timers) == 1
    now_ms, nothing = world.store.sweep([], count=9)
    assert nothing == {}
    assert now_ms <= world.store.now_ms()


def test_members_that_name_nothing_go_to_the_rejected_list(server_world: World) -> None:
    world, client, keys = server_world, client_of(server_world), keys_of(server_world)
    key = world.open_run()
    sleep = timer(key, TimerKind.SLEEP)
    world.commit(key, ["a"], timers_set={sleep: 5})
    world.store.claim(world.send(key), "one", ttl_ms=1)
    world.pass_ms(2)
    timers, claims = keys.timers(world.partition()), keys.claims(world.partition())
    # The last ones are read, but nobody would find them again under what was read.
    for odd in ("garbage", "nonsense:order-42.1.1.0", b"\xff", "sleep:order-42.01.1.0"):
        client.zadd(timers, {odd: 1})
    for odd in ("garbage", "order-42.1.x.1", "order-42.1. 1.1"):
        client.zadd(claims, {odd: 1})
    for _ in range(2):
        _, found = world.store.sweep([world.partition()], count=99)
        due = found[world.partition()]
        assert due.timers == [sleep]
        assert [claim.step for claim in due.claims] == [1]
    lines = [fields for _, fields in client.xrange(keys.rejected)]
    assert [fields[b"member"] for fields in lines if fields[b"key"] == timers.encode()] == [
        b"garbage",
        b"nonsense:order-42.1.1.0",
        b"sleep:order-42.01.1.0",
        b"\xff",
    ]
    assert len(lines) == 7
