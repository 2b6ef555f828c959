"""The app of the tests called "where others fail": what engines of this kind are caught at.

Beside the workflows and tasks of app.py, which it takes over, it has work of every kind that can be
under way when a process dies, and tasks with all the settings that Celery has.
"""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from celery import Task

from orchestrator import ApplicationError, Retry, StepTimeout, step, workflow
from tests.acceptance.app import (
    AT_ONCE,
    HOLD_S_MAX,
    Effect,
    app,
    begin,
    effect,
    gate,
    hold,
    orc,
    take_effect,
)

__all__ = ["app", "orc"]

#: Seconds after which the broker takes an unacknowledged message for lost, and looks every second.
VISIBILITY = "ACCEPTANCE_VISIBILITY_S"
#: How long a step rests between two attempts in the situation "backoff".
REST_MS = 3_000
#: How long the runs sleep that do nothing else.
NAP_MS = 4_000

if VISIBILITY in os.environ:
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "visibility_timeout": float(os.environ[VISIBILITY]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }


# --- time -----------------------------------------------------------------------------------------


@orc.workflow(name="naps")
async def naps(side_by_side_ms: list[int], in_a_row_ms: list[int]) -> int:
    """Sleep, with nothing but code between two sleeps."""
    await asyncio.gather(*(asyncio.sleep(ms / 1000) for ms in side_by_side_ms))
    for ms in in_a_row_ms:
        await workflow.sleep(timedelta(milliseconds=ms))
    return len(side_by_side_ms) + len(in_a_row_ms)


@app.task
def endless(name: str) -> None:
    """Work on until stopped; that is the effect."""
    done = begin(name)
    try:
        hold(done)
    finally:
        if not gate(done.name, done.attempt).exists():
            take_effect(done)


@orc.workflow(name="limited")
async def limited(name: str, limit_ms: int) -> str:
    """A step with a time-out that its body does not keep."""
    limit = timedelta(milliseconds=limit_ms)
    try:
        await workflow.step(endless, name, start_to_close=limit, retry=Retry(attempts=1))
    except StepTimeout as error:
        return error.type
    return "in time"


# --- work that is under way when something dies ---------------------------------------------------


def undo_effect(name: str, first: str = "") -> Effect:
    """Undo `effect`, which had the same arguments; hold at the first attempt."""
    assert first == "", "it is the undo that holds, not the step"
    done = begin(f"{name}.undone")
    if done.attempt == 1:
        hold(done)
    take_effect(done)
    return done


#: Queues of workers that are killed one by one.
QUEUES = ("one", "two", "three")
UNDOS = {
    queue: app.task(pydantic=True, name=f"{__name__}.undo_{queue}")(undo_effect) for queue in QUEUES
}
#: An undo goes where its task is routed to.
app.conf.task_routes = {f"{__name__}.undo_{queue}": {"queue": queue} for queue in QUEUES}


@app.task(pydantic=True)
async def effect_on_loop(name: str) -> Effect:
    """Be a coroutine that waits, at its first attempt, without blocking its loop."""
    done = begin(name)
    if done.attempt == 1:
        deadline = time.monotonic() + HOLD_S_MAX
        while not gate(name, 1).exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
    take_effect(done)
    return done


@app.task(pydantic=True)
def effect_later(name: str) -> Effect:
    """Ask, at the first attempt, to be tried again after a rest."""
    done = begin(name)
    if done.attempt == 1:
        delay = timedelta(milliseconds=REST_MS)
        raise ApplicationError("not yet", type="NotYet", next_retry_delay=delay)
    take_effect(done)
    return done


def local_effect(name: str) -> dict[str, Any]:
    """Run inside the orchestrator, and hold there at the first attempt."""
    done = begin(name)
    if done.attempt == 1:
        hold(done)
    take_effect(done)
    return done.model_dump()


async def _saga(name: str, queue: str) -> None:
    try:
        async with workflow.saga() as saga:
            await saga.step(effect, name, undo=UNDOS[queue], queue=queue)
            raise ApplicationError("regretted", type="Regretted")
    except ApplicationError:
        return


