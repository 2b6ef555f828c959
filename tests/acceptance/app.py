"""The app of these tests: the shop, and beside it workflows and tasks that are killed at will.

What bodies did is written to a SQLite file of its own, so that it can be counted from outside.
"""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from orchestrator import Rate, Retry, step, workflow
from orchestrator.core.options import Cancellation
from sagas import app, orc

__all__ = ["app", "orc"]

#: Set, "yes" stands for a later deploy, whose workflow "changing" does not fit older histories.
CHANGED = "ACCEPTANCE_CHANGED"
#: A directory; holds the file with the effects and the gates.
PLACE = "ACCEPTANCE_PLACE"
TABLES = """
CREATE TABLE IF NOT EXISTS begun (name TEXT, key TEXT, attempt INTEGER, pid INTEGER);
CREATE TABLE IF NOT EXISTS effects (name TEXT, key TEXT, attempt INTEGER);
CREATE TABLE IF NOT EXISTS visits (key TEXT, name TEXT, fence INTEGER, what TEXT);
"""
#: A body that nobody lets go gives up, should its test have died.
HOLD_S_MAX = 90.0
#: Lost attempts cost no waiting: these tests wait for claims, not for back-offs.
AT_ONCE = Retry(attempts=5, factor=1.0)


class Next(BaseModel):
    """Signal ``next``: order a step.

    `first` and `second` are what happens to its first two attempts: "" nothing; "hold" waits at the
    attempt's gate before the effect, "hold_after" after it; "crash_after" dies after the effect.
    """

    model_config = ConfigDict(extra="forbid")

    queue: str = "celery"
    first: str = ""
    second: str = ""
    is_last: bool = True


class Effect(BaseModel):
    """What one step did."""

    name: str
    key: str
    attempt: int


@contextmanager
def database(place: str | None = None) -> Iterator[sqlite3.Connection]:
    """A transaction on the file in `place`, or in the environment's."""
    path = Path(place or os.environ[PLACE]) / "effects.db"
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()


def gate(name: str, attempt: int, place: str | None = None) -> Path:
    """Return the file that lets the holding body of `name` go."""
    return Path(place or os.environ[PLACE]) / f"{name}.{attempt}.gate"


def hold(body: Effect) -> None:
    """Wait at a body's gate, as long as there may be somebody to open it."""
    deadline = time.monotonic() + HOLD_S_MAX
    while not gate(body.name, body.attempt).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def begin(name: str) -> Effect:
    """Note that a body begins, and return what its effect will be."""
    info = step.current()
    assert info is not None
    done = Effect(name=name, key=info.idempotency_key, attempt=info.attempt)
    with database() as db:
        row = (name, done.key, done.attempt, os.getpid())
        db.execute("INSERT INTO begun VALUES (?, ?, ?, ?)", row)
    return done


def take_effect(done: Effect) -> None:
    """Take effect, unless the key says that it was done."""
    with database() as db:
        db.execute(
            "INSERT INTO effects SELECT ?, ?, ? WHERE NOT EXISTS "
            "(SELECT 1 FROM effects WHERE key = ?)",
            (done.name, done.key, done.attempt, done.key),
        )


@app.task(pydantic=True)
def effect(name: str, first: str = "", second: str = "") -> Effect:
    """Take effect once per key, in the circumstances that `Next` describes."""
    done = begin(name)
    trouble = {1: first, 2: second}.get(done.attempt, "")
    if trouble == "hold":
        hold(done)
    take_effect(done)
    if trouble == "crash_after":
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble == "hold_after":
        hold(done)
    return done


@orc.workflow(name="stepwise", signals={"next": Next})
async def stepwise(name: str) -> list[Effect]:
    """One step for each signal "next", up to one that says it is the last."""
    done: list[Effect] = []
    while True:
        workflow.publish({"steps": len(done)})
        wanted = await workflow.signal("next", Next)
        number = len(done) + 1
        done.append(
            await workflow.step(
                effect,
                f"{name}.{number}",
                first=wanted.first,
                second=wanted.second,
                queue=wanted.queue,
                retry=AT_ONCE,
            )
        )
        if wanted.is_last:
            return done


@orc.workflow(name="steady")
async def steady(count: int, pause_ms: int = 0) -> int:
    """As many steps, one after the other."""
    for number in range(1, count + 1):
        name = f"{workflow.info().workflow_id}.{number}"
        await workflow.step(effect, name, retry=AT_ONCE)
        await asyncio.sleep(pause_ms / 1000)
    return count


