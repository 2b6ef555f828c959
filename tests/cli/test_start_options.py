"""How a run may begin and how long it may last, as one types it."""

from collections.abc import Callable

import pytest

from orchestrator.app import Orchestrator
from orchestrator.store.memory import MemoryStore
from tests.cli.conftest import Typed
from tests.client.runs import Recorder

Type = Callable[..., Typed]


@pytest.fixture
def ended(orc: Orchestrator, recorder: Recorder) -> None:
    """A run of order-1 that has completed."""
    orc.get_workflow("order").start(1, id="order-1")
    recorder.started("order-1")
    recorder.completed("order-1", 0)


@pytest.mark.usefixtures("ended")
def test_id_that_must_not_be_used_again_is_a_plain_no(typed: Type) -> None:
    line = ("start", "order", "--input", "1", "--id", "order-1")
    refused = typed(*line, "--id-reuse-policy", "reject_duplicate")
    assert refused.code == 1
    assert "order-1 is completed as run 1" in refused.error
    assert typed(*line, "--id-reuse-policy", "sometimes").code == 2
    assert typed(*line, "--json").data == {"workflow_id": "order-1", "run": 2}


def test_start_may_take_the_run_that_is_open(typed: Type) -> None:
    line = ("start", "order", "--input", "1", "--id", "order-1", "--json")
    assert typed(*line).data["run"] == 1
    assert typed(*line).code == 1
    assert typed(*line, "--id-conflict-policy", "use_existing").data["run"] == 1


def test_time_of_a_run_is_typed_in_seconds(typed: Type, store: MemoryStore) -> None:
    line = ("start", "order", "--input", "1", "--id", "order-1")
    assert typed(*line, "--run-timeout", "1.5", "--execution-timeout", "60").code == 0
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=9, block_ms=0)
    [entry] = [entry for entries in taken.values() for entry in entries]
    assert (entry.body["run_timeout_ms"], entry.body["execution_timeout_ms"]) == (1_500, 60_000)
    assert typed(*line[:-1], "order-2", "--retry-attempts", "3").code == 0
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=9, block_ms=0)
    retries = [entry.body.get("retry") for entries in taken.values() for entry in entries]
    assert [retry["attempts"] for retry in retries if isinstance(retry, dict)] == [3]
    refused = typed("start", "order", "--input", "1", "--run-timeout", "-1")
    assert refused.code == 2
    assert "run_timeout is -1 day" in refused.error


def test_run_that_is_put_off_is_shown_with_the_instant_it_begins(
    typed: Type, store: MemoryStore, recorder: Recorder
) -> None:
    line = ("start", "order", "--input", "1", "--id", "order-1", "--start-delay", "60")
    assert typed(*line).code == 0
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=9, block_ms=0)
    [entry] = [entry for entries in taken.values() for entry in entries]
    assert entry.body["start_delay_ms"] == 60_000
    assert "begins" not in typed("show", "order-1").out
    recorder.record("order-1", begins_at_ms="86400000")
    assert "1970-01-02" in typed("show", "order-1").out
