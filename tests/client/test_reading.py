"""What a client reads is what the store holds, and a history that was touched is found out."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.blobs import DirectoryBlobs
from orchestrator.client.connection import Connection
from orchestrator.client.handle import RunHandle
from orchestrator.client.messages import Target
from orchestrator.client.verifying import verify_chain
from orchestrator.client.workflow import Workflow
from orchestrator.core import events as e
from orchestrator.core.blobs import BlobRef
from orchestrator.core.errors import (
    InvalidPayload,
    RunNotFound,
    StoreUnavailable,
    WorkflowFailed,
)
from orchestrator.core.failure import Failure
from orchestrator.core.values import canonical, next_head
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import RunKey, StoredEvent
from tests.client.runs import Recorder

Order = Workflow[Any, Any]


class OrderState(BaseModel):
    status: str


@pytest.fixture
def handle(order_workflow: Order, recorder: Recorder) -> RunHandle[Any]:
    handle = order_workflow.start(120, id="order-42")
    recorder.started("order-42")
    return handle


def latest(connection: Connection, workflow_id: str, run: int = 0) -> RunHandle[Any]:
    return RunHandle(connection.sessions, Target(workflow_id=workflow_id, run=run))


def test_result_is_of_the_type_that_the_workflow_declares(
    handle: RunHandle[Any], recorder: Recorder
) -> None:
    recorder.completed("order-42", {"total": 120})
    result = handle.result()
    assert type(result).__name__ == "Receipt"
    assert result.total == 120


def test_result_of_an_unknown_workflow_is_plain_json(
    connection: Connection, store: MemoryStore, recorder: Recorder
) -> None:
    store.start("x-1", request_id="r", body={"workflow": "elsewhere", "args": [], "kwargs": {}})
    recorder.started("x-1", workflow="elsewhere")
    recorder.completed("x-1", {"total": 1})
    assert latest(connection, "x-1").result() == {"total": 1}


def test_result_waits_for_the_end_of_the_run(handle: RunHandle[Any], recorder: Recorder) -> None:
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(handle.result(timeout=30)))
    reader.start()
    recorder.completed("order-42", {"total": 7})
    reader.join()
    assert found[0].total == 7


def test_result_that_does_not_come_in_time_leaves_the_run_alone(handle: RunHandle[Any]) -> None:
    with pytest.raises(TimeoutError, match="order-42 run 1 is running"):
        handle.result(timeout=0.01)
    assert handle.status() == "running"


def test_result_of_a_failed_run_raises_its_failure(
    handle: RunHandle[Any], recorder: Recorder
) -> None:
    failure = Failure(type="CardRefused", message="no funds")
    text = canonical(failure.as_json()).decode()
    event = e.RunFailed(at_ms=2_000, failure=failure)
    recorder.record("order-42", event, status="failed", failure=text, closed_at_ms="2000")
    with pytest.raises(WorkflowFailed, match="CardRefused: no funds") as caught:
        handle.result()
    assert caught.value.status == "failed"
    assert caught.value.failure == failure


def test_large_result_is_fetched_from_the_blob_store(
    handle: RunHandle[Any], recorder: Recorder, tmp_path: Any
) -> None:
    ref: BlobRef = DirectoryBlobs(tmp_path).put({"total": 5})
    recorder.completed("order-42", ref.as_json())
    assert handle.result().total == 5


def test_result_that_no_longer_fits_the_declared_type_says_where(
    handle: RunHandle[Any], recorder: Recorder
) -> None:
    recorder.completed("order-42", {"total": "secret"})
    with pytest.raises(InvalidPayload, match="total: ") as caught:
        handle.result()
    assert "secret" not in str(caught.value)


def test_unknown_run_is_named(connection: Connection) -> None:
    for read in ("result", "status", "state", "history", "verify"):
        with pytest.raises(RunNotFound, match="order-43"):
            getattr(latest(connection, "order-43"), read)()


def test_reader_sits_out_a_restart_of_the_store(
    handle: RunHandle[Any],
    recorder: Recorder,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder.completed("order-42", {"total": 7})
    real, outages = store.find_row, 20

    def away(workflow_id: str) -> Any:
        nonlocal outages
        if outages:
            outages -= 1
            raise StoreUnavailable("find_row", "connection refused")
        return real(workflow_id)

    monkeypatch.setattr(store, "find_row", away)
    for module in ("session", "reading"):
        monkeypatch.setattr(f"orchestrator.client.{module}.RESEND_PAUSE_MS", 0)
    assert handle.result().total == 7
    assert outages == 0


def test_handle_of_an_earlier_run_keeps_to_it(
    order_workflow: Order, handle: RunHandle[Any], recorder: Recorder, connection: Connection
) -> None:
    recorder.completed("order-42", {"total": 1})
    second = order_workflow.start(2, id="order-42")
    recorder.started("order-42", run=2)
    assert (handle.run, second.run) == (1, 2)
    assert handle.result().total == 1
    earlier = handle.describe()
    assert (earlier.status, earlier.run, earlier.seq) == ("completed", 1, 2)
    assert latest(connection, "order-42").describe().run == 2
    assert latest(connection, "order-42", 1).verify()


def test_state_is_what_the_run_published_last(handle: RunHandle[Any], recorder: Recorder) -> None:
    assert handle.state() is None
    recorder.record("order-42", state='{"status":"shipped"}')
    assert handle.state() == {"status": "shipped"}
    assert handle.state(OrderState) == OrderState(status="shipped")
    with pytest.raises(InvalidPayload, match="state of order-42"):
        handle.state(int)


def test_description_tells_why_a_run_is_blocked(handle: RunHandle[Any], recorder: Recorder) -> None:
    recorder.record("order-42", status="blocked", blocked="bug: KeyError: 'sku'")
    summary = handle.describe()
    assert (summary.status, summary.blocked) == ("blocked", "bug: KeyError: 'sku'")
    assert not summary.is_closed


def test_history_is_numbered_from_one_and_decoded(
    handle: RunHandle[Any], recorder: Recorder
) -> None:
    recorder.completed("order-42", {"total": 1})
    history = handle.history()
    assert [(each.seq, each.type) for each in history] == [(1, "RunStarted"), (2, "RunCompleted")]
    assert history[0].at.year == 1970


def test_untouched_history_verifies(handle: RunHandle[Any], recorder: Recorder) -> None:
    recorder.completed("order-42", {"total": 1})
    found = handle.verify()
    assert found
    assert (found.events, found.bad_seq, found.reason) == (2, None, "")


def test_pending_run_has_an_empty_history_that_verifies(order_workflow: Order) -> None:
    handle = order_workflow.start(1, id="order-42")
    assert handle.history() == []
    assert handle.verify()


def test_changed_removed_swapped_and_added_events_are_found(
    handle: RunHandle[Any], recorder: Recorder, store: MemoryStore
) -> None:
    timers = [e.TimerStarted(at_ms=1_500, timer=n, duration_ms=1) for n in (1, 2, 3)]
    recorder.record("order-42", *timers)
    key = RunKey(workflow_id="order-42", run=1)
    good = store.read_history(key)
    assert verify_chain(key, good)
    changed = [*good[:2], replace(good[2], data=good[2].data.replace(b"2", b"9", 1)), *good[3:]]
    assert verify_chain(key, changed).bad_seq == 3
    assert verify_chain(key, [*good[:1], *good[2:]]).bad_seq == 2
    assert verify_chain(key, [good[0], good[2], good[1], good[3]]).bad_seq == 2
    assert verify_chain(key, [*good, replace(good[3], seq=5)]).bad_seq == 5
    assert verify_chain(key, [*good[:3], replace(good[3], seq=9)]).bad_seq == 4
    assert verify_chain(RunKey(workflow_id="order-43", run=1), good).bad_seq == 1


def test_history_cut_off_at_its_end_is_found_by_the_row(
    handle: RunHandle[Any], recorder: Recorder, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.completed("order-42", {"total": 1})
    real = store.read_history
    monkeypatch.setattr(store, "read_history", lambda key, **bounds: real(key, **bounds)[:-1])
    found = handle.verify()
    assert (found.events, found.bad_seq) == (1, 2)


def test_forged_end_that_is_chained_anew_is_found_by_the_row(
    handle: RunHandle[Any], recorder: Recorder, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.completed("order-42", {"total": 1})
    real = store.read_history

    def forged(key: RunKey, **bounds: Any) -> list[StoredEvent]:
        first, last = real(key, **bounds)
        data = last.data.replace(b'"total":1', b'"total":9')
        assert data != last.data
        return [first, replace(last, data=data, head=next_head(first.head, data))]

    monkeypatch.setattr(store, "read_history", forged)
    found = handle.verify()
    assert (found.bad_seq, found.reason) == (2, "the row has another head")


def test_asyncio_handle_reads_the_same(handle: RunHandle[Any], recorder: Recorder) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(handle.aio.result(timeout=30))
        await asyncio.to_thread(recorder.completed, "order-42", {"total": 9})
        assert (await waiting).total == 9
        assert await handle.aio.status() == "completed"
        assert [each.type for each in await handle.aio.history()] == ["RunStarted", "RunCompleted"]
        assert await handle.aio.verify()
        assert await handle.aio.state() is None

    asyncio.run(main())
