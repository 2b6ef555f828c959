"""asyncio works as a Python programmer expects, and the same when it is replayed.

Every run here is replayed by the `drive` fixture when its test ends: commands that differ are red.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core.errors import ActivationFailed, ForbiddenInWorkflow, StepError
from orchestrator.core.events import (
    RunCompleted,
    StepCancelRequested,
    StepScheduled,
    TimerStarted,
)
from orchestrator.core.loop import WorkflowLoop
from tests.core.driver import START_MS, Driver, kinds, tasks_of

Drive = Callable[..., Driver]


def result_of(commands: list[Any]) -> Any:
    assert isinstance(commands[-1], RunCompleted), commands
    return commands[-1].result


def timers(run: Driver) -> list[int]:
    return [event.duration_ms for event in run.history if isinstance(event, TimerStarted)]


@pytest.mark.parametrize(
    ("seconds", "duration_ms"),
    [
        (1, 1000),
        (0.07, 70),
        (0.9, 900),
        (0.0001, 1),
        (1.0005, 1001),
        (86400 * 365, 86400_000 * 365),
    ],
)
def test_sleep_is_a_durable_timer_in_whole_milliseconds(
    drive: Drive, seconds: float, duration_ms: int
) -> None:
    async def sleeping() -> None:
        await asyncio.sleep(seconds)

    async def until() -> None:
        async with asyncio.timeout(seconds):
            await workflow.step("a")

    run = drive(sleeping)
    assert timers(run) == [duration_ms]
    assert kinds(run.fire(1)) == ["RunCompleted"]
    assert timers(drive(until)) == [duration_ms], "an instant must round as a duration does"


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_sleep_of_nothing_lets_others_run_and_needs_no_timer(drive: Drive, seconds: int) -> None:
    async def sleeping() -> list[str]:
        seen: list[str] = []
        asyncio.get_running_loop().call_later(seconds, seen.append, "other")
        await workflow.sleep(seconds)
        await asyncio.sleep(0)
        return seen

    run = drive(sleeping)
    assert (kinds(run.started), result_of(run.started)) == (["RunCompleted"], ["other"])


def test_a_cancelled_timer_is_taken_back_and_its_end_passed_over(drive: Drive) -> None:
    async def cancelling() -> str:
        async def sleeper() -> None:
            await asyncio.sleep(10)

        task = asyncio.create_task(sleeper())
        await workflow.step("a")
        task.cancel()
        await workflow.step("b")
        return "done"

    run = drive(cancelling)
    assert kinds(run.complete(1)) == ["StepScheduled", "TimerCancelled"]
    assert run.fire(1) == []
    assert result_of(run.complete(2)) == "done"


def test_wait_for_gives_the_result_and_takes_its_timer_back(drive: Drive) -> None:
    async def waiting() -> Any:
        return await asyncio.wait_for(workflow.step("a"), 30)

    run = drive(waiting)
    assert kinds(run.started) == ["TimerStarted", "StepScheduled"]
    commands = run.complete(1, 5)
    assert (kinds(commands), result_of(commands)) == (["TimerCancelled", "RunCompleted"], 5)


def test_wait_for_that_times_out_asks_the_step_to_stop(drive: Drive) -> None:
    async def waiting() -> str:
        try:
            await asyncio.wait_for(workflow.step("a"), 30)
        except TimeoutError:
            return "late"
        return "in time"

    run = drive(waiting)
    commands = run.fire(1)
    assert (kinds(commands), result_of(commands)) == (
        ["StepCancelRequested", "RunCompleted"],
        "late",
    )


def test_wait_for_nothing_left_cancels_before_it_begins(drive: Drive) -> None:
    async def waiting() -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(workflow.step("never ordered"), 0)
        return "done"

    assert kinds(drive(waiting).started) == ["RunCompleted"]


def test_timeout_cancels_its_block_only(drive: Drive) -> None:
    async def blocks() -> str:
        try:
            async with asyncio.timeout(5):
                await workflow.step("slow")
        except TimeoutError:
            return str(await workflow.step("instead"))
        return "fast"

    run = drive(blocks)
    assert tasks_of(run.fire(1)) == ["instead"]
    assert result_of(run.complete(2, "ok")) == "ok"


def test_gather_raises_the_first_failure_and_leaves_the_others_running(drive: Drive) -> None:
    async def gathering() -> str:
        try:
            await asyncio.gather(workflow.step("a"), workflow.step("b"))
        except StepError as error:
            return error.name
        return "both"

    run = drive(gathering)
    commands = run.fail(2)
    assert (kinds(commands), result_of(commands)) == (["RunCompleted"], "b")


def test_task_group_cancels_its_tasks_in_the_order_of_their_creation(drive: Drive) -> None:
    async def grouping() -> str:
        try:
            async with asyncio.TaskGroup() as group:
                for n in range(20):
                    group.create_task(workflow.step(f"t{n}"))
        except* StepError:
            pass
        return "over"

    orders = set()
    for _ in range(5):
        gc.collect()
        padding = [object() for _ in range(1000)]  # other addresses for what follows
        run = drive(grouping)
        commands = run.fail(7)
        orders.add(tuple(c.step for c in commands if isinstance(c, StepCancelRequested)))
        assert len(commands) == 20
        assert padding
    assert len(orders) == 1
    assert set(orders.pop()) == set(range(1, 21)) - {7}


def test_shield_keeps_the_step_going(drive: Drive) -> None:
    async def shielded() -> Any:
        task = asyncio.create_task(workflow.step("precious"))
        try:
            async with asyncio.timeout(1):
                await asyncio.shield(task)
        except TimeoutError:
            pass
        return await task

    run = drive(shielded)
    assert run.fire(1) == []
    assert result_of(run.complete(1, "whole")) == "whole"


def test_queue_event_lock_semaphore_and_condition_work(drive: Drive) -> None:
    async def primitives() -> list[Any]:
        seen: list[Any] = []
        queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
        event, lock, room = asyncio.Event(), asyncio.Lock(), asyncio.Condition()
        semaphore = asyncio.Semaphore(2)

        async def producer() -> None:
            for n in range(3):
                await queue.put(await workflow.step("produce", n))
            event.set()

        async def worker(n: int) -> None:
            async with semaphore, lock:
                seen.append(("worker", n))
                await workflow.step("work", n)

        async def notified() -> None:
            async with room:
                await room.wait()
            seen.append("notified")

        async with asyncio.TaskGroup() as group:
            group.create_task(producer())
            group.create_task(notified())
            for n in range(3):
                group.create_task(worker(n))
            seen += [await queue.get() for _ in range(3)]
            await event.wait()
            async with room:
                room.notify_all()
        return seen

    run = drive(primitives)
    done: set[int] = set()
    while not run.execution.is_finished:
        waiting = [e.step for e in run.history if isinstance(e, StepScheduled)]
        step = next(n for n in waiting if n not in done)
        done.add(step)
        run.complete(step, f"r{step}")
    (ended,) = [e for e in run.history if isinstance(e, RunCompleted)]
    assert isinstance(ended.result, list)
    assert "notified" in ended.result
    assert [s for s in ended.result if isinstance(s, list)] == [["worker", n] for n in range(3)]


def test_an_abandoned_generator_is_finished_by_no_garbage_collector(drive: Drive) -> None:
    seen: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            seen.append("finally")

    async def abandoning() -> None:
        async for _ in numbers():
            break
        gc.collect()
        seen.append("collected")
        await workflow.step("a")

    run = drive(abandoning)
    run.complete(1)
    assert seen == ["collected", "finally"], "its end is the run's end"


def test_tasks_and_futures_hash_by_the_order_of_their_creation(drive: Drive) -> None:
    async def hashing() -> None:
        loop = asyncio.get_running_loop()
        hashes = [hash(loop.create_future()) for _ in range(4)]
        assert [one - hashes[0] for one in hashes] == [0, 1, 2, 3]
        task = asyncio.create_task(asyncio.sleep(0))
        assert hash(task) - hashes[-1] == 1
        assert task.get_name() == f"task-{hash(task) & 0xFFFFFFFF}"
        await task

    drive(hashing)


def test_a_failed_background_task_is_complained_about_and_ends_nothing(drive: Drive) -> None:
    async def careless() -> None:
        async def doomed() -> None:
            raise KeyError("secret value")

        asyncio.create_task(doomed())  # noqa: RUF006 - that is the case under test
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await workflow.step("a")

    run = drive(careless)
    gc.collect()
    (complaint,) = run.execution.take_complaints()
    assert "KeyError" in complaint
    assert "test_asyncio.py:" in complaint
    assert "secret value" not in complaint
    assert run.execution.take_complaints() == []


@pytest.mark.parametrize(
    ("reach", "says"),
    [
        (lambda: asyncio.to_thread(print), "local=True"),
        (lambda: asyncio.open_connection("127.0.0.1", 1), "workflow.step"),
        (lambda: asyncio.create_subprocess_exec("true"), "workflow.step"),
        (lambda: asyncio.get_running_loop().add_signal_handler(2, print), "on_signal"),
        (lambda: asyncio.get_running_loop().add_reader(0, print), "workflow.step"),
        (lambda: asyncio.get_running_loop().run_until_complete(None), "await instead"),  # type: ignore[arg-type]
    ],
)
def test_what_reaches_outside_is_refused_and_names_the_right_way(reach: Any, says: str) -> None:
    async def reaching() -> str:
        try:
            await reach()
        except Exception:
            return "swallowed"
        return "got through"

    with pytest.raises(ActivationFailed, match=says) as caught:
        Driver(reaching)
    assert caught.value.kind == "forbidden"
    assert "test_asyncio.py:" in caught.value.where


def test_the_loop_refuses_everything_it_does_not_implement() -> None:
    theirs = {name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("__")}
    inherited = {
        name
        for name in theirs
        if getattr(WorkflowLoop, name) is getattr(asyncio.AbstractEventLoop, name)
    }
    assert inherited == set()


def test_a_call_from_another_thread_is_refused_and_blames_no_activation(drive: Drive) -> None:
    async def waiting() -> None:
        await workflow.step("a")

    run = drive(waiting)
    with pytest.raises(ForbiddenInWorkflow, match="signal"):
        run.execution.loop.call_soon_threadsafe(print)
    assert kinds(run.complete(1)) == ["RunCompleted"]


def test_the_thread_has_its_own_loop_back_after_an_activation(drive: Drive) -> None:
    async def waiting() -> None:
        await workflow.step("a")

    async def outer() -> bool:
        mine = asyncio.get_running_loop()
        Driver(waiting).close()
        return asyncio.get_running_loop() is mine

    drive(waiting)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert asyncio.run(outer())


def test_callbacks_run_at_the_inputs_time(drive: Drive) -> None:
    async def timing() -> list[float]:
        loop = asyncio.get_running_loop()
        seen: list[float] = []
        loop.call_at(START_MS / 1000 + 2, lambda: seen.append(loop.time() - START_MS / 1000))
        await asyncio.sleep(3)
        return seen

    run = drive(timing)
    run.fire(1)
    assert result_of(run.fire(2)) == [2.0]
