"""Promise: sleeps are whole, time-outs are kept, and retries wait, however wake-ups come.

Part of what test_where_others_fail.py has the table of.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.retry import Retry
from orchestrator.store.ports import Due, TimerKey
from tests.engine.world import Node, World

SECOND = 1_000
HOUR = 3_600 * SECOND


def timers(world: World, id: str = "w") -> list[tuple[int, int]]:
    """Return of each timer that fired how long it was to last and how long it did."""
    events = world.events(id)
    started = {each.timer: each for each in events if isinstance(each, e.TimerStarted)}
    fired = [each for each in events if isinstance(each, e.TimerFired)]
    assert len({each.timer for each in fired}) == len(fired), "a timer fired twice"
    return [
        (started[each.timer].duration_ms, each.at_ms - started[each.timer].at_ms) for each in fired
    ]


# --- sleeps ---------------------------------------------------------------------------------------


async def in_a_row(*lengths_s: float) -> int:
    for length_s in lengths_s:
        await workflow.sleep(length_s)
    return len(lengths_s)


@pytest.mark.parametrize("length_ms", [1, 999, 1_000, 1_001, 20_000, 31 * 24 * HOUR])
def test_no_sleep_ends_a_millisecond_early(length_ms: int) -> None:
    world = World(in_a_row)
    world.start("in_a_row", length_ms / 1000)
    world.settle()
    world.advance(length_ms - 1)
    world.settle()
    assert world.status() == "running"
    world.advance(1)
    world.settle()
    assert world.status() == "completed"
    assert timers(world) == [(length_ms, length_ms)]


@pytest.mark.parametrize("is_killed", [False, True], ids=["undisturbed", "killed"])
def test_sleeps_in_a_row_each_last_their_whole_time(*, is_killed: bool) -> None:
    world = World(in_a_row)
    world.start("in_a_row", 20, 30, 15)
    for number, length_ms in enumerate((20_000, 30_000, 15_000)):
        world.settle()
        if is_killed:
            world.restart()  # Takes ten seconds of the sleep.
        world.advance(length_ms - 1 - 10_000 * is_killed)
        world.settle()
        assert len(timers(world)) == number
        world.advance(1)
        world.settle()
        assert len(timers(world)) == number + 1
    assert world.status() == "completed"
    assert timers(world) == [(20_000, 20_000), (30_000, 30_000), (15_000, 15_000)]


def test_two_hundred_sleeps_with_nothing_between_them_all_end() -> None:
    world = World(in_a_row)
    world.start("in_a_row", *[0.01] * 200)
    for _ in range(200):
        world.settle()
        world.advance(10)
    world.settle()
    assert world.result() == 200
    assert timers(world) == [(10, 10)] * 200


async def side_by_side(*lengths_s: float) -> list[str]:
    ended: list[str] = []

    async def nap(length_s: float) -> None:
        await workflow.sleep(length_s)
        ended.append(f"{length_s:g}")

    await asyncio.gather(*map(nap, lengths_s))
    return ended


def test_sleeps_side_by_side_end_each_at_its_own_time() -> None:
    world = World(side_by_side)
    world.start("side_by_side", 30, 10, 20, 20)
    world.settle()
    for passed_s, ended in ((10, 1), (20, 3), (30, 4)):
        world.advance(10 * SECOND - 1)
        world.settle()
        assert len(timers(world)) < ended, f"one ended before {passed_s} s"
        world.advance(1)
        world.settle()
        assert len(timers(world)) == ended
    assert world.result() == ["10", "20", "20", "30"]
    assert all(wanted == lasted for wanted, lasted in timers(world))


async def beside_a_step() -> list[float]:
    began = workflow.time()
    ended: list[float] = []

    async def noted(work: Any) -> None:
        await work
        ended.append(workflow.time() - began)

    await asyncio.gather(noted(workflow.sleep(30)), noted(workflow.step("quick")))
    return ended


def test_a_sleep_beside_a_step_is_not_ended_by_it() -> None:
    world = World(beside_a_step)
    world.tasks["quick"] = lambda: None
    world.start("beside_a_step")
    world.advance(1)
    world.settle()
    assert world.names().count("StepCompleted") == 1
    world.advance(30 * SECOND - 1)
    world.settle()
    assert world.status() == "running"
    world.advance(1)
    world.settle()
    assert world.result() == [0.0, 30.0]


def tell_twice(world: World) -> None:
    """Have the store tell of every timer twice at a time, and once more whenever it is asked."""
    sweep = world.store.sweep
    told: dict[int, list[TimerKey]] = {}

    def swept(partitions: Sequence[int], *, count: int) -> tuple[int, dict[int, Due]]:
        now_ms, found = sweep(partitions, count=count)
        for partition, due in found.items():
            before = told.setdefault(partition, [])
            found[partition] = replace(due, timers=[*before, *due.timers, *due.timers])
            before.extend(due.timers)
        return now_ms, found

    world.store.sweep = swept  # type: ignore[method-assign]


def test_a_wake_up_that_comes_late_or_twice_ends_one_sleep() -> None:
    world = World(in_a_row)
    tell_twice(world)
    world.start("in_a_row", 20, 20)
    world.settle()
    # Nobody is there when the first one is due, nor for long after it.
    world.advance(50 * SECOND)
    world.restart()
    world.settle()
    assert timers(world) == [(20_000, 60_000)]
    world.advance(20 * SECOND - 1)
    world.settle()
    assert world.status() == "running", "the second sleep begins when the first one has ended"
    world.advance(1)
    world.settle()
    assert world.status() == "completed"
    assert timers(world) == [(20_000, 60_000), (20_000, 20_000)]


# --- time-outs and retries ------------------------------------------------------------------------


async def asking() -> str:
    try:
        return str(await workflow.signal("answer", timeout=timedelta(seconds=3)))
    except TimeoutError:
        return "nobody answered"


def test_no_signal_in_time_is_noticed_to_the_millisecond() -> None:
    world = World(asking)
    world.start("asking", id="late")
    world.start("asking", id="in_time")
    world.settle()
    world.advance(3 * SECOND - 1)
    world.settle()
    assert [world.status(id) for id in ("late", "in_time")] == ["running", "running"]
    world.signal("answer", "yes", id="in_time")
    world.settle()
    world.advance(1)
    world.settle()
    assert world.result("late") == "nobody answered"
    assert world.result("in_time") == "yes"


async def limited() -> str:
    try:
        async with asyncio.timeout(10):
            await workflow.step("hangs", start_to_close=timedelta(hours=1))
            await workflow.sleep(timedelta(days=1))
    except TimeoutError:
        return "out of time"
    return "done"


def test_a_time_out_around_everything_ends_a_run_in_time() -> None:
    world = World(limited)
    world.start("limited")
    world.turn()
    message = world.pop()
    assert message
    world.claim(message)
    world.advance(5 * SECOND)
    world.turn()
    assert world.status() == "running"
    world.advance(5 * SECOND)
    world.turn()
    assert world.status() == "completed"
    assert world.result() == "out of time"
    assert world.names().count("StepCancelRequested") == 1


async def retried() -> str:
    retry = Retry(attempts=6, initial=timedelta(seconds=8), factor=1.0)
    return str(await workflow.step("fails", retry=retry))


def test_no_retry_comes_before_the_instant_that_was_recorded() -> None:
    world = World(retried)

    @world.task
    def fails() -> str:
        if len(world.ran) < 6:
            raise OSError("not yet")
        return "at last"

    world.start("retried")
    world.settle()
    for attempt in range(1, 6):
        failed = [x for x in world.events() if isinstance(x, e.StepAttemptFailed)][-1]
        assert 0 <= failed.retry_at_ms - failed.at_ms <= 8 * SECOND
        left_ms = failed.retry_at_ms - world.clock.now_ms
        if attempt % 2 and left_ms > 1:
            world.node.close()
            world.node.leases.release_all()
            world.nodes[0] = Node(world, f"after-{attempt}")
        world.advance(max(0, left_ms - 1))
        world.settle()
        assert len(world.ran) == attempt, "a retry came early"
        world.advance(1)
        world.settle()
        assert len(world.ran) == attempt + 1
    assert world.result() == "at last"
    assert len({key for _, _, key in world.ran}) == 1
