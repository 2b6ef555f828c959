"""Promise: a local step runs inside the orchestrator like any other, and ends exactly once."""

import asyncio
import queue
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pydantic import BaseModel

from orchestrator import step
from orchestrator.blobs import DirectoryBlobs
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.limits import INLINE_BYTES_MAX
from orchestrator.core.values import Json
from orchestrator.engine.ports import Outgoing
from orchestrator.local import ThreadedLocalRunner
from orchestrator.payloads import PydanticCodec
from orchestrator.store.ports import AttemptKey


class Amount(BaseModel):
    cents: int


def plain(amount: Amount) -> dict[str, Any]:
    info = step.current()
    assert info is not None
    return {"cents": amount.cents, "key": info.idempotency_key}


class Prices:
    @staticmethod
    def double(cents: int) -> int:
        return 2 * cents


async def aio(cents: int) -> dict[str, Any]:
    await asyncio.sleep(0)
    info = step.current()
    assert info is not None
    return {"cents": cents, "thread": threading.current_thread().name}


GATE = threading.Event()


def waits() -> str:
    while not step.is_cancelled():
        GATE.wait(0.01)
    step.heartbeat()
    return "never"


async def sleeps() -> None:
    GATE.set()
    await asyncio.sleep(60)


class Runner:
    """A runner, and the outcomes it told."""

    def __init__(self, directory: Path) -> None:
        self.app = Celery("shop", set_as_current=False)
        self.blobs = DirectoryBlobs(directory)
        self.runner = ThreadedLocalRunner(self.app, PydanticCodec(), self.blobs, threads_max=2)
        self.done: queue.Queue[tuple[int, Mapping[str, Json]]] = queue.Queue()

    def submit(self, task: str, *args: Json, number: int = 1) -> AttemptKey:
        key = AttemptKey(workflow_id="order", run=1, step=number, attempt=1)
        outgoing = Outgoing(
            key=key, task=task, args=list(args), kwargs={}, idempotency_key=f"order.1.{number}"
        )
        self.runner.submit(outgoing, lambda body: self.done.put((number, body)))
        return key

    def body(self) -> dict[str, Any]:
        return dict(self.done.get(timeout=20)[1])


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Runner]:
    made = Runner(tmp_path)
    GATE.clear()
    yield made
    made.runner.close()
    assert made.done.empty(), "a step ended twice"


def test_function_runs_in_a_thread_with_its_step(local: Runner) -> None:
    local.submit(f"{__name__}.plain", {"cents": 5})
    assert local.body() == {"kind": "completed", "result": {"cents": 5, "key": "order.1.1"}}


def test_coroutine_runs_on_the_loop(local: Runner) -> None:
    local.submit(f"{__name__}.aio", 5)
    assert local.body()["result"] == {"cents": 5, "thread": "orchestrator-local-loop"}


def test_registry_that_cannot_be_read_fails_the_attempt_and_the_next_one_may_run(
    local: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_app: Celery) -> Any:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(Celery, "tasks", property(broken))
    local.submit("shop.price", 5)
    body = local.body()
    assert (body["kind"], body["ran"]) == ("failed", False)
    assert body["failure"]["type"] == "RuntimeError"
    monkeypatch.undo()
    local.submit(f"{__name__}.plain", {"cents": 5})
    assert local.body()["kind"] == "completed"


def test_task_of_the_app_is_found_by_its_name(local: Runner) -> None:
    @local.app.task(name="shop.price", bind=True, shared=False)
    def price(self: Any, cents: int) -> int:
        assert self.name == "shop.price"
        return cents + 1

    local.submit("shop.price", 5)
    assert local.body()["result"] == 6


def test_function_inside_a_class_is_found(local: Runner) -> None:
    local.submit(f"{__name__}.Prices.double", 5)
    assert local.body()["result"] == 10


@pytest.mark.parametrize(
    "name", ["nowhere", "nowhere.at_all", f"{__name__}.gone", f"{__name__}.GATE"]
)
def test_name_that_is_nothing_fails_before_it_ran(local: Runner, name: str) -> None:
    local.submit(name)
    body = local.body()
    assert (body["kind"], body["ran"]) == ("failed", False)


def test_failure_is_told(local: Runner) -> None:
    local.submit(f"{__name__}.Prices.double")
    assert local.body()["failure"]["type"] == "TypeError"


def test_large_result_travels_by_reference(local: Runner) -> None:
    local.submit("operator.mul", "x", INLINE_BYTES_MAX)
    ref = find_blob_ref(local.body()["result"])
    assert ref is not None
    assert local.blobs.get(ref) == "x" * INLINE_BYTES_MAX


def test_function_told_to_stop_is_cancelled(local: Runner) -> None:
    local.runner.cancel(local.submit(f"{__name__}.waits"))
    assert local.body()["kind"] == "cancelled"


def test_coroutine_told_to_stop_is_cancelled(local: Runner) -> None:
    key = local.submit(f"{__name__}.sleeps")
    assert GATE.wait(20)
    local.runner.cancel(key)
    assert local.body()["kind"] == "cancelled"


def test_step_that_waits_for_a_thread_can_be_cancelled_before_it_began(local: Runner) -> None:
    blockers = [local.submit(f"{__name__}.waits", number=number) for number in (2, 3)]
    key = local.submit(f"{__name__}.plain", {"cents": 5})
    local.runner.cancel(key)
    for blocker in blockers:
        local.runner.cancel(blocker)
    bodies = dict(local.done.get(timeout=20) for _ in range(3))
    assert bodies[1]["kind"] == "cancelled"
    assert bodies[1]["ran"] is False


def test_close_ends_every_step(tmp_path: Path) -> None:
    local = Runner(tmp_path)
    GATE.clear()
    local.submit(f"{__name__}.waits", number=1)
    local.submit(f"{__name__}.sleeps", number=2)
    assert GATE.wait(20)
    local.runner.close()
    local.submit(f"{__name__}.plain", {"cents": 1}, number=3)
    bodies = dict(local.done.get(timeout=20) for _ in range(3))
    assert {body["kind"] for body in bodies.values()} == {"cancelled"}
    assert bodies[3]["ran"] is False
