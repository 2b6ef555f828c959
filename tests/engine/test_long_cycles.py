"""Promise: however much is due or open, leases, claims and a stop do not wait for it (P5).

And what is in memory is bounded by the run cache, never by the number of open runs.
"""

import asyncio
import gc
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.limits import (
    CLAIM_TTL_MS,
    DUE_TAKE_MAX,
    ORCHESTRATOR_TTL_MS,
    RUNS_PER_COMMIT_MAX,
    WORK_PER_COMMIT_MS_MAX,
)
from orchestrator.engine import owner
from orchestrator.engine.run import LiveRun
from tests.engine.world import Node, World, definition

HOUR_MS = 3_600_000


async def sleeper() -> str:
    await asyncio.sleep(3600)
    return "awake"


async def listener() -> str:
    return str(await workflow.signal("go"))


async def locally() -> str:
    return str(await workflow.step("slow", local=True))


def sleepers(count: int, **options: Any) -> World:
    """A world in which so many runs sleep until the clock is moved by an hour."""
    world = World(sleeper, listener, locally, **options)
    for number in range(count):
        world.start("sleeper", id=f"s{number}")
    world.settle()
    return world


def awake(world: World, count: int) -> int:
    return sum(world.status(f"s{number}") == "completed" for number in range(count))


def slow_down(world: World, monkeypatch: pytest.MonkeyPatch, ms: int) -> None:
    """Let each look into the log take so long."""
    read_history = world.store.read_history

    def slow(key: Any, **kwargs: Any) -> Any:
        world.clock.advance(ms)
        return read_history(key, **kwargs)

    monkeypatch.setattr(world.store, "read_history", slow)


@pytest.mark.long
def test_runs_in_memory_stay_within_the_cache_while_thousands_are_open() -> None:
    world = World(sleeper, listener, run_cache_max=20)
    for number in range(3_000):
        world.start("listener" if number % 2 else "sleeper", id=f"s{number}")
    world.settle()
    assert len(world.node.owner.cache) == 20
    assert in_memory() == 20
    # The same for an orchestrator that takes them all over, and works on some.
    world.restart()
    world.settle()
    assert in_memory() == 0, "nothing that only waits is read"
    for number in range(1, 201, 2):
        world.signal("go", "now", id=f"s{number}")
    world.settle()
    assert sum(world.status(f"s{number}") == "completed" for number in range(1, 201, 2)) == 100
    assert in_memory() <= 20
    world.clock.advance(HOUR_MS)
    world.settle()
    assert all(world.status(f"s{number}") == "completed" for number in range(0, 3_000, 2))
    assert in_memory() <= 20


def in_memory() -> int:
    """Return how many runs hold an execution, whoever keeps them."""
    gc.collect()
    return sum(
        isinstance(each, LiveRun) and each._execution is not None for each in gc.get_objects()
    )


def test_timers_that_fall_due_at_once_are_worked_on_a_share_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share = 100
    monkeypatch.setattr(owner, "DUE_TAKE_MAX", share)
    count = 3 * share
    world = sleepers(count)
    world.clock.advance(HOUR_MS)
    done, cycles = 0, 0
    while done < count:
        world.node.turn()
        before, done = done, awake(world, count)
        assert 0 < done - before <= share
        cycles += 1
        # What arrives meanwhile does not wait for all of them.
        world.start("listener", id=f"late{cycles}")
    assert world.status("late1") == "running"


def test_due_timers_of_resting_runs_hide_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    count = DUE_TAKE_MAX
    world = sleepers(count)
    world.clock.advance(1)
    for number in range(count, count + 40):
        world.start("sleeper", id=f"s{number}")
    world.settle()
    world.restart()
    read_history = world.store.read_history

    def broken(key: Any, **kwargs: Any) -> Any:
        if int(key.workflow_id[1:]) < count:
            raise StoreUnavailable("blob", "missing")
        return read_history(key, **kwargs)

    monkeypatch.setattr(world.store, "read_history", broken)
    monkeypatch.setattr(owner, "DUE_TAKE_MAX", 80)
    world.clock.advance(HOUR_MS)
    for _ in range(10):
        world.node.turn()
    assert awake(world, count + 40) == 40
    monkeypatch.undo()
    world.clock.advance(10_000)
    world.settle()
    assert awake(world, count + 40) == count + 40