#: What may be under way; each is a way to the same end: one effect under the run's own name.
SITUATIONS = (
    "first_step",
    "after_sleep",
    "after_signal",
    "undo",
    "local",
    "coroutine",
    "backoff",
    "asleep",
)


@orc.workflow(name="situated")
async def situated(situation: str, queue: str) -> str:
    """Get into the situation, and out of it."""
    name = workflow.info().workflow_id
    held = workflow.step.options(queue=queue, retry=AT_ONCE)
    match situation:
        case "first_step":
            await held(effect, name, first="hold")
        case "after_sleep":
            await workflow.sleep(timedelta(milliseconds=300))
            await held(effect, name, first="hold")
        case "after_signal":
            await workflow.signal("go")
            await held(effect, name, first="hold")
        case "undo":
            await _saga(name, queue)
        case "local":
            await workflow.step(local_effect, name, local=True, retry=AT_ONCE)
        case "coroutine":
            await held(effect_on_loop, name)
        case "backoff":
            await held(effect_later, name)
        case "asleep":
            await workflow.sleep(timedelta(milliseconds=NAP_MS))
        case _:
            raise ApplicationError(f"no situation is called {situation!r}")
    return situation


@orc.workflow(name="loaded")
async def loaded(count: int, queue: str) -> int:
    """As many steps, one after the other, on a queue."""
    name = workflow.info().workflow_id
    for number in range(1, count + 1):
        await workflow.step(effect, f"{name}.{number}", queue=queue, retry=AT_ONCE)
    return count


# --- tasks with settings --------------------------------------------------------------------------


@app.task(acks_late=True, reject_on_worker_lost=True, pydantic=True)
def acked_late(name: str, first: str = "") -> Effect:
    """Leave the message with the broker until the end; hold, or die, at the first attempt."""
    done = begin(name)
    if first == "hold" and done.attempt == 1:
        hold(done)
    if first == "die" and done.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    take_effect(done)
    return done


@app.task(autoretry_for=(ValueError,), max_retries=1, default_retry_delay=1)
def retried_by_celery(name: str) -> str:
    """Fail twice, which is once more than Celery would allow."""
    done = begin(name)
    if done.attempt < 3:
        raise ValueError("not yet")
    take_effect(done)
    return name


@app.task(bind=True, max_retries=5)
def retried_by_itself(self: Task) -> str:
    """Ask Celery, once, for another attempt; take no arguments, so that Celery could send it."""
    info = step.current()
    assert info is not None, "a retry of Celery's own runs outside of its step"
    done = begin(f"{info.workflow_id}.retried_by_itself")
    if done.attempt == 1:
        raise self.retry(countdown=1)
    take_effect(done)
    return done.name


@app.task(rate_limit="3/s")
def rated(name: str) -> str:
    """Wait in the worker, for Celery's own bucket of tokens."""
    take_effect(begin(name))
    return name


@app.task(expires=1, serializer="pickle", compression="gzip", ignore_result=False)
def expiring(name: str) -> str:
    """Have a message that Celery would drop, and in a format that no worker here accepts."""
    take_effect(begin(name))
    return name


@app.task(bind=True, time_limit=20, soft_time_limit=10, track_started=True, typing=False)
def bound(self: Task, name: str) -> str:
    """Be bound, limited and tracked."""
    done = begin(name)
    assert self.request.id.endswith(f".{done.attempt}"), self.request.id
    assert step.current() is not None
    take_effect(done)
    return name


#: Each with a setting that an engine might trip over.
WITH_SETTINGS: Sequence[str] = ("retried_by_celery", "rated", "expiring", "bound")


@orc.workflow(name="settings")
async def settings(queue: str) -> list[str]:
    """All of these tasks, side by side."""
    run = workflow.info().workflow_id
    ordered = [
        workflow.step(f"{__name__}.{task}", f"{run}.{task}", queue=queue) for task in WITH_SETTINGS
    ]
    return list(
        await asyncio.gather(*ordered, workflow.step(retried_by_itself, queue=queue)),
    )


@orc.workflow(name="late")
async def late(queue: str, first: str = "hold") -> Effect:
    """One step whose message stays with the broker."""
    name = workflow.info().workflow_id
    done = await workflow.step(acked_late, name, first=first, queue=queue, retry=AT_ONCE)
    return Effect.model_validate(done)
