"""Handles on one step: what they send, an orchestrator records."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.core.errors import RunNotFound, UsageError
from orchestrator.store.memory import MemoryStore


async def charging() -> Any:
    return await workflow.step("shop.charge")


@pytest.fixture
def orc() -> Iterator[Orchestrator]:
    """An app whose orchestrator runs in a thread, over a store in memory; it has no worker."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    orc = Orchestrator(app, store=MemoryStore())
    orc.workflow(charging)
    stop = threading.Event()
    thread = threading.Thread(target=orc.engine().run, args=(stop,))
    thread.start()
    yield orc
    stop.set()
    thread.join()
    app.close()


def test_decisions_of_both_handles_are_events_with_reason_and_name(orc: Orchestrator) -> None:
    handle = orc.get_workflow("charging").start(id="c-1")
    handle.query("stack", timeout=30)
    handle.step(1).pause(reason="bank is down", by="ana")

    async def let_go_on() -> None:
        step = handle.aio.step(1)
        await step.unpause(by="bob")
        await step.pause()
        await step.reset()
        await step.unpause()

    asyncio.run(let_go_on())
    handle.step(1).reset(reason="again")
    handle.query("stack", timeout=30)
    names = ["Paused", "Unpaused", "Paused", "Reset", "Unpaused", "Reset"]
    found = [each for each in handle.history() if each.type != "StepResent"][2:]
    assert [each.type for each in found] == [f"Step{name}" for name in names]
    first: Any = found[0].event
    assert (first.step, first.attempt, first.reason, first.by) == (1, 1, "bank is down", "ana")
    assert handle.verify()


def test_step_of_no_run_and_step_of_no_number_are_refused(orc: Orchestrator) -> None:
    with pytest.raises(RunNotFound):
        orc.run("nobody").step(1).pause()
    with pytest.raises(UsageError, match="numbered from 1"):
        orc.run("nobody").step(0)
