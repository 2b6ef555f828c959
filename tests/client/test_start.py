"""A start takes effect once, and what cannot run is refused before it is sent."""

import asyncio
from typing import Any

import pytest

from orchestrator.client.connection import Connection
from orchestrator.client.session import SENDS_MAX
from orchestrator.client.workflow import Workflow
from orchestrator.core.errors import (
    InvalidPayload,
    InvalidWorkflowId,
    PayloadTooLarge,
    RunExists,
    StoreUnavailable,
)
from orchestrator.core.limits import PAYLOAD_BYTES_MAX
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind
from tests.client.runs import Recorder

Order = Workflow[Any, Any]


def inbox_of(store: MemoryStore) -> list[Any]:
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=100, block_ms=0)
    return [entry for entries in taken.values() for entry in entries]


def test_start_posts_the_input_as_json_and_returns_a_handle_on_that_run(
    order_workflow: Order, store: MemoryStore
) -> None:
    handle = order_workflow.start(120, note="gift", id="order-42")
    assert (handle.workflow_id, handle.id, handle.run) == ("order-42", "order-42", 1)
    [entry] = inbox_of(store)
    assert (entry.kind, entry.workflow_id, entry.run) == (Kind.START, "order-42", 1)
    assert entry.body["workflow"] == "order"
    assert (entry.body["args"], entry.body["kwargs"]) == ([120], {"note": "gift"})


def test_history_tells_which_request_started_the_run(
    order_workflow: Order, store: MemoryStore
) -> None:
    order_workflow.start(120, id="order-42")
    [entry] = inbox_of(store)
    row = store.find_row("order-42")
    assert row is not None
    assert entry.body["request_id"] == row["request"]


def test_start_without_an_id_makes_one_up_that_tells_the_workflow(order_workflow: Order) -> None:
    first, second = order_workflow.start(1), order_workflow.delay(1)
    assert first.workflow_id.startswith("order-")
    assert first.workflow_id != second.workflow_id


def test_apply_async_takes_the_workflow_id_as_task_id(order_workflow: Order) -> None:
    handle = order_workflow.apply_async((1,), {"note": "x"}, task_id="order-1")
    assert handle.workflow_id == "order-1"


def test_input_that_does_not_validate_sends_nothing(
    order_workflow: Order, store: MemoryStore
) -> None:
    with pytest.raises(InvalidPayload, match="input of order, argument 1"):
        order_workflow.start("much", id="order-42")
    with pytest.raises(InvalidPayload, match="missing a required argument: 'total'"):
        order_workflow.start(id="order-42")
    with pytest.raises(PayloadTooLarge):
        order_workflow.start(1, note="x" * PAYLOAD_BYTES_MAX, id="order-42")
    with pytest.raises(InvalidWorkflowId):
        order_workflow.start(1, id="order 42")
    assert inbox_of(store) == []
    assert store.find_row("order-42") is None


def test_second_start_of_an_open_id_is_refused_and_names_the_run(order_workflow: Order) -> None:
    order_workflow.start(1, id="order-42")
    with pytest.raises(RunExists) as caught:
        order_workflow.start(1, id="order-42")
    assert (caught.value.run, caught.value.status) == (1, "pending")


def test_id_is_free_again_once_its_run_has_ended(order_workflow: Order, recorder: Recorder) -> None:
    order_workflow.start(1, id="order-42")
    recorder.started("order-42")
    recorder.completed("order-42", {"total": 1})
    assert order_workflow.start(2, id="order-42").run == 2


def test_start_whose_answers_are_lost_starts_one_run(
    order_workflow: Order, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_start, lost = store.start, 2

    def start_and_lose_the_answer(*args: Any, **kwargs: Any) -> Any:
        nonlocal lost
        answer = real_start(*args, **kwargs)
        if lost:
            lost -= 1
            raise StoreUnavailable("start", "answer lost")
        return answer

    monkeypatch.setattr(store, "start", start_and_lose_the_answer)
    assert order_workflow.start(1, id="order-42").run == 1
    assert len(inbox_of(store)) == 1


def test_start_gives_up_after_its_sendings_and_says_that_it_may_have_happened(
    order_workflow: Order, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendings: list[str] = []

    def unavailable(*args: Any, request_id: str, **kwargs: Any) -> Any:
        sendings.append(request_id)
        raise StoreUnavailable("start", "connection refused")

    monkeypatch.setattr(store, "start", unavailable)
    monkeypatch.setattr("orchestrator.client.session.RESEND_PAUSE_MS", 0)
    with pytest.raises(StoreUnavailable, match="may have happened"):
        order_workflow.start(1, id="order-42")
    assert len(sendings) == SENDS_MAX
    assert len(set(sendings)) == 1, "one request has one id, however often it is sent"


def test_asyncio_start_is_the_same_start(order_workflow: Order, store: MemoryStore) -> None:
    async def main() -> None:
        handle = await order_workflow.aio.start(7, id="order-42")
        assert (handle.workflow_id, handle.run) == ("order-42", 1)
        with pytest.raises(RunExists):
            await order_workflow.aio.apply_async((7,), task_id="order-42")
        assert (await order_workflow.aio.delay(1)).workflow_id.startswith("order-")

    asyncio.run(main())
    assert [entry.body["args"] for entry in inbox_of(store) if entry.workflow_id == "order-42"] == [
        [7]
    ]


def test_calling_a_workflow_runs_its_own_function(order_workflow: Order) -> None:
    assert asyncio.run(order_workflow(3)).total == 3
    assert order_workflow.__name__ == "order"


def test_nothing_is_connected_before_something_is_started(connection: Connection) -> None:
    assert connection._store is None
