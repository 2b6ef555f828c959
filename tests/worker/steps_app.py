"""A Celery app as its users write them; the workers of these tests run it.

What the bodies did is told in a Redis list, from outside of everything that is tested.
"""

import asyncio
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from celery import Celery, Task
from pydantic import BaseModel
from redis import Redis

from orchestrator import step
from orchestrator.blobs import DirectoryBlobs
from orchestrator.payloads import PydanticCodec
from orchestrator.store.connect import connect
from orchestrator.store.redis import RedisStore
from orchestrator.worker import install, recommended_settings
from orchestrator.worker.protocol import StepProtocol

URL = os.environ["STEPS_URL"]
DIARY = "diary"

app = Celery("steps", broker=os.environ.get("STEPS_BROKER", URL))
app.conf.update(recommended_settings(), task_ignore_result=True)
if os.environ.get("STEPS_PREFETCH"):
    app.conf.worker_disable_prefetch = False
    app.conf.worker_prefetch_multiplier = int(os.environ["STEPS_PREFETCH"])
if os.environ.get("STEPS_POOL_START"):
    app.conf.worker_pool_start_method = os.environ["STEPS_POOL_START"]


def protocol() -> StepProtocol:
    store = RedisStore(connect(URL), direct_queues=True)
    return StepProtocol(store, DirectoryBlobs(os.environ["STEPS_BLOBS"]), PydanticCodec())


install(app, protocol)


def note(line: str) -> None:
    Redis.from_url(URL).rpush(DIARY, line)


class Order(BaseModel):
    id: str
    total: int
    due: date | None = None


class Audited(Task):
    """A base class with a `__call__` of its own, as tracing libraries and users write them."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        note(f"audited {self.name} {len(args)}")
        return super().__call__(*args, **kwargs)


@app.task
def add(left: int, right: int = 0) -> int:
    note(f"add {left} {right}")
    return left + right


@app.task
def total(order: Order, factor: int = 1) -> dict[str, Any]:
    return {"total": order.total * factor, "type": type(order).__name__, "due": str(order.due)}


@app.task(pydantic=True)
def own_total(order: Order) -> Order:
    return Order(id=order.id, total=order.total + 1)


@app.task(base=Audited)
def audited(value: int) -> int:
    return value


@app.task
async def aio(value: int) -> dict[str, Any]:
    await asyncio.sleep(0)
    info = step.current()
    return {"value": value, "key": info.idempotency_key if info else None}


@app.task
async def aio_sleep() -> None:
    note("aio begins")
    try:
        await asyncio.sleep(60)
    finally:
        note("aio cleans up")


@app.task
def fail(message: str) -> None:
    raise ValueError(message)


@app.task(bind=True, max_retries=3)
def again(self: Any) -> None:
    note("again")
    raise self.retry(exc=ConnectionError("busy"), countdown=7)


@app.task(autoretry_for=(ConnectionError,), retry_backoff=False, default_retry_delay=9)
def auto_again() -> None:
    raise ConnectionError("busy as well")


@app.task
def big(count: int) -> str:
    return "x" * count


@app.task
def a_set() -> set[int]:
    return {1}


@app.task
def in_c_code(seconds: float) -> str:
    """Hold the GIL for long, as numerical code does."""
    note(f"in C {os.getpid()}")
    # One call into C that never gives the GIL back while it runs.
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(30_000_000))
    return "done"


@app.task
def nap(seconds: float) -> str:
    note(f"nap {os.getpid()}")
    time.sleep(seconds)
    note("nap over")
    return "rested"


@app.task
def stubborn(seconds: float) -> str:
    """Wait for a cancellation the cooperative way."""
    note(f"stubborn {os.getpid()}")
    until = time.monotonic() + seconds
    while time.monotonic() < until and not step.is_cancelled():
        time.sleep(0.02)
    return "told to stop" if step.is_cancelled() else "ran out"


@app.task
def beats() -> None:
    note("beats")
    while True:
        step.heartbeat({"at": 1})
        time.sleep(0.05)


@app.task
def details() -> Any:
    info = step.current()
    assert info is not None
    step.heartbeat({"batch": info.attempt})
    if info.attempt == 1:
        raise ValueError("first")
    return info.details


@app.task(time_limit=1)
def too_long() -> None:
    note("too long")
    time.sleep(60)


@app.task(soft_time_limit=1)
def soft_limited() -> None:
    time.sleep(60)


@app.task
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True, reject_on_worker_lost=True)
def killed_and_requeued() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def leaves() -> None:
    sys.exit(3)


@app.task
def digest(rounds: int) -> str:
    return hashlib.pbkdf2_hmac("sha256", b"x", b"y", rounds).hex()


def added_late() -> Callable[..., Any]:
    @app.task(name="late")
    def late() -> str:
        return "late"

    return late  # type: ignore[no-any-return]


@app.task
def hands_over(seconds: float) -> str:
    with step.handing_over():
        note(f"working {os.getpid()}")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if step.is_stopping():
                return "handed over"
            time.sleep(0.02)
    return "ran out"
