"""Promise: with log and broker on two servers, every message goes through the outbox (P1)."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from orchestrator import Orchestrator
from orchestrator.embedded import EmbeddedServer
from tests.acceptance.child import ROOT, Child
from tests.acceptance.waiting import eventually

APP = """
from celery import Celery
from orchestrator import Orchestrator, workflow
app = Celery("elsewhere", broker="{broker}")
orc = Orchestrator(app, store="{store}", blobs="{blobs}")

@app.task
def double(number):
    return number * 2

@orc.workflow
async def eight(start: int) -> int:
    for _ in range(3):
        start = await workflow.step(double, start)
    return start
"""


async def eight(start: int) -> int:
    """The client's idea of the workflow: its input."""
    raise NotImplementedError


class Elsewhere:
    """Two servers, and an app that keeps its log on one and its messages on the other."""

    def __init__(self, directory: Path, broker: EmbeddedServer, store: EmbeddedServer) -> None:
        self.directory = directory
        self.broker = broker
        self.children: list[Child] = []
        text = APP.format(broker=broker.url, store=store.url, blobs=directory / "blobs")
        (directory / "elsewhere.py").write_text(text)
        celery = Celery("client", broker=broker.url, set_as_current=False)
        self.orc = Orchestrator(celery, store=store.url)
        self.workflow = self.orc.workflow(name="eight")(eight)

    def spawn(self, *arguments: str) -> Child:
        command = [sys.executable, "-m", "celery", "-A", "elsewhere", *arguments]
        paths = os.pathsep.join((str(self.directory), str(ROOT)))
        environment = {**os.environ, "PYTHONPATH": paths}
        child = Child(f"{len(self.children)}-{arguments[0]}", command, environment, self.directory)
        self.children.append(child)
        return child


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    with (
        EmbeddedServer(tmp_path / "broker") as broker,
        EmbeddedServer(tmp_path / "store") as store,
    ):
        stack = Elsewhere(tmp_path, broker, store)
        yield stack
        for child in stack.children:
            child.end()
        stack.orc.close()


def test_steps_travel_through_the_outbox_and_survive_the_broker_and_the_orchestrator(
    elsewhere: Elsewhere,
) -> None:
    orchestrator = elsewhere.spawn("orchestrator")
    handle = elsewhere.workflow.start(1, id="first")
    eventually(lambda: len(handle.history()) >= 2, "the first step is scheduled")
    # Nothing takes the message yet; the broker is away, and so is the orchestrator that sent it.
    elsewhere.broker.kill()
    second = elsewhere.workflow.start(2, id="second")
    eventually(lambda: len(second.history()) >= 2, "the log goes on without the broker")
    orchestrator.kill()
    elsewhere.broker.start()
    elsewhere.spawn("orchestrator")
    elsewhere.spawn("worker", "-c", "1", "-l", "INFO")
    assert handle.result(timeout=45) == 8
    assert second.result(timeout=45) == 16
    for each in (handle, second):
        assert each.verify()
        names: list[Any] = [type(event.event).__name__ for event in each.history()]
        assert names.count("StepCompleted") == 3, json.dumps(names)
