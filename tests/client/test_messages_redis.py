"""Updates, starts with a message, messages between runs: a real Valkey and a real engine."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.core.errors import WorkflowUpdateRejected
from tests.client.test_updates import till
from tests.servers import valkey_server, valkey_url

__all__ = ["valkey_server", "valkey_url"]

pytestmark = pytest.mark.redis


async def messenger(id: str) -> list[Any]:
    other = workflow.external(id)
    await other.signal("close")
    return [await other.result(int)]


@pytest.fixture
def orc(valkey_url: str) -> Iterator[Orchestrator]:
    app = Celery("shop", broker=valkey_url, set_as_current=False)
    orc = Orchestrator(app)
    orc.workflow(till)
    orc.workflow(messenger)
    stop = threading.Event()
    thread = threading.Thread(target=orc.engine().run, args=(stop,))
    thread.start()
    yield orc
    stop.set()
    thread.join()
    orc.close()
    app.close()


def test_update_is_accepted_rejected_and_found_again(orc: Orchestrator) -> None:
    handle = orc.get_workflow("till").start(5, id="t")
    assert handle.update("add", 2, id="u", timeout=30) == 7
    assert handle.update("add", 2, id="u", timeout=30) == 7
    with pytest.raises(WorkflowUpdateRejected, match="nothing is taken out"):
        handle.update("add", -1, timeout=30)
    assert asyncio.run(orc.aio.run("t").update("add", 1, timeout=30)) == 8
    assert handle.verify()


def test_starts_with_a_message_and_messages_between_runs(orc: Orchestrator) -> None:
    tills = orc.get_workflow("till")
    assert tills.execute_update_with_start("add", 1, id="t", args=[10], timeout=30) == 11
    assert tills.execute_update_with_start("add", 1, id="t", args=[10], timeout=30) == 12
    sender = orc.get_workflow("messenger").start("t", id="m")
    assert sender.result(timeout=30) == [12]
    assert orc.run("t").result(timeout=30) == 12
    again = tills.signal_with_start("close", id="t", args=[3])
    assert (again.run, again.result(timeout=30)) == (2, 3)
