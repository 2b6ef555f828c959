"""RR1 to RR3: a run that fails is attempted again as its policy says, once per attempt."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ApplicationError, ChildWorkflowError
from orchestrator.core.replay import replay
from orchestrator.core.retry import Retry
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind
from tests.engine.world import World

_POLICY: dict[str, Json] = Retry(
    attempts=3, initial=timedelta(seconds=60), factor=1, non_retryable=("Refused",)
).as_json()
_LONG_MS = 60_000


async def flaky(until: int, kind: str = "Busy") -> list[Any]:
    attempt = workflow.info().attempt
    number = await workflow.signal("number") if attempt == 1 else 0
    if attempt < until:
        raise ApplicationError(f"attempt {attempt}", kind)
    return [attempt, number, await workflow.signal("number")]


async def booking() -> str:
    async with workflow.saga() as saga:
        await saga.step("reserve", undo="release")
        if workflow.info().attempt == 1:
            raise ApplicationError("no", "Busy")
    return "booked"


async def failing() -> None:
    raise ApplicationError(f"attempt {workflow.info().attempt}", "Busy")


async def parent() -> Any:
    try:
        return await workflow.child.options(id="child", retry=Retry.from_json(_POLICY))("failing")
    except ChildWorkflowError as error:
        return str(error.failure.message)


def runs(world: World, id: str = "w") -> Iterator[list[e.Event]]:
    for run in range(1, int(world.row(id)["run"]) + 1):
        yield world.events(id, run)


def check(world: World) -> None:
    for run, history in enumerate(runs(world), 1):
        world.check_chain("w", run)
        started = history[0]
        assert isinstance(started, e.RunStarted)
        replayed = replay(world.registry[started.workflow], "w", run, history)
        assert replayed.pending == []
        replayed.execution.close()


def last(world: World, run: int) -> e.RunFailed:
    ending = world.events("w", run)[-1]
    assert isinstance(ending, e.RunFailed)
    return ending


def test_run_that_failed_is_attempted_again_and_untaken_signals_go_over() -> None:
    world = World(flaky)
    world.start("flaky", 2, retry=_POLICY)
    for number in range(2):
        world.signal("number", number)
    world.settle()
    assert (world.row()["run"], world.status()) == ("2", "pending"), "it waits for its instant"
    retry_at_ms = last(world, 1).retry_at_ms
    assert world.clock.now_ms < retry_at_ms <= world.clock.now_ms + 60_000
    world.restart()
    world.settle()
    world.advance(_LONG_MS)
    world.settle()
    assert world.status() == "completed"
    assert world.result() == [2, 0, 1]
    assert world.events("w", 2)[0].at_ms >= retry_at_ms
    check(world)


def test_attempts_end_and_the_last_failure_is_the_runs() -> None:
    world = World(failing)
    world.start("failing", retry=_POLICY)
    for _ in range(5):
        world.settle()
        world.advance(_LONG_MS)
    assert (world.row()["run"], world.status()) == ("3", "failed")
    assert [last(world, run).retry_at_ms > 0 for run in (1, 2, 3)] == [True, True, False]
    assert last(world, 3).failure.message == "attempt 3"
    check(world)


def test_final_failure_is_not_attempted_again() -> None:
    world = World(flaky)
    world.start("flaky", 2, "Refused", retry=_POLICY)
    world.signal("number")
    world.settle()
    assert (world.row()["run"], world.status()) == ("1", "failed")


@pytest.mark.parametrize("turns", range(8))
def test_saga_is_undone_before_the_next_attempt_whoever_dies_meanwhile(turns: int) -> None:
    world, done = World(booking), list[str]()
    for name in ("reserve", "release"):
        world.tasks[name] = lambda name=name: done.append(name)
    world.start("booking", retry=_POLICY)
    for _ in range(turns):
        world.node.try_turn()
        world.work()
    world.restart()
    world.settle()
    world.advance(_LONG_MS)
    world.settle()
    assert world.result() == "booked"
    assert done == ["reserve", "release", "reserve"]
    assert world.row()["run"] == "2"
    check(world)


@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.TERMINATE])
def test_run_that_is_asked_to_stop_while_it_undoes_is_not_attempted_again(kind: Kind) -> None:
    async def left_open() -> None:
        async def aside() -> None:
            async with workflow.saga() as saga:
                await saga.step("reserve", undo="release")
                await workflow.signal("never")

        task = asyncio.create_task(aside())
        await workflow.signal("go")
        raise ApplicationError(f"no, {task.done()}", "Busy")

    world = World(left_open)
    world.tasks.update(reserve=lambda: 1, release=lambda: 2)
    world.start("left_open", retry=_POLICY)
    world.settle()
    world.signal("go")
    world.node.try_turn()
    while "CompensationStarted" not in world.names():
        world.work()
        world.node.try_turn()
    world.post(kind, {"reason": "enough", "request_id": "c"})
    world.settle()
    world.advance(_LONG_MS)
    world.settle()
    assert (world.row()["run"], world.status()) == ("1", "failed")
    check(world)


@pytest.mark.parametrize(
    ("kind", "status"), [(Kind.CANCEL, "cancelled"), (Kind.TERMINATE, "terminated")]
)
def test_chain_is_stopped_between_two_attempts(kind: Kind, status: str) -> None:
    world = World(failing)
    world.start("failing", retry=_POLICY)
    world.settle()
    world.post(kind, {"reason": "enough", "request_id": "c"})
    world.settle()
    assert (world.row()["run"], world.status()) == ("2", status)
    world.advance(_LONG_MS)
    world.settle()
    assert world.row()["run"] == "2"
    check(world)


async def stubborn() -> None:
    try:
        await workflow.signal("never")
    finally:
        raise ApplicationError("not clean", "Busy")


def test_run_that_was_asked_to_stop_is_not_attempted_again_if_it_fails_instead() -> None:
    world = World(stubborn)
    world.start("stubborn", retry=_POLICY)
    world.settle()
    world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c"})
    world.settle()
    assert (world.row()["run"], world.status()) == ("1", "failed")
    check(world)


def test_no_attempt_is_made_that_would_begin_after_the_chains_deadline() -> None:
    slow = {**_POLICY, "initial_ms": 10**12, "interval_max_ms": 10**12}
    world = World(failing)
    world.start("failing", retry=slow, execution_timeout_ms=5_000)
    world.settle()
    assert (world.row()["run"], world.status()) == ("1", "failed")
    check(world)


def test_mail_between_two_attempts_waits_for_the_next_one() -> None:
    world = World(flaky)
    world.start("flaky", 2, retry=_POLICY)
    world.signal("number", 0)
    world.settle()
    body: dict[str, Json] = {"signal": "number", "signal_id": "late", "payload": 5}
    assert world.store.post("w", Kind.SIGNAL, body, run=1).run == 2
    world.settle()
    assert world.status() == "pending"
    world.restart()
    world.advance(_LONG_MS)
    world.settle()
    assert world.result() == [2, 0, 5]
    check(world)


def test_each_attempt_has_its_run_timeout_and_the_chain_its_deadline() -> None:
    async def hanging() -> None:
        await workflow.signal("never")

    world = World(hanging)
    world.start("hanging", retry=_POLICY, run_timeout_ms=5_000, execution_timeout_ms=200_000)
    for _ in range(4):
        world.settle()
        world.advance(5_000)
        world.settle()
        world.advance(_LONG_MS)
    kinds = [
        event.kind
        for history in runs(world)
        for event in history
        if isinstance(event, e.RunTimedOut)
    ]
    assert kinds == ["run"] * 3
    world.start("hanging", retry=_POLICY, execution_timeout_ms=5_000)
    world.settle()
    world.advance(5_000)
    world.settle()
    assert (world.row()["run"], world.status()) == ("4", "failed")
    check(world)


def test_parent_is_told_of_the_last_attempt_only() -> None:
    world = World(parent, failing)
    world.start("parent")
    for attempt in (1, 2, 3):
        assert world.names().count("ChildFailed") == 0, attempt
        world.settle()
        world.advance(_LONG_MS)
    assert world.result() == "attempt 3"
    assert world.names().count("ChildFailed") == 1
    check(world)
