"""Continue-as-new, as Temporal's own tests name it; where ours differs the docstring says so."""

import asyncio
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.errors import ApplicationError, StoreUnavailable
from orchestrator.core.events import RunStarted, SignalReceived
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind
from tests.engine.test_crashes import Faulty
from tests.engine.world import Node, World


async def countdown(left: int) -> str:
    if left:
        workflow.continue_as_new(left - 1)
    return f"run {workflow.info().run} of {workflow.info().first_run}"


async def collector(numbers: list[int], each: int, total: int) -> list[int]:
    """Take `each` signals, then go on as new, until there are `total`."""
    for _ in range(each):
        numbers = [*numbers, await workflow.signal("number")]
        if len(numbers) == total:
            return numbers
    workflow.continue_as_new(numbers, each, total)


async def handled(numbers: list[int], each: int, total: int) -> list[int]:
    numbers, taken = list(numbers), 0

    @workflow.on_signal("number")
    def take(number: int) -> None:
        nonlocal taken
        numbers.append(number)
        taken += 1
        if taken == each and len(numbers) < total:
            workflow.continue_as_new(numbers, each, total)

    await workflow.wait_condition(lambda: len(numbers) >= total)
    return numbers


def inbox(world: World) -> list[Any]:
    taken = world.store.take_inbox(dict.fromkeys(range(4), "0"), count=10_000, block_ms=0)
    return [entry for entries in taken.values() for entry in entries]


def test_continue_as_same() -> None:
    world = World(countdown)
    world.start("countdown", 3)
    world.settle()
    assert world.result() == "run 4 of 1"
    assert world.names(run=1) == ["RunStarted", "RunContinuedAsNew"]
    assert world.names(run=4) == ["RunStarted", "RunCompleted"]
    started = world.events(run=4)[0]
    assert isinstance(started, RunStarted)
    assert (started.continued_from, started.first_run) == (3, 1)
    for run in range(1, 5):
        world.check_chain(run=run)
    assert inbox(world) == []


def test_a_run_goes_on_as_another_type() -> None:
    async def first() -> None:
        workflow.continue_as_new("x", workflow="second")

    async def second(said: str) -> str:
        return said * 2

    world = World(first, second)
    world.start("first")
    world.settle()
    assert world.result() == "xx"
    assert world.row()["type"] == "second"


@pytest.mark.parametrize("flow", [collector, handled])
def test_signals_block_continue_as_new(flow: Any) -> None:
    """Ours: they do not; those that nobody has taken go to the next run, in order."""
    world = World(flow)
    world.start(flow.__name__, [], 7, 100)
    for number in range(60):
        world.signal("number", number)
    world.settle()
    for number in range(60, 100):
        world.signal("number", number)
        if number % 9 == 0:
            world.settle()
    world.settle()
    assert world.result() == list(range(100))
    assert inbox(world) == []


def test_more_signals_than_one_reading_takes_keep_their_order() -> None:
    world = World(collector)
    world.start("collector", [], 30, 1_300)
    for number in range(1_300):
        world.signal("number", number)
    world.settle()
    assert world.result() == list(range(1_300))
    assert inbox(world) == []


@pytest.mark.parametrize("flow", [collector, handled])
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 9))
def test_signals_survive_a_crash_at_any_commit(flow: Any, at: int, *, happens: bool) -> None:
    world = World(flow)
    world.nodes = [Node(world, "doomed", Faulty(world.store, "commit", at, happens=happens))]
    world.start(flow.__name__, [], 3, 20)
    for number in range(20):
        world.signal("number", number)
        if number % 5 == 0:
            try:
                world.nodes[0].turn()
            except StoreUnavailable:
                world.restart()
    for _ in range(20):
        try:
            world.nodes[0].turn()
        except StoreUnavailable:
            world.restart()
    world.settle()
    assert world.result() == list(range(20))
    assert inbox(world) == []


def test_a_signal_repeated_after_the_run_has_gone_on_counts_once() -> None:
    world = World(collector)
    world.start("collector", [], 1, 3)
    world.signal("number", 1, signal_id="one")
    world.settle()
    world.signal("number", 2, signal_id="two")
    world.settle()
    world.signal("number", 1, signal_id="one")
    world.settle()
    world.signal("number", 3, signal_id="three")
    world.settle()
    assert world.result() == [1, 2, 3]


def test_a_message_for_an_earlier_run_of_the_chain_is_the_latest_runs() -> None:
    world = World(collector)
    key = world.start("collector", [], 1, 3)
    world.signal("number", 1)
    world.settle()
    body: dict[str, Json] = {"signal": "number", "signal_id": "x", "payload": 2}
    assert world.store.post("w", Kind.SIGNAL, body, run=key.run).run == 2
    world.store.post("w", Kind.CANCEL, {"reason": "enough", "request_id": "c"}, run=key.run)
    world.settle()
    assert world.status() == "cancelled"
    assert "SignalReceived" in world.names(run=2)


