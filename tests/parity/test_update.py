"""Updates as Temporal's users know them; each test is named after the conformance test."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery

from orchestrator import Interceptor, Orchestrator, UpdateWorkflow, workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ApplicationError
from orchestrator.core.values import Json
from orchestrator.testing import WorkflowEnvironment
from tests.engine.world import World


def outcome(world: World, update_id: str, id: str = "w") -> e.Event:
    """Return the last event about an update."""
    (*_, last) = (one for one in world.events(id) if getattr(one, "update_id", "") == update_id)
    return last


async def counter() -> int:
    total = 0
    is_done = False

    @workflow.on_update("add", int)
    async def add(number: int) -> int:
        nonlocal total
        checked: int = await workflow.step("check", number)
        total += checked
        return total

    @add.validator
    def not_negative(number: int) -> None:
        if number < 0:
            raise ValueError("no negative numbers")

    @workflow.on_update("end")
    def end() -> str:
        nonlocal is_done
        is_done = True
        return "bye"

    await workflow.wait_condition(lambda: is_done)
    return total


def counter_world() -> World:
    world = World(counter)
    world.tasks["check"] = lambda number: number
    world.start("counter")
    world.settle()
    return world


def test_update_basic() -> None:
    world = counter_world()
    world.update("end", update_id="u")
    world.settle()
    assert world.names() == [
        "RunStarted",
        "UpdateReceived",
        "UpdateAccepted",
        "UpdateCompleted",
        "RunCompleted",
    ]
    assert getattr(outcome(world, "u"), "result", None) == "bye"


def test_update_basic_async() -> None:
    world = counter_world()
    world.update("add", 3, update_id="u")
    world.settle()
    assert getattr(outcome(world, "u"), "result", None) == 3
    assert world.status() == "running"


def test_update_activities() -> None:
    world = counter_world()
    world.update("add", 3)
    world.update("add", 4, update_id="u")
    world.settle()
    assert [task for task, _, _ in world.ran] == ["check", "check"]
    assert getattr(outcome(world, "u"), "result", None) == 7
    world.restart()
    world.update("end")
    world.settle()
    assert world.result() == 7


def test_update_async_accepted() -> None:
    world = counter_world()
    world.update("add", 3, update_id="u")
    world.turn()  # no worker yet: accepted, on record, and not through
    assert isinstance(outcome(world, "u"), e.UpdateAccepted)
    world.settle()
    assert isinstance(outcome(world, "u"), e.UpdateCompleted)


def test_update_deduplication() -> None:
    world = counter_world()
    world.update("add", 3, update_id="u")
    world.update("add", 3, update_id="u")
    world.settle()
    world.restart()
    world.update("add", 3, update_id="u")
    world.update("end")
    world.settle()
    assert world.result() == 3
    assert world.names().count("UpdateReceived") == 2


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [
        ("add", [-1], "no negative numbers"),
        ("add", ["three"], "do not validate"),
        ("add", [1, 2], "do not validate"),
        ("ad", [1], "there is no update 'ad' here; known: add, end"),
    ],
)
def test_update_non_durable_reject(name: str, args: list[Json], reason: str) -> None:
    """A rejection stays in the history, as an audit event, and changes nothing."""
    world = counter_world()
    world.update(name, *args, update_id="u")
    world.settle()
    rejected = outcome(world, "u")
    assert isinstance(rejected, e.UpdateRejected)
    assert reason in rejected.reason
    assert world.ran == []
    world.restart()
    world.update("end")
    world.settle()
    assert world.result() == 0


def test_update_self() -> None:
    """A workflow that has a step update the very run it belongs to."""

    async def own() -> str:
        got: list[str] = []

        @workflow.on_update("note", str)
        def note(text: str) -> str:
            got.append(text)
            return text.upper()

        await workflow.step("call_me", workflow.info().workflow_id)
        await workflow.wait_condition(lambda: bool(got))
        return got[0]

    world = World(own)
    world.tasks["call_me"] = lambda id: str(world.update("note", "hello", id=id))
    world.start("own")
    world.settle()
    assert world.result() == "hello"


def test_update_task_failure() -> None:
    """A failure fails the update alone; a bug blocks the run until the code is mended."""

    async def fragile() -> str:
        @workflow.on_update("fail")
        async def fail() -> None:
            raise ApplicationError("no such seat", "NoSeat")

        @workflow.on_update("bug")
        def bug() -> int:
            return 1 // 0

        await workflow.signal("end")
        return "ended"

    async def mended() -> str:
        @workflow.on_update("fail")
        async def fail() -> None:
            raise ApplicationError("no such seat", "NoSeat")

        @workflow.on_update("bug")
        def bug() -> int:
            return 1

        await workflow.signal("end")
        return "ended"

    world = World(fragile)
    world.start("fragile")
    world.settle()
    world.update("fail", update_id="f")
    world.settle()
    failed = outcome(world, "f")
    assert isinstance(failed, e.UpdateFailed)
    assert (failed.failure.type, failed.failure.message) == ("NoSeat", "no such seat")
    assert world.status() == "running"
    world.update("bug", update_id="b")
    world.settle()
    assert world.status() == "blocked"
    mended.__name__ = "fragile"
    world.deploy(mended)
    world.restart()
    world.settle()
    assert getattr(outcome(world, "b"), "result", None) == 1
    world.signal("end")
    world.settle()
    assert world.result() == "ended"
    world.check_chain()


def test_update_validation_replay() -> None:
    """Replay does not run the validator again: what it says now is not what it said then."""
    asked: list[int] = []
    limit = 10

    async def limited() -> list[int]:
        taken: list[int] = []

        def below(number: int) -> None:
            asked.append(number)
            if number >= limit:
                raise ValueError("too many")

        @workflow.on_update("take", validator=below)
        def take(number: int) -> int:
            taken.append(number)
            return number

        await workflow.signal("end")
        return taken

    world = World(limited)
    world.start("limited")
    world.update("take", 5)
    world.update("take", 12)
    world.settle()
    limit = 0  # the code is deployed anew: it would reject the first, and
    world.restart()
    limit = 20
    world.signal("end")
    world.settle()
    assert asked == [5, 12]
    assert world.result() == [5]
    assert world.names().count("UpdateRejected") == 1


def test_a_validator_that_orders_something_rejects_and_leaves_the_run_as_it_was() -> None:
    async def nosy() -> str:
        gate = asyncio.Event()

        def greedy(number: int) -> None:
            if number:
                gate.set()  # wakes who waits: an order to the loop

        @workflow.on_update("go", validator=greedy)
        def go(number: int) -> str:
            return "gone"

        await gate.wait()
        return "through"

    world = World(nosy)
    world.start("nosy")
    world.settle()
    world.update("go", 1, update_id="bad")
    world.update("go", 0, update_id="good")
    world.settle()
    rejected = outcome(world, "bad")
    assert isinstance(rejected, e.UpdateRejected)
    assert "ForbiddenInWorkflow" in rejected.reason
    assert getattr(outcome(world, "good"), "result", None) == "gone"
    assert world.status() == "running"
    world.restart()
    world.update("go", 0)
    world.settle()
    assert world.names().count("UpdateCompleted") == 2


def checked(number: int) -> int:
    return number


class _Raising(Interceptor):
    """Adds one to what an update asks for, before it leaves the client."""

    async def update_workflow(self, call: UpdateWorkflow, proceed: Any) -> str:
        return str(await proceed(replace(call, args=(call.args[0] + 1,))))


def test_update_client_interceptor() -> None:
    app = Celery("update-client-interceptor", broker="redis://127.0.0.1:1/0")
    orc = Orchestrator(app, interceptors=[_Raising()])
    app.task(checked, name="check", shared=False)
    count = orc.workflow(counter)
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        handle = env.start(count)
        assert handle.update("add", 4) == 5
        received = [one.event for one in handle.history() if one.type == "UpdateReceived"]
        assert [one.args for one in received if isinstance(one, e.UpdateReceived)] == [[5]]


def test_update_before_the_first_handler_says_where_handlers_belong() -> None:
    async def late() -> None:
        await workflow.sleep(60)

    world = World(late)
    world.start("late")
    world.update("add", 1, update_id="u")
    world.settle()
    rejected = outcome(world, "u")
    assert isinstance(rejected, e.UpdateRejected)
    assert "known: none; handlers that are to take the first ones belong before" in rejected.reason
