"""The same client over a real Valkey, blocking and on an event loop: one behaviour, two ways."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from celery import Celery

from orchestrator.app import Orchestrator
from orchestrator.core.errors import QueryTimeout, RunExists, RunNotFound
from orchestrator.store.ports import Kind
from tests.servers import valkey_server, valkey_url

__all__ = ["valkey_server", "valkey_url"]

pytestmark = pytest.mark.redis


async def transfer(amount: int) -> int:
    return amount


@pytest.fixture
def orc(valkey_url: str) -> Iterator[Orchestrator]:
    app = Celery("shop", broker=valkey_url, set_as_current=False)
    orc = Orchestrator(app)
    orc.workflow(transfer)
    yield orc
    orc.close()


def test_blocking_client_starts_writes_and_reads(orc: Orchestrator) -> None:
    handle = orc.get_workflow("transfer").start(5, id="t-1")
    with pytest.raises(RunExists):
        orc.get_workflow("transfer").start(5, id="t-1")
    handle.signal("go", {"n": 1})
    handle.cancel("enough")
    assert handle.status() == "pending"
    assert handle.history() == []
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.05)
    with pytest.raises(QueryTimeout):
        handle.query("stack", timeout=0.05)
    with pytest.raises(RunNotFound):
        orc.run("t-2").cancel()
    assert [run.workflow_id for run in orc.list()] == ["t-1"]
    taken = orc.store.take_inbox(
        dict.fromkeys(range(orc.store.partitions), "0"), count=10, block_ms=0
    )
    kinds = [entry.kind for entries in taken.values() for entry in entries]
    assert kinds == [Kind.START, Kind.SIGNAL, Kind.CANCEL, Kind.QUERY]


def test_asyncio_client_does_the_same_on_every_loop(orc: Orchestrator) -> None:
    async def main(workflow_id: str) -> None:
        handle = await orc.get_workflow("transfer").aio.start(5, id=workflow_id)
        await handle.signal("go", 1)
        assert await handle.status() == "pending"
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.05)
        with pytest.raises(QueryTimeout):
            await handle.query("stack", timeout=0.05)
        with pytest.raises(RunNotFound):
            await orc.aio.run("t-0").cancel()
        assert workflow_id in {run.workflow_id for run in await orc.aio.list()}
        await orc.aio.close()

    asyncio.run(main("t-1"))
    asyncio.run(main("t-2"))


def test_asyncio_wait_for_a_result_leaves_the_loop_free(orc: Orchestrator) -> None:
    async def main() -> int:
        handle = await orc.get_workflow("transfer").aio.start(5, id="t-1")
        waiting = asyncio.create_task(handle.result(timeout=30))
        turns = 0
        while not waiting.done() and turns < 100:
            await asyncio.sleep(0)
            turns += 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await orc.aio.close()
        return turns

    assert asyncio.run(main()) == 100


def test_one_orchestrator_serves_many_threads(orc: Orchestrator) -> None:
    workflow = orc.get_workflow("transfer")
    threads = [
        threading.Thread(target=workflow.start, args=(n,), kwargs={"id": f"t-{n}"})
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run.workflow_id for run in orc.list()} == {f"t-{n}" for n in range(8)}