def note_visit(key: str, name: str, fence: int, what: str) -> None:
    """Note that somebody is "in" the place called `key`, or "out" again."""
    with database() as db:
        db.execute("INSERT INTO visits VALUES (?, ?, ?, ?)", (key, name, fence, what))


@app.task
def visit(key: str, name: str, fence: int, first: str) -> None:
    """Be where one at a time may be; the first attempt may hold there."""
    done = begin(name)
    note_visit(key, name, fence, "in")
    if first == "hold" and done.attempt == 1:
        hold(done)
    time.sleep(0.02)
    note_visit(key, name, fence, "out")


@orc.workflow(name="guarded")
async def guarded(key: str, first: str = "") -> int:
    """One visit under a mutex."""
    async with workflow.mutex(key) as permit:
        name = workflow.info().workflow_id
        await workflow.step(visit, key, name, permit.fence, first, retry=AT_ONCE)
    return permit.fence


@orc.workflow(name="paced")
async def paced(key: str, limit: int, per_ms: int) -> None:
    """One step under a rate."""
    rate = Rate(key, limit, per=timedelta(milliseconds=per_ms))
    await workflow.step(plain, workflow.info().workflow_id, rate_limit=rate)


# --- code that does not belong in workflows, and code that changes --------------------------------


@orc.workflow(name="clocked")
async def clocked() -> float:
    """Reach for the clock of the machine."""
    return time.time()


_FIRST_STEP = "renamed" if os.environ.get(CHANGED) == "yes" else "changing"


@orc.workflow(name="changing")
async def changing() -> int:
    """Its first step is another one after the deploy."""
    run = workflow.info().workflow_id
    await workflow.step(effect, f"{run}.{_FIRST_STEP}")
    await workflow.signal("go")
    await workflow.step(effect, f"{run}.last")
    return 2


_IS_BEFORE_PATCH = os.environ.get(CHANGED) == "before"


@orc.workflow(name="patching")
async def patching() -> list[bool]:
    """Order a step of its own in each turn, since it was patched."""
    answers: list[bool] = []
    for turn in range(4):
        await workflow.signal("go")
        answers.append(not _IS_BEFORE_PATCH and workflow.patched("audit"))
        if answers[-1]:
            await workflow.step(effect, f"audit.{turn}")
    return answers


# --- tasks as Celery knows them -------------------------------------------------------------------


@app.task
def plain(name: str) -> str:
    """Know nothing of workflows."""
    with database() as db:
        db.execute("INSERT INTO effects VALUES (?, ?, 0)", (name, str(step.current())))
    return name


@app.task
async def on_loop(name: str) -> str:
    """Be a coroutine."""
    done = begin(name)
    await asyncio.sleep(0)
    take_effect(done)
    return name


@app.task(time_limit=2)
def too_long(name: str) -> str:
    """Run into the hard time limit, at the first attempt."""
    done = begin(name)
    if done.attempt == 1:
        hold(done)
    take_effect(done)
    return name


@app.task
def large(count: int) -> str:
    """Return more than a history keeps."""
    return "x" * count


@app.task
def polite(name: str) -> str:
    """Work until told to stop."""
    done = begin(name)
    deadline = time.monotonic() + HOLD_S_MAX
    while not step.is_cancelled() and time.monotonic() < deadline:
        time.sleep(0.01)
    take_effect(done)
    return name


@app.task
def rude(name: str) -> str:
    """Never ask whether to stop, and never send a heartbeat."""
    done = begin(name)
    hold(done)
    take_effect(done)
    return name


@orc.workflow(name="cancelled_wait")
async def cancelled_wait(name: str, cancellation: Cancellation) -> str:
    """Wait for a step, and when cancelled let it go as told."""
    return str(await workflow.step(rude, name, cancellation=cancellation, retry=Retry(attempts=1)))


@orc.workflow(name="mapped")
async def mapped(names: list[str], max_parallel: int) -> list[Any]:
    """One step for each name."""
    return await workflow.map(effect, names, max_parallel=max_parallel)


@orc.workflow(name="one_task")
async def one_task(task: str, argument: Any, queue: str = "celery", attempts: int = 3) -> Any:
    """One step, by the name of its task."""
    name = task if "." in task else f"{__name__}.{task}"
    retry = Retry(attempts=attempts, factor=1.0)
    return await workflow.step(name, argument, queue=queue, retry=retry)


@orc.workflow(name="measure_large")
async def measure_large(count: int) -> int:
    """Take a large result, and return its length."""
    return len(await workflow.step(large, count))
