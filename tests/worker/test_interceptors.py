"""Interceptors stand around the bodies of steps, in workers and in the orchestrator alike."""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from orchestrator import step
from orchestrator.blobs import DirectoryBlobs
from orchestrator.core.errors import ApplicationError
from orchestrator.core.interceptors import ExecuteStep, Interceptor
from orchestrator.core.values import Json
from orchestrator.engine.ports import Outgoing
from orchestrator.local import ThreadedLocalRunner
from orchestrator.payloads import PydanticCodec
from orchestrator.sealing.parts import CLEAR_IN_BODIES
from orchestrator.store.ports import AttemptKey
from orchestrator.worker.header import encode_arguments, read_headers, write_header
from tests.worker.stage import Stage

KEY = AttemptKey(workflow_id="order", run=1, step=1, attempt=1)


class Watching(Interceptor):
    """Notes what passes, and doubles the first argument."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def execute_step(self, call: ExecuteStep, proceed: Callable[[ExecuteStep], Any]) -> Any:
        self.seen.append((call.task, call.attempt, dict(call.headers)))
        try:
            result = proceed(replace(call, args=[call.args[0] * 2, *call.args[1:]]))
        except BaseException as error:
            self.seen.append(type(error).__name__)
            raise
        self.seen.append(result)
        return result


class Refusing(Interceptor):
    def execute_step(self, call: ExecuteStep, proceed: Callable[[ExecuteStep], Any]) -> Any:
        raise ApplicationError("not on this machine", type="Refused")


def test_it_sees_call_headers_and_result_and_may_change_the_arguments(tmp_path: Path) -> None:
    watching = Watching()
    stage = Stage(tmp_path, watching)

    def body(number: int) -> list[Any]:
        info = step.current()
        assert info is not None
        return [number, dict(info.headers)]

    headers = {"trace": "t-1"}
    assert stage.run(body, 4, headers=headers) == [8, headers]
    assert watching.seen == [("tasks.body", 1, headers), [8, headers]]
    assert stage.outcome["result"] == [8, headers]


def test_it_sees_the_result_of_a_coroutine_and_the_exception_of_a_body(tmp_path: Path) -> None:
    watching = Watching()
    stage = Stage(tmp_path, watching)

    async def body(number: int) -> int:
        await asyncio.sleep(0)
        return number

    assert stage.run(body, 3) == 6
    with pytest.raises(ZeroDivisionError):
        stage.run(lambda number: 1 // (number - number), 1, number=2)
    assert watching.seen[1::2] == [6, "ZeroDivisionError"]


def test_what_it_raises_fails_the_attempt(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Refusing())
    ran: list[int] = []
    with pytest.raises(ApplicationError, match="not on this machine"):
        stage.run(lambda: ran.append(1))
    assert ran == []
    assert stage.outcome["kind"] == "failed"
    assert stage.outcome["failure"]["type"] == "Refused"


def test_headers_that_nobody_can_read_refuse_the_attempt_and_say_so(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with pytest.raises(Exception, match="no object"):
        stage.run(lambda: 1, header={"headers": "[1]"})
    assert "no object" in stage.outcome["failure"]["message"]


def test_headers_travel_sealed_where_payloads_do() -> None:
    outgoing = Outgoing(
        key=KEY, task="t", args=[], kwargs={}, idempotency_key="k", headers={"trace": "secret"}
    )

    def seal(text: str) -> str:
        return text[::-1]

    written = write_header(outgoing, encode_arguments(outgoing), seal)
    assert "secret" not in written
    assert read_headers({"headers": '{"trace":"secret"}'[::-1]}, seal) == {"trace": "secret"}
    assert "headers" not in CLEAR_IN_BODIES


def double(number: int) -> int:
    return number * 2


async def slowly(number: int) -> list[Any]:
    await asyncio.sleep(0)
    info = step.current()
    assert info is not None
    return [number, dict(info.headers), threading.current_thread().name]


CLEANED = threading.Event()
BEGUN = threading.Event()


async def endless(number: int) -> None:
    try:
        BEGUN.set()
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.05)
        CLEANED.set()


class Local:
    def __init__(self, directory: Path) -> None:
        self.watching = Watching()
        self.done: queue.Queue[Mapping[str, Json]] = queue.Queue()
        self.runner = ThreadedLocalRunner(
            Celery("shop", set_as_current=False),
            PydanticCodec(),
            DirectoryBlobs(directory),
            threads_max=2,
            interceptors=[self.watching],
        )

    def submit(self, name: str) -> None:
        outgoing = Outgoing(
            key=KEY,
            task=f"{__name__}.{name}",
            args=[4],
            kwargs={},
            idempotency_key="k",
            headers={"trace": "t-1"},
        )
        self.runner.submit(outgoing, self.done.put)

    def body(self) -> dict[str, Any]:
        return dict(self.done.get(timeout=20))


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    made = Local(tmp_path)
    yield made
    made.runner.close()
    assert made.done.empty(), "a step ended twice"


def test_local_functions_and_coroutines_pass_it_too(local: Local) -> None:
    local.submit("double")
    assert local.body() == {"kind": "completed", "result": 16}
    local.submit("slowly")
    assert local.body()["result"] == [8, {"trace": "t-1"}, "orchestrator-local-loop"]
    assert local.watching.seen[0] == (f"{__name__}.double", 1, {"trace": "t-1"})
    assert local.watching.seen[1] == 16


def test_a_local_coroutine_that_is_cancelled_cleans_up_before_its_outcome(local: Local) -> None:
    local.submit("endless")
    assert BEGUN.wait(20)
    local.runner.cancel(KEY)
    assert local.body()["kind"] == "cancelled"
    assert CLEANED.is_set()
    assert local.watching.seen[1] == "CancelledError"
