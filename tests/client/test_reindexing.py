"""Indexes that were lost, or never were, come back from the histories; nothing newer is undone."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.client.reindexing import reindex
from orchestrator.core.errors import ApplicationError
from orchestrator.core.retry import Retry
from orchestrator.core.values import Json
from orchestrator.store.index_ports import Window
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind, RunKey
from tests.engine.world import World

BODY: dict[str, Json] = {
    "workflow": "tells",
    "search_attributes": {"customer": "ana"},
    "memo": {"note": "gift"},
    "summary": "an order",
    "details": "of Ana",
}
#: What only the row of a living run knows.
UNTOLD = ("request", "state", "blocked")


async def tells() -> int:
    workflow.upsert_search_attributes({"customer": "bo", "seen": True})
    workflow.upsert_memo({"note": None, "lines": 2})
    workflow.set_current_details("waits")
    if await workflow.signal("go"):
        raise ApplicationError("no", "Sad")
    return 5


async def goes_on(lap: int = 1) -> int:
    if lap == 1:
        workflow.continue_as_new(lap + 1)
    return lap


async def fails() -> None:
    raise ApplicationError("no", "Busy")


@pytest.fixture
def world() -> World:
    """Runs that wait, that ended in every way, that were replaced, and one nobody has seen yet."""
    made = World(tells, goes_on, fails)
    retry = Retry(attempts=2, initial=timedelta(minutes=1)).as_json()
    attributes: dict[str, Json] = {"customer": "cy"}
    made.start("goes_on", id="continued", search_attributes=attributes)
    made.start("fails", id="retried", search_attributes=attributes, retry=retry)
    for workflow_id in ("waits", "completed", "failed", "cancelled", "terminated", "reset"):
        made.store.start(workflow_id, request_id=f"r-{workflow_id}", body=BODY)
    made.settle()
    made.signal("go", id="completed", payload=False)
    made.signal("go", id="failed", payload=True)
    made.post(Kind.CANCEL, {"reason": "x", "request_id": "c"}, id="cancelled")
    made.post(Kind.TERMINATE, {"reason": "y", "request_id": "t"}, id="terminated")
    made.post(Kind.RESET, {"run": 1, "event": 2, "request_id": "s"}, id="reset")
    made.settle()
    made.advance(5)
    made.store.start("failed", request_id="again", body=BODY)
    made.settle()
    made.store.start("unseen", request_id="r-unseen", body=BODY)
    return made


def all_rows(store: MemoryStore) -> dict[str, dict[str, str]]:
    page = store.page_runs(["all"], Window(count=99))
    runs = [(row["workflow_id"], int(row["run"])) for _, row in page.rows]
    rows = store.read_rows(runs)
    return {f"{name}.{run}": dict(row or {}) for (name, run), row in zip(runs, rows, strict=True)}


def indexes(store: MemoryStore) -> list[dict[str, Any]]:
    return [{name: set(found) for name, found in p.indexes.items() if found} for p in store._parts]


def test_indexes_come_back_as_they_were(world: World) -> None:
    before, rows = indexes(world.store), all_rows(world.store)
    assert {row["status"] for row in rows.values()} == {
        *("running", "completed", "failed", "cancelled", "terminated", "pending"),
        "continued_as_new",
    }
    for part in world.store._parts:
        part.indexes.clear()
    for _ in range(2):
        report = reindex(world.store)
        assert (report.done, report.failed) == (13, [])
        assert indexes(world.store) == before
        assert all_rows(world.store) == rows


def test_rows_that_were_lost_with_their_runs_are_written_anew(world: World) -> None:
    before, rows = indexes(world.store), all_rows(world.store)
    for part in world.store._parts:
        part.past.clear()
    reindex(world.store)
    assert indexes(world.store) == before
    found = all_rows(world.store)
    assert {name: _told(row) for name, row in found.items()} == {
        name: _told(row) for name, row in rows.items()
    }


def test_fields_that_say_otherwise_than_the_history_are_mended(world: World) -> None:
    before, rows = indexes(world.store), all_rows(world.store)
    row = world.store._of("waits").rows["waits"]
    row |= {"attributes": '{"customer":"eve"}', "memo": "{}", "current_details": '""'}
    row["indexes"] = "[]"
    reindex(world.store)
    assert indexes(world.store) == before
    assert all_rows(world.store) == rows


def test_run_that_moves_while_it_is_read_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.store.read_history
    moved: list[str] = []

    def meanwhile(key: Any, **bounds: Any) -> Any:
        history = real(key, **bounds)
        if key.workflow_id == "waits" and not moved:
            moved.append("waits")
            world.signal("go", id="waits", payload=False)
            world.settle()
        return history

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "read_history", meanwhile)
        report = reindex(world.store)
    assert moved
    assert report.failed == []
    assert world.status("waits") == "completed"
    assert "waits" in str(indexes(world.store)[world_partition(world, "waits")]["status:completed"])


def test_head_of_the_row_goes_on_telling_that_a_history_was_changed(world: World) -> None:
    log = world.store._of("waits").logs[RunKey(workflow_id="waits", run=1)]
    log[-1] = replace(log[-1], head="00" * 32)
    head = world.row("waits")["head"]
    assert reindex(world.store).failed == []
    assert world.row("waits")["head"] == head


def test_history_that_cannot_be_read_is_told_and_stops_nothing(world: World) -> None:
    part = world.store._of("waits")
    log = part.logs[RunKey(workflow_id="waits", run=1)]
    log[1] = replace(log[1], data=b'{"type":"FromTheFuture","at_ms":1}')
    report = reindex(world.store)
    assert report.done == 12
    (reason,) = report.failed
    assert reason.startswith("waits run 1: its history cannot be read: unknown event type")


def _told(row: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in row.items() if name not in UNTOLD}


def world_partition(world: World, workflow_id: str) -> int:
    return world.store._parts.index(world.store._of(workflow_id))
