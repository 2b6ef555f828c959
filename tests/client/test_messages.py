"""A message is validated before it is sent, arrives once, and one that goes nowhere says so."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.client.connection import Connection
from orchestrator.client.handle import RunHandle
from orchestrator.client.messages import Target
from orchestrator.client.workflow import Workflow
from orchestrator.core import events as e
from orchestrator.core.errors import (
    ApplicationError,
    InvalidPayload,
    PayloadTooLarge,
    QueryTimeout,
    RunClosed,
    RunNotFound,
    StoreUnavailable,
    UnknownQuery,
    UsageError,
)
from orchestrator.core.limits import PAYLOAD_BYTES_MAX
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Answer, Kind
from tests.client.conftest import Approval
from tests.client.runs import Recorder

Order = Workflow[Any, Any]


@pytest.fixture
def handle(order_workflow: Order, recorder: Recorder) -> RunHandle[Any]:
    handle = order_workflow.start(120, id="order-42")
    recorder.started("order-42")
    return handle


def sent(store: MemoryStore, kind: Kind) -> list[dict[str, Any]]:
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=100, block_ms=0)
    return [entry.body for entries in taken.values() for entry in entries if entry.kind is kind]


def test_signal_is_sent_as_json_and_returns_its_id(
    handle: RunHandle[Any], store: MemoryStore
) -> None:
    signal_id = handle.signal("approve", Approval(approved=True, by="ana"))
    other_id = handle.signal("approve", {"approved": False, "by": "bo"}, id="mine")
    payloads = [(body["signal_id"], body["payload"]) for body in sent(store, Kind.SIGNAL)]
    assert payloads == [
        (signal_id, {"approved": True, "by": "ana"}),
        ("mine", {"approved": False, "by": "bo"}),
    ]
    assert other_id == "mine"


def test_signal_that_the_workflow_cannot_take_is_refused_at_once(
    handle: RunHandle[Any], connection: Connection, store: MemoryStore
) -> None:
    by_id: RunHandle[Any] = RunHandle(connection.sessions, Target(workflow_id="order-42"))
    for each in (handle, by_id):
        with pytest.raises(InvalidPayload, match="order takes: approve, note"):
            each.signal("aprove", {})
        with pytest.raises(InvalidPayload, match="by: Field required"):
            each.signal("approve", {"approved": True})
        with pytest.raises(PayloadTooLarge):
            each.signal("note", "x" * PAYLOAD_BYTES_MAX)
        with pytest.raises(InvalidPayload, match="no JSON form"):
            each.signal("note", float("nan"))
    assert sent(store, Kind.SIGNAL) == []


def test_reseed_is_a_signal_though_the_workflow_declares_its_own(
    handle: RunHandle[Any], store: MemoryStore
) -> None:
    handle.reseed(7, id="mine")
    asyncio.run(handle.aio.reseed("0xbeef", "noise"))
    handle.signal("__reseed", {"seed": 8})
    bodies = sent(store, Kind.SIGNAL)
    assert {body["signal"] for body in bodies} == {"__reseed"}
    assert [body["payload"] for body in bodies] == [
        {"seed": 7},
        {"seed": "0xbeef", "name": "noise"},
        {"seed": 8},
    ]
    assert bodies[0]["signal_id"] == "mine"


def test_reseed_that_cannot_be_done_is_refused_at_once(
    handle: RunHandle[Any], store: MemoryStore
) -> None:
    for seed in (-1, 2**128, "seed", True, 1.5):
        with pytest.raises(InvalidPayload, match='a "seed" is a whole number from 0'):
            handle.reseed(seed)  # type: ignore[arg-type]
    with pytest.raises(InvalidPayload, match='"name" is the name of one generator'):
        handle.reseed(7, "")
    with pytest.raises(InvalidPayload, match="it has only __reseed"):
        handle.signal("__resed", {"seed": 7})
    assert sent(store, Kind.SIGNAL) == []


def test_message_to_no_run_or_an_ended_one_says_so(
    handle: RunHandle[Any], recorder: Recorder, connection: Connection
) -> None:
    nobody: RunHandle[Any] = RunHandle(connection.sessions, Target(workflow_id="order-43"))
    recorder.completed("order-42", {"total": 1})
    sendings: list[Callable[[RunHandle[Any]], object]] = [
        lambda run: run.signal("note", 1),
        lambda run: run.cancel("why"),
        lambda run: run.terminate("why"),
        lambda run: run.resolve(1, "retry"),
    ]
    for send in sendings:
        with pytest.raises(RunNotFound):
            send(nobody)
        with pytest.raises(RunClosed, match="order-42 run 1 is completed"):
            send(handle)


def test_cancel_and_terminate_carry_reason_and_request_id(
    handle: RunHandle[Any], store: MemoryStore
) -> None:
    handle.cancel("customer called")
    handle.terminate("enough")
    [cancel], [terminate] = sent(store, Kind.CANCEL), sent(store, Kind.TERMINATE)
    assert (cancel["reason"], terminate["reason"]) == ("customer called", "enough")
    assert cancel["request_id"] != terminate["request_id"]


def test_decision_about_a_parked_step_needs_a_reason_to_pass_it_over(
    handle: RunHandle[Any], store: MemoryStore
) -> None:
    for decision in ("skip", "done"):
        with pytest.raises(UsageError, match="needs a reason"):
            handle.resolve(3, decision)
    with pytest.raises(UsageError, match="retry, skip, done"):
        handle.resolve(3, "forget", reason="x")
    handle.resolve(3, "done", reason="refunded by hand", by="ana")
    (body,) = sent(store, Kind.DECISION)
    assert body.pop("request_id")
    assert [body] == [
        {"step": 3, "decision": "done", "reason": "refunded by hand", "by": "ana", "for_run": 1}
    ]


def test_signal_whose_answer_is_lost_is_repeated_under_its_id(
    handle: RunHandle[Any], store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_answers(store, monkeypatch, 1)
    handle.signal("note", 1)
    bodies = sent(store, Kind.SIGNAL)
    assert len(bodies) == 2
    assert bodies[0] == bodies[1], "the owner takes the second one for the first"


def test_signal_that_ended_the_run_before_its_repetition_counts_as_delivered(
    handle: RunHandle[Any],
    store: MemoryStore,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_takes_it_and_ends() -> None:
        event = e.SignalReceived(at_ms=1_500, signal="note", signal_id="mine", payload=1)
        recorder.record("order-42", event)
        recorder.completed("order-42", {"total": 1})

    lose_answers(store, monkeypatch, 1, then=run_takes_it_and_ends)
    assert handle.signal("note", 1, id="mine") == "mine"


def test_signal_may_be_repeated_under_its_id_after_the_run_has_ended(
    handle: RunHandle[Any], recorder: Recorder
) -> None:
    event = e.SignalReceived(at_ms=1_500, signal="note", signal_id="mine", payload=1)
    recorder.record("order-42", event)
    recorder.completed("order-42", {"total": 1})
    assert handle.signal("note", 1, id="mine") == "mine"
    with pytest.raises(RunClosed):
        handle.signal("note", 1, id="other")


def test_signal_that_missed_the_end_of_the_run_is_not_taken_for_delivered(
    handle: RunHandle[Any],
    store: MemoryStore,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_answers(store, monkeypatch, 1, then=lambda: recorder.completed("order-42", {"total": 1}))
    with pytest.raises(RunClosed):
        handle.signal("note", 1)


def test_decision_whose_answer_is_lost_is_not_repeated(
    handle: RunHandle[Any], store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_answers(store, monkeypatch, 1)
    with pytest.raises(StoreUnavailable):
        handle.resolve(3, "retry")
    assert len(sent(store, Kind.DECISION)) == 1


def test_query_returns_the_answer(handle: RunHandle[Any], store: MemoryStore) -> None:
    with answering(store, {"ok": [1, 2]}) as asked:
        assert handle.query("items", 7, timeout=30) == [1, 2]
    [body] = asked
    assert (body["query"], body["args"]) == ("items", [7])
    assert body["deadline_ms"] > store.now_ms()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (
            {"error": "UnknownQuery", "message": str(UnknownQuery("o", "items", ("a", "b")))},
            UnknownQuery,
            "order-42 answers no query 'items'; known: a, b",
        ),
        (
            {"error": "InvalidPayload", "message": str(InvalidPayload("query 'items'", "no"))},
            InvalidPayload,
            "query 'items' does not validate: no",
        ),
        ({"error": "RunBlocked", "message": "it rests"}, ApplicationError, "it rests"),
    ],
)
def test_query_that_fails_raises_what_the_orchestrator_says(
    handle: RunHandle[Any],
    store: MemoryStore,
    answer: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    with answering(store, answer), pytest.raises(error) as caught:
        handle.query("items", timeout=30)
    assert str(caught.value) == text


def test_query_without_an_orchestrator_times_out(
    handle: RunHandle[Any], connection: Connection
) -> None:
    with pytest.raises(QueryTimeout, match="is an orchestrator running"):
        handle.query("items", timeout=0.01)
    with pytest.raises(RunNotFound):
        RunHandle[Any](connection.sessions, Target(workflow_id="order-43")).query("items")


def test_asyncio_handle_sends_the_same(handle: RunHandle[Any], store: MemoryStore) -> None:
    async def main() -> None:
        await handle.aio.signal("note", 1, id="s")
        await handle.aio.cancel("c")
        await handle.aio.terminate("t")
        await handle.aio.resolve(1, "retry", by="ana")
        with pytest.raises(QueryTimeout):
            await handle.aio.query("items", timeout=0.01)

    asyncio.run(main())
    assert [body["payload"] for body in sent(store, Kind.SIGNAL)] == [1]
    assert [body["reason"] for body in sent(store, Kind.CANCEL)] == ["c"]
    assert [body["reason"] for body in sent(store, Kind.TERMINATE)] == ["t"]
    assert [body["by"] for body in sent(store, Kind.DECISION)] == ["ana"]
    assert len(sent(store, Kind.QUERY)) == 1


def lose_answers(
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    then: Any = lambda: None,
) -> None:
    """Let the next `count` messages arrive, and lose the answers; `then` happens after each."""
    real_post = store.post

    def post(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        answer = real_post(*args, **kwargs)
        if count:
            count -= 1
            then()
            raise StoreUnavailable("post", "answer lost")
        return answer

    monkeypatch.setattr(store, "post", post)
    monkeypatch.setattr("orchestrator.client.session.RESEND_PAUSE_MS", 0)


class answering:
    """An orchestrator that gives one answer to the first query; enters with what was asked."""

    def __init__(self, store: MemoryStore, answer: dict[str, Any]) -> None:
        self._store = store
        self._answer = answer
        self._asked: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> list[dict[str, Any]]:
        self._thread.start()
        return self._asked

    def __exit__(self, *error: object) -> None:
        self._thread.join()

    def _run(self) -> None:
        while not self._asked:
            self._asked += sent(self._store, Kind.QUERY)
        reply_to = self._asked[0]["reply_to"]
        self._store.answer([Answer(reply_to=reply_to, body=self._answer)])
