"""What a start makes of an id that was used before, or is in use: as its policies say."""

import threading
from typing import Any

import pytest

from orchestrator.client import conflicts
from orchestrator.client.workflow import Workflow
from orchestrator.core import events as e
from orchestrator.core.errors import DuplicateRun, RunExists, UsageError
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind
from tests.client.runs import Recorder

Order = Workflow[Any, Any]


def _inbox(store: MemoryStore) -> list[Any]:
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=100, block_ms=0)
    return [entry for entries in taken.values() for entry in entries]


def test_id_that_must_not_be_used_again_is_refused_and_names_its_run(
    order_workflow: Order, recorder: Recorder
) -> None:
    once = order_workflow.options(id_reuse_policy="reject_duplicate")
    assert once.start(1, id="order-42").run == 1
    recorder.started("order-42")
    recorder.completed("order-42", {"total": 1})
    with pytest.raises(DuplicateRun, match=r"completed as run 1.*reject_duplicate") as caught:
        once.start(1, id="order-42")
    assert (caught.value.run, caught.value.status) == (1, "completed")
    failed_only = order_workflow.options(id_reuse_policy="allow_duplicate_failed_only")
    with pytest.raises(DuplicateRun):
        failed_only.signal_with_start("note", "hi", id="order-42", args=[1])
    assert order_workflow.start(1, id="order-42").run == 2


def test_start_that_uses_what_exists_returns_the_open_run(
    order_workflow: Order, store: MemoryStore
) -> None:
    order_workflow.start(1, id="order-42")
    shared = order_workflow.options(id_conflict_policy="use_existing")
    assert shared.start(2, id="order-42").run == 1
    assert [entry.body["args"] for entry in _inbox(store)] == [[1]]
    with pytest.raises(RunExists):
        order_workflow.start(2, id="order-42")


def test_start_that_terminates_what_exists_begins_once_that_has_ended(
    order_workflow: Order, store: MemoryStore, recorder: Recorder
) -> None:
    order_workflow.start(1, id="order-42")
    recorder.started("order-42")
    begun: list[int] = []

    def start() -> None:
        replacing = order_workflow.options(id_conflict_policy="terminate_existing")
        begun.append(replacing.start(2, id="order-42").run)

    thread = threading.Thread(target=start)
    thread.start()
    # The owner's part: it takes the request when it comes, and ends the run.
    asked: list[Any] = []
    partitions = dict.fromkeys(range(store.partitions), "0")
    while not asked:
        taken = store.take_inbox(partitions, count=100, block_ms=1_000)
        asked = [entry for es in taken.values() for entry in es if entry.kind is Kind.TERMINATE]
    assert asked[0].run == 1
    assert not begun, "nothing begins before the end"
    ending = e.RunTerminated(at_ms=2_000, reason="replaced")
    recorder.record("order-42", ending, status="terminated", closed_at_ms="2000")
    thread.join(20)
    assert begun == [2]


def test_start_that_terminates_gives_up_on_a_run_that_does_not_end(
    order_workflow: Order, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_workflow.start(1, id="order-42")
    monkeypatch.setattr(conflicts, "TERMINATION_TIMEOUT_S", 0.0)
    with pytest.raises(RunExists):
        order_workflow.options(id_conflict_policy="terminate_existing").start(2, id="order-42")
    assert [entry.kind for entry in _inbox(store)] == [Kind.START, Kind.TERMINATE]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"id_reuse_policy": "never"}, "id_reuse_policy is 'never'; it is one of allow_duplicate,"),
        ({"id_conflict_policy": "replace"}, "id_conflict_policy is 'replace'; it is one of fail,"),
        (
            {"id_conflict_policy": "terminate_existing", "id_reuse_policy": "reject_duplicate"},
            "choose one of them",
        ),
    ],
)
def test_policies_that_cannot_be_followed_send_nothing(
    order_workflow: Order, store: MemoryStore, settings: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        order_workflow.options(**settings).start(1, id="order-42")
    assert _inbox(store) == []


def test_start_with_a_message_terminates_nothing(order_workflow: Order, store: MemoryStore) -> None:
    replacing = order_workflow.options(id_conflict_policy="terminate_existing")
    with pytest.raises(UsageError, match="for the run that is open"):
        replacing.signal_with_start("note", "hi", id="order-42", args=[1])
    assert _inbox(store) == []