def test_a_parent_gets_the_end_of_the_last_run() -> None:
    async def parent() -> Any:
        return await workflow.child("countdown", 2, id="kid")

    world = World(parent, countdown)
    world.start("parent")
    world.settle()
    assert world.result() == "run 3 of 1"


def test_except_exception_does_not_swallow_it() -> None:
    async def flow(left: int) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(one(left))
        except Exception:
            return "swallowed"
        return "done"

    async def one(left: int) -> None:
        if left:
            workflow.continue_as_new(left - 1)

    world = World(flow)
    world.start("flow", 2)
    world.settle()
    assert world.result() == "done"
    assert world.row()["run"] == "3"


def test_what_failed_beside_it_fails_the_run() -> None:
    async def flow() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(going_on())
            group.create_task(failing())

    async def going_on() -> None:
        await workflow.signal("go")
        workflow.continue_as_new()

    async def failing() -> None:
        try:
            await workflow.signal("never")
        finally:
            raise ApplicationError("no")

    world = World(flow)
    world.start("flow")
    world.signal("go")
    world.settle()
    assert world.status() == "failed"
    assert "no" in world.row()["failure"]
    assert world.names()[-1] == "RunFailed"


def test_continuing_in_an_open_saga_rests_the_run() -> None:
    async def flow() -> None:
        async with workflow.saga():
            workflow.continue_as_new()

    world = World(flow)
    world.start("flow")
    world.settle()
    assert world.status() == "blocked"
    assert "leave its block first" in world.row()["blocked"]


def test_a_run_that_was_blocked_hands_on_what_came_meanwhile() -> None:
    async def broken(numbers: list[int]) -> None:
        raise LookupError

    async def mended(numbers: list[int]) -> list[int]:
        if not numbers:
            workflow.continue_as_new([0])
        return [await workflow.signal("number"), await workflow.signal("number")]

    broken.__name__ = mended.__name__ = "flow"
    world = World(broken)
    world.start("flow", [])
    world.settle()
    world.signal("number", 1)
    world.signal("number", 2)
    world.settle()
    assert world.status() == "blocked"
    world.deploy(mended)
    world.restart()
    world.settle()
    assert world.result() == [1, 2]


async def late_collector(numbers: list[int], each: int, total: int) -> list[int]:
    if not numbers:
        await workflow.sleep(1)
    return await collector(numbers, each, total)


async def late_handled(numbers: list[int], each: int, total: int) -> list[int]:
    if not numbers:
        await workflow.sleep(1)
    return await handled(numbers, each, total)


@pytest.mark.parametrize("flow", [late_collector, late_handled])
def test_what_is_unread_goes_from_run_to_run_in_order(flow: Any) -> None:
    """The signals lie in the mailbox, and not in the inbox, when the run goes on."""
    world = World(flow)
    world.start(flow.__name__, [], 3, 20)
    for number in range(20):
        world.signal("number", number, signal_id=f"n{number}")
    world.settle()
    world.advance(1_000)
    world.settle()
    assert world.result() == list(range(20))
    second = [one.signal_id for one in world.events(run=2) if isinstance(one, SignalReceived)]
    assert second[:3] == ["n3", "n4", "n5"]
    assert world.row()["start"] == ""


def test_updates_do_not_block_continue_as_new() -> None:
    async def flow(part: int = 1) -> list[int]:
        added: list[int] = []

        @workflow.on_update("add")
        def add(number: int) -> int:
            added.append(number)
            return number * 10

        if part == 2:
            await workflow.wait_condition(lambda: len(added) == 2)
            return added
        await workflow.signal("go")
        workflow.continue_as_new(2)

    world = World(flow)
    world.start("flow")
    world.settle()
    world.signal("go")
    world.update("add", 1, update_id="u1")
    world.update("add", 2, update_id="u2")
    world.settle()
    assert world.result() == [1, 2]
    assert world.names(run=1) == ["RunStarted", "SignalReceived", "RunContinuedAsNew"]
    assert world.names(run=2).count("UpdateCompleted") == 2


def test_a_cancellation_that_came_while_the_run_was_blocked_goes_on_with_it() -> None:
    async def broken(part: int = 1) -> None:
        raise LookupError

    async def mended(part: int = 1) -> str:
        if part == 1:
            workflow.continue_as_new(2)
        return str(await workflow.signal("number"))

    broken.__name__ = mended.__name__ = "flow"
    world = World(broken)
    world.start("flow")
    world.settle()
    world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c"})
    world.settle()
    assert world.status() == "blocked"
    world.deploy(mended)
    world.restart()
    world.settle()
    assert world.status() == "cancelled"
    assert world.names(run=2) == ["RunStarted", "CancelRequested", "RunCancelled"]
