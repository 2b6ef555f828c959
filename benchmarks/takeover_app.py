"""What the take-over and idle benchmarks run: runs that tick, runs that wait, steps that hold.

The workers and bodies report to the server itself, under keys that are nobody else's.
"""

import asyncio
import json
import os
import time
from datetime import timedelta

import redis
from celery import Celery
from celery.signals import worker_ready

from benchmarks.celery_settings import SETTINGS, URL
from orchestrator import Orchestrator, step, workflow

#: Lists: one entry for each body that was entered, and for each worker that takes messages.
BEGUN = "benchmark:begun"
READY = "benchmark:ready"
#: A key: once it is there, bodies that hold go on.
GO = "benchmark:go"
#: A body that nobody lets go ends by itself, should the benchmark have died.
HOLD_S_MAX = 120.0

app = Celery("takeover", broker=URL)
app.conf.update(SETTINGS)
orc = Orchestrator(app)


@worker_ready.connect
def _report(**_: object) -> None:
    with redis.Redis.from_url(URL, protocol=2) as client:
        client.rpush(READY, os.getpid())


@app.task
def hold(name: str) -> None:
    """Hold the first attempt until the benchmark lets it go; end every other at once."""
    info = step.current()
    assert info is not None
    with redis.Redis.from_url(URL, protocol=2) as client:
        entry = {"name": name, "attempt": info.attempt, "at_s": time.time()}
        client.rpush(BEGUN, json.dumps(entry))
        give_up_at = time.monotonic() + HOLD_S_MAX
        while info.attempt == 1 and not client.exists(GO) and time.monotonic() < give_up_at:
            time.sleep(0.05)


@orc.workflow
async def holding(name: str) -> None:
    """Order one step that holds, under the default retry policy."""
    await workflow.step(hold, name)


@orc.workflow
async def ticking(pause_ms: int) -> None:
    """Put one event after the other into the history, until terminated."""
    while True:
        await asyncio.sleep(pause_ms / 1000)


@orc.workflow
async def waiting() -> None:
    """Wait for a signal that nobody sends."""
    await workflow.signal("never")


@orc.workflow
async def sleeping(seconds: float) -> None:
    """Sleep once."""
    await asyncio.sleep(timedelta(seconds=seconds).total_seconds())
