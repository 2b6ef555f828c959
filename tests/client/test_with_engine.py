"""The client and the engine together: what one posts, the other answers."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.core.errors import (
    ApplicationError,
    InvalidPayload,
    RunClosed,
    UnknownQuery,
    WorkflowFailed,
)
from orchestrator.core.retry import Retry
from orchestrator.store.memory import MemoryStore


async def greeting(name: str) -> str:
    asked: list[str] = []

    @workflow.on_query("asked")
    def on_asked() -> list[str]:
        return asked

    workflow.publish({"waits_for": "word"})
    while True:
        word: str = await workflow.signal("word", str)
        if word == "stop":
            return f"{name}: {' '.join(asked)}"
        asked.append(word)


async def eager(least: int) -> int:
    attempt = workflow.info().attempt
    if attempt < least:
        raise ApplicationError(f"attempt {attempt}")
    return attempt


@pytest.fixture
def orc() -> Iterator[Orchestrator]:
    """An app whose orchestrator runs in a thread, over a store in memory."""
    app = Celery("greetings", broker="memory://", set_as_current=False)
    orc = Orchestrator(app, store=MemoryStore())
    orc.workflow(greeting)
    orc.workflow(eager)
    stop = threading.Event()
    thread = threading.Thread(target=orc.engine().run, args=(stop,))
    thread.start()
    yield orc
    stop.set()
    thread.join()
    app.close()


def test_run_is_started_written_to_asked_and_read(orc: Orchestrator) -> None:
    handle = orc.get_workflow("greeting").start("ana", id="g-1")
    handle.signal("word", "hello")
    assert handle.query("asked", timeout=30) == ["hello"]
    assert handle.state() == {"waits_for": "word"}
    assert "signal" in str(handle.query("stack", timeout=30))
    with pytest.raises(UnknownQuery, match=r"answers no query 'aksed'; known: .*asked"):
        handle.query("aksed", timeout=30)
    handle.signal("word", "stop")
    assert handle.result(timeout=30) == "ana: hello"
    assert handle.status() == "completed"
    assert handle.verify()
    with pytest.raises(RunClosed):
        handle.signal("word", "again")


def test_cancelled_run_raises_with_its_reason(orc: Orchestrator) -> None:
    handle = orc.get_workflow("greeting").start("ana", id="g-1")
    handle.cancel("nobody is there")
    with pytest.raises(WorkflowFailed, match="nobody is there") as caught:
        handle.result(timeout=30)
    assert caught.value.status == "cancelled"


def test_query_with_arguments_it_does_not_take_is_refused(orc: Orchestrator) -> None:
    handle: Any = orc.get_workflow("greeting").start("ana", id="g-1")
    with pytest.raises(InvalidPayload):
        handle.query("asked", 1, timeout=30)


def test_run_whose_time_is_over_has_failed_with_a_workflow_timeout(orc: Orchestrator) -> None:
    soon = orc.get_workflow("greeting").options(run_timeout=timedelta(milliseconds=1))
    handle = soon.start("ana", id="g-timeout")
    with pytest.raises(WorkflowFailed) as caught:
        handle.result(timeout=30)
    assert caught.value.failure is not None
    assert (caught.value.status, caught.value.failure.type) == ("failed", "WorkflowTimeout")


def test_result_of_a_run_that_is_attempted_again_is_the_last_attempts(orc: Orchestrator) -> None:
    eager_workflow = orc.get_workflow("eager")
    soon = Retry(attempts=3, initial=timedelta(milliseconds=1))
    handle = eager_workflow.options(retry=soon).start(3, id="r-1")
    assert handle.result(timeout=30) == 3
    assert (handle.run, handle.status(), handle.describe().is_retried) == (1, "failed", True)
    refused = eager_workflow.options(retry=soon).start(9, id="r-2")
    with pytest.raises(WorkflowFailed, match="attempt 3"):
        refused.result(timeout=30)
