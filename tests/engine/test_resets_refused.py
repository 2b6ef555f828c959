"""RT4, RT5, RS3: what would be lost, undone twice, or answered elsewhere is not reset."""

import asyncio
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind
from tests.engine.resetting import (
    begin_from,
    check,
    check_cut,
    number_of,
    order,
    paid_until_charged,
    reset,
    world_of,
)
from tests.engine.world import World

# --- sagas ---------------------------------------------------------------------------------------


def refusal(world: World) -> str:
    assert world.row()["run"] == "1"
    last = world.events()[-1]
    assert isinstance(last, e.RequestRejected)
    assert last.request == "reset"
    return last.reason


def test_effects_that_nobody_would_undo_are_not_dropped_in_silence() -> None:
    world = paid_until_charged()
    at = number_of(world, e.SignalReceived)
    reset(world, at, request="a")
    assert "step 2 charge" in refusal(world)
    assert "despite_effects" in refusal(world)
    reset(world, at, request="b", despite_effects=True)
    assert world.row()["run"] == "2"
    assert [task for task, *_ in world.ran] == ["reserve", "charge", "charge"]
    check(world)


def test_saga_undoes_what_was_kept_under_the_keys_it_was_done_under() -> None:
    world = paid_until_charged()
    at = number_of(world, e.StepCompleted, 2)
    undone: list[Any] = []
    reset(world, at)
    world.signal("go")
    world.signal("verdict", "no")
    while True:
        world.turn()
        message = world.pop()
        if message is None:
            break
        if message["compensates"]:
            undone.append((message["task"], message["compensates"], message["idempotency_key"]))
        world.claim(message)
        world.finish(message, world.run_body(message))
    assert world.status() == "failed"
    # Both steps were ordered by run 1; their undoing is ordered by run 2.
    assert undone == [("refund", "w.1.2", "w.2.3"), ("release", "w.1.1", "w.2.4")]
    check(world)


def test_what_was_undone_is_not_kept_as_done() -> None:
    world = paid_until_charged()
    world.signal("go")
    world.signal("verdict", "no")
    world.settle()
    assert world.status() == "failed"
    with pytest.raises(Exception, match="step 1 reserve, which is kept, was undone since"):
        check_cut(world, number_of(world, e.SignalReceived))
    check_cut(world, 1)
    begin_from(world, 1, signals=False)
    assert [task for task, *_ in world.ran] == ["reserve", "charge", "refund", "release", "reserve"]


def test_run_that_undoes_a_saga_is_not_reset() -> None:
    world = paid_until_charged()
    world.signal("go")
    world.signal("verdict", "no")
    world.tasks["refund"] = lambda *_: 1 // 0
    world.settle()
    assert world.status() == "compensating"
    reset(world, 1, despite_effects=True)
    assert "undoes a saga" in refusal(world)


# --- what cannot be ------------------------------------------------------------------------------


async def asking() -> str:
    child = asyncio.create_task(workflow.child("order", "1"))
    await workflow.signal("on")
    return str(await child)


async def locking() -> str:
    async with workflow.mutex("door"):
        await workflow.signal("on")
        await workflow.signal("off")
    return "out"


async def calling() -> str:
    heard = asyncio.create_task(workflow.external("order-1").result())
    await workflow.signal("on")
    return str(await heard)


@pytest.mark.parametrize(
    ("function", "what"),
    [(asking, "a child"), (locking, "a permit"), (calling, "an answer of another run")],
)
def test_what_waits_for_an_answer_of_elsewhere_cannot_be_kept(function: Any, what: str) -> None:
    world = world_of(function, order)
    world.start("order", "1", id="order-1")
    world.start(function.__name__)
    world.settle()
    world.signal("on")
    world.settle()
    at = number_of(world, e.SignalReceived)
    reset(world, at)
    assert f"has {what} outstanding" in refusal(world)
    # From the beginning it can: it asks again.
    reset(world, 1, request="other", signals=False)
    assert world.row()["run"] == "2"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"event": 99}, "there is no event 99: the history has 3"),
        ({"event": 0}, "there is no event 0"),
        ({"event": "first"}, "it names no event"),
        ({"event": 1, "run": 4}, "run 4 was to be reset; run 1 goes on for it"),
    ],
)
def test_nonsense_changes_nothing_and_says_why(said: dict[str, Json], why: str) -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    world.post(Kind.RESET, {"run": 1, "request_id": "q", **said})
    world.settle()
    last = world.events()[-1]
    assert isinstance(last, e.RequestRejected)
    assert why in last.reason
    assert last.request_id == "q"
    assert world.status() == "running"


def test_the_same_request_again_changes_nothing() -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    reset(world, 2)
    reset(world, 2)
    assert world.row()["run"] == "2"
    assert "RequestRejected" not in world.names("w", 2)