def test_a_local_step_keeps_its_claim_through_a_cycle_that_outlasts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = sleepers(300)
    world.clock.advance(HOUR_MS - 1_000)
    world.start("locally", id="local")
    world.turn()
    assert world.node.local.waiting
    world.node.owner.cache.drop_where(lambda run: True)
    world.clock.advance(1_000)
    slow_down(world, monkeypatch, 50)
    began_ms = world.clock.now_ms
    world.node.turn()
    assert world.clock.now_ms - began_ms > CLAIM_TTL_MS
    world.node.turn()
    monkeypatch.undo()
    assert "StepAttemptFailed" not in world.names("local")


def test_renewals_go_on_when_the_clock_of_the_store_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(locally)
    world.start("locally", id="local")
    world.turn()
    renewed: list[tuple[str, int]] = []

    def note(name: str) -> None:
        renew = getattr(world.store, name)

        def noting(things: Any, *, ttl_ms: int) -> Any:
            renewed.append((name, len(things)))
            return renew(things, ttl_ms=ttl_ms)

        monkeypatch.setattr(world.store, name, noting)

    note("renew")
    note("renew_leases")
    now_ms = world.clock.now_ms
    for instant_ms in (now_ms + HOUR_MS, now_ms, now_ms + 1):
        assert world.node.leases.renew_due(instant_ms) == set()
        world.node.local_steps.renew_due(instant_ms, ttl_ms=CLAIM_TTL_MS)
    assert renewed == [("renew_leases", 4), ("renew", 1)] * 2


def test_an_orchestrator_in_a_long_cycle_still_counts_for_the_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = sleepers(300)
    world.restart()
    world.node.turn()
    world.clock.advance(HOUR_MS)
    name = world.node.leases._owner_id
    read_history = world.store.read_history
    seen: list[list[str]] = []

    def looked_at(key: Any, **kwargs: Any) -> Any:
        world.clock.advance(50)
        seen.append(world.store.report_orchestrator("other", ttl_ms=1))
        return read_history(key, **kwargs)

    monkeypatch.setattr(world.store, "read_history", looked_at)
    world.node.turn()
    assert 50 * len(seen) > 2 * ORCHESTRATOR_TTL_MS
    assert all(name in live for live in seen)


def test_long_histories_hold_up_neither_leases_nor_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    world = sleepers(60)
    world.restart()
    world.node.turn()
    world.clock.advance(HOUR_MS)
    world.node.owner.balance(world.clock.now_ms)
    # As long as the longest histories take: a hundred of them outlast every lease.
    slow_down(world, monkeypatch, WORK_PER_COMMIT_MS_MAX // 2)
    looks = iter([False, True])
    assert world.node.owner.cycle(block_ms=0, is_stopping=lambda: next(looks)) == 2
    world.node.turn()
    assert awake(world, 60) == 60


def test_a_stop_is_heard_between_two_commits_and_the_rest_is_for_the_next_owner() -> None:
    count = 4 * RUNS_PER_COMMIT_MAX
    world = sleepers(count)
    world.clock.advance(HOUR_MS)
    for number in range(50):
        world.start("listener", id=f"new{number}")
    world.node.owner.balance(world.clock.now_ms)
    looks = iter([False, True])
    assert world.node.owner.cycle(block_ms=0, is_stopping=lambda: next(looks)) <= count / 4
    world.node.leases.release_all()
    world.node.close()
    assert awake(world, count) <= count / 4
    # Given back, not left to expire.
    world.nodes[0] = Node(world, "heir")
    world.settle()
    assert awake(world, count) == count
    assert {world.status(f"new{number}") for number in range(50)} == {"running"}


async def broken() -> str:
    await workflow.signal("go")
    raise RuntimeError("a bug")


def test_blocked_runs_are_tried_again_a_few_at_a_time() -> None:
    world = World(definition(broken, "deployed"), listener)
    count = 3 * RUNS_PER_COMMIT_MAX
    for number in range(count):
        world.start("deployed", id=f"s{number}")
        world.signal("go", "now", id=f"s{number}")
    world.settle()
    assert all(world.row(f"s{number}")["blocked"] for number in range(count))
    world.deploy(definition(listener, "deployed"))
    world.restart()
    world.start("listener", id="new")
    world.node.turn()
    assert world.status("new") == "running"
    assert 0 < awake(world, count) <= RUNS_PER_COMMIT_MAX
    world.settle()
    assert awake(world, count) == count
