"""Activities as Temporal's features have them, by their names; here an activity is a step.

Source: temporalio/features, features/activity.  Differs in two things.  A cancelled wait ends as
asyncio says, with CancelledError, whatever the cancellation type: with "wait" after the step has
ended.  And a running body hears of its cancellation with the renewal of its claim: it needs no
heartbeat.  Not here: ``shutdown``, what a worker that is told to stop does with running bodies,
needs a real one (tests/worker/test_stopping.py).
"""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import StepError, StepTimeout
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.options import Cancellation
from orchestrator.core.retry import Retry
from orchestrator.store.ports import AttemptKey, ClaimAnswer, PostAnswer
from tests.engine.world import World

STOPPED: dict[str, Any] = {
    "kind": "cancelled",
    "failure": {"type": "StepCancelled", "message": "stopped on request"},
}


async def cancels(cancellation: Cancellation) -> str:
    """Begin a step, cancel the wait for it, and say what the wait ended with."""
    task = asyncio.create_task(workflow.step("job", cancellation=cancellation))
    await workflow.signal("cancel")
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        workflow.publish({"cancelled": True})
    await workflow.signal("finish")
    return "finished"


def running(cancellation: str) -> tuple[World, dict[str, Any]]:
    """Return a world in which the wait for a running step was just cancelled, and its message."""
    world = World(cancels)
    world.start("cancels", cancellation)
    world.turn()
    message = world.pop()
    assert message
    assert world.claim(message) is ClaimAnswer.GRANTED
    world.signal("cancel")
    world.turn()
    return world, message


def renewed(world: World, message: dict[str, Any]) -> ClaimAnswer:
    key = AttemptKey.parse(message["key"])
    return world.store.renew({key: "worker"}, ttl_ms=CLAIM_TTL_MS)[key]


def has_gone_on(world: World) -> bool:
    return '"cancelled":true' in world.row().get("state", "")


def test_cancel_try_cancel() -> None:
    world, message = running("try")
    assert has_gone_on(world), "the workflow does not wait for the body"
    assert renewed(world, message) is ClaimAnswer.CANCELLED
    assert world.finish(message, STOPPED) is PostAnswer.POSTED
    world.signal("finish")
    world.settle()
    assert world.result() == "finished"
    world.check_chain()


def test_cancel_wait_cancel() -> None:
    world, message = running("wait")
    assert renewed(world, message) is ClaimAnswer.CANCELLED
    assert not has_gone_on(world), "the body cleans up still"
    assert world.finish(message, STOPPED) is PostAnswer.POSTED
    world.turn()
    assert has_gone_on(world)
    [failed] = [one for one in world.events() if isinstance(one, e.StepFailed)]
    assert failed.kind == "cancelled"
    world.check_chain()


def test_cancel_wait_cancel_when_the_worker_dies_meanwhile() -> None:
    world, _ = running("wait")
    world.advance(CLAIM_TTL_MS)
    world.settle()
    assert has_gone_on(world), "a dead body is not waited for for ever"
    assert world.pop() is None, "nor is another attempt made"


def test_cancel_wait_cancel_when_the_orchestrator_dies_meanwhile() -> None:
    world, message = running("wait")
    # The worker renews on, all through the take-over.
    world.store.renew({AttemptKey.parse(message["key"]): "worker"}, ttl_ms=60_000)
    world.restart()
    world.turn()
    assert not has_gone_on(world)
    assert world.finish(message, STOPPED) is PostAnswer.POSTED
    world.turn()
    assert has_gone_on(world)


def test_cancel_abandon() -> None:
    world, message = running("abandon")
    assert has_gone_on(world)
    assert renewed(world, message) is ClaimAnswer.GRANTED, "the body is never told"
    assert "StepCancelRequested" not in world.names()
    done: dict[str, Any] = {"kind": "completed", "result": "done"}
    assert world.finish(message, done) is PostAnswer.POSTED
    world.signal("finish")
    world.settle()
    assert "StepCompleted" in world.names(), "its end is history all the same"
    assert world.result() == "finished"
    world.check_chain()


def test_heartbeating() -> None:
    async def beats() -> Any:
        return await workflow.step(
            "job", heartbeat=timedelta(seconds=5), retry=Retry(attempts=2, initial=timedelta(0))
        )

    world = World(beats)
    world.start("beats")
    world.turn()
    first = world.pop()
    assert first
    world.claim(first, "a/1")
    world.store.heartbeat(AttemptKey.parse(first["key"]), "a/1", "41")
    world.advance(5_000)
    world.turn()
    world.advance(1)
    world.turn()
    second = world.pop()
    assert second
    assert AttemptKey.parse(second["key"]).attempt == 2
    claim = world.store.claim(AttemptKey.parse(second["key"]), "b/1", ttl_ms=CLAIM_TTL_MS)
    assert (claim.answer, claim.details) == (ClaimAnswer.GRANTED, "41")


def test_retry_on_error() -> None:
    async def retries() -> str:
        try:
            await workflow.step("job", retry=Retry(attempts=5, initial=timedelta(0)))
        except StepError as error:
            return f"{error.type} at attempt {error.attempt}"
        return "completed"

    world = World(retries)

    def job() -> None:
        raise ValueError(f"attempt {len(world.ran)} failed")

    world.task(job)
    world.start("retries")
    for _ in range(5):
        world.settle()
        world.advance(1)
    world.settle()
    assert world.result() == "ValueError at attempt 5"
    assert [task for task, _, _ in world.ran] == ["job"] * 5


def test_running_concurrently() -> None:
    async def side_by_side() -> Any:
        return await workflow.map("job", range(20), max_parallel=20)

    world = World(side_by_side)
    world.start("side_by_side")
    world.turn()
    messages = [world.pop() for _ in range(20)]
    assert world.pop() is None
    for message in reversed(messages):
        assert message, "all of them are on their way before one has ended"
        world.claim(message)
        world.finish(message, {"kind": "completed", "result": message["args"][0]})
    world.turn()
    assert world.result() == list(range(20))


@pytest.mark.parametrize("limit", ["start_to_close", "schedule_to_close"])
def test_basic_no_workflow_timeout(limit: str) -> None:
    async def limited() -> str:
        setting: Any = {limit: timedelta(minutes=1), "retry": Retry(attempts=1)}
        try:
            return str(await workflow.step("job", **setting))
        except StepTimeout:
            return "timed out"

    world = World(limited)
    world.tasks["job"] = lambda: "echo"
    world.start("limited")
    world.settle()
    assert world.result() == "echo"
