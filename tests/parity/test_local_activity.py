"""Local activities as Temporal's features have them, by their names; here they are local steps.

Source: temporalio/features, features/local_activity.  Differs in one thing: a local step has an
attempt and a claim like any other, so that its back-off is always a persistent timer.  Not here:
``shutdown_sends_cancellation`` and ``complete_after_shutdown``: an orchestrator that stops gives
its local steps up, and the next owner attempts them (tests/engine/test_attempts.py).
"""

import asyncio
from datetime import timedelta
from typing import Any

from celery import Celery

from orchestrator import Orchestrator, workflow
from orchestrator.core import events as e
from orchestrator.core.errors import StepError
from orchestrator.core.options import Cancellation
from orchestrator.core.retry import Retry
from orchestrator.testing import WorkflowEnvironment
from tests.engine.world import World

DONE: dict[str, Any] = {"kind": "completed", "result": "done"}
STOPPED: dict[str, Any] = {
    "kind": "cancelled",
    "failure": {"type": "StepCancelled", "message": "stopped on request"},
}


def failed(type: str) -> dict[str, Any]:
    return {"kind": "failed", "failure": {"type": type, "message": "it broke"}}


async def cancels(cancellation: Cancellation) -> str:
    task = asyncio.create_task(workflow.step("job", local=True, cancellation=cancellation))
    await workflow.signal("cancel")
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    return "completed"


def cancelled(cancellation: str) -> World:
    world = World(cancels)
    world.start("cancels", cancellation)
    world.turn()
    world.signal("cancel")
    world.turn()
    return world


def end(world: World, *bodies: dict[str, Any]) -> None:
    """End the bodies of the local steps that wait, and stop their orchestrator's poster."""
    for _, done in world.node.local.waiting:
        done(bodies[0])
        bodies = bodies[1:]
    assert not bodies
    # It returns when everything is posted.
    world.node.local_steps.close()
    world.turn()


def test_cancel_try_cancel() -> None:
    world = cancelled("try")
    assert world.node.local.cancelled
    assert world.result() == "cancelled"


def test_cancel_wait_cancel() -> None:
    world = cancelled("wait")
    assert world.node.local.cancelled
    assert world.status() == "running"
    end(world, STOPPED)
    assert world.result() == "cancelled"


def test_cancel_abandon() -> None:
    world = cancelled("abandon")
    assert "StepCancelRequested" not in world.names()
    assert world.result() == "cancelled"


def test_concurrent() -> None:
    async def both() -> Any:
        return await workflow.map("job", [1, 2], local=True)

    world = World(both)
    world.start("both")
    world.turn()
    end(world, {"kind": "completed", "result": "first"}, {"kind": "completed", "result": "second"})
    assert world.result() == ["first", "second"]


def test_one_success_one_fail() -> None:
    async def both() -> Any:
        found = await workflow.map(
            "job", [1, 2], local=True, return_exceptions=True, retry=Retry(attempts=1)
        )
        return [one.type if isinstance(one, StepError) else one for one in found]

    world = World(both)
    world.start("both")
    world.turn()
    end(world, DONE, failed("Boom"))
    assert world.result() == ["done", "Boom"]


def test_retry_on_error_and_backoff_with_persistent_timer() -> None:
    async def retries() -> Any:
        retry = Retry(attempts=2, initial=timedelta(seconds=90))
        return await workflow.step("job", local=True, retry=retry)

    world = World(retries)
    world.start("retries")
    world.turn()
    end(world, failed("Boom"))
    assert [one.attempt for one in world.events() if isinstance(one, e.StepAttemptFailed)] == [1]
    world.restart()
    world.advance(200_000)
    world.turn()
    end(world, DONE)
    assert world.result() == "done"


def test_non_retryable_error() -> None:
    async def once() -> str:
        try:
            await workflow.step("job", local=True, retry=Retry(attempts=5, non_retryable=("Boom",)))
        except StepError as error:
            return f"{error.type} at attempt {error.attempt}"
        return "completed"

    world = World(once)
    world.start("once")
    world.turn()
    end(world, failed("Boom"))
    assert world.result() == "Boom at attempt 1"


async def one_job() -> Any:
    return await workflow.step("job", local=True)


def test_complete_immediately() -> None:
    world = World(one_job)
    world.start("one_job")
    world.turn()
    end(world, DONE)
    assert world.result() == "done"


def test_complete_eventually() -> None:
    """One that takes long keeps its claim: the orchestrator renews it, and nobody else tries."""
    world = World(one_job)
    world.start("one_job")
    world.turn()
    for _ in range(30):
        world.advance(1_000)
        world.turn()
        world.node.local_steps.renew_due(world.clock.now_ms, ttl_ms=6_000)
    assert len(world.node.local.waiting) == 1
    end(world, DONE)
    assert world.result() == "done"
    assert world.names().count("StepAttemptFailed") == 0


app = Celery("local-activity", broker="redis://127.0.0.1:1/0", set_as_current=False)
orc = Orchestrator(app)


@app.task
def tenfold(number: int) -> int:
    return number * 10


@orc.workflow
async def one_after_the_other(count: int) -> list[int]:
    return [await workflow.step(tenfold, number, local=True) for number in range(count)]


def test_serial() -> None:
    with WorkflowEnvironment(orc) as env:
        handle = env.start(one_after_the_other, 5)
        assert handle.result() == [0, 10, 20, 30, 40]
        kinds = [each.type for each in handle.history()]
    assert kinds == ["RunStarted", *["StepScheduled", "StepCompleted"] * 5, "RunCompleted"]
