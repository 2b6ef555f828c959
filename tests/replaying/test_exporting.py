"""X1-X3: a run becomes a file that is whole, bounded in memory, and the run as it was then."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.client.exporting import PAGE_EVENTS, export, export_file, export_open
from orchestrator.client.history_file import read_history_file
from orchestrator.client.messages import Target
from orchestrator.client.port import run_in_place
from orchestrator.core.errors import RunNotFound, StoreUnavailable, UsageError
from orchestrator.core.events import SignalReceived
from orchestrator.core.limits import HISTORY_EVENTS_MAX
from orchestrator.store.ports import RunKey, StoredEvent
from tests.client.runs import Recorder
from tests.engine.world import MemoryBlobs, World
from tests.replaying.conftest import Export, many_signals, session_of

W = Target(workflow_id="w", run=0)


async def large() -> int:
    value = await workflow.step("make")
    again = await workflow.step("make")
    return len(value) + len(again)


async def patient() -> None:
    await workflow.signal("go")


def test_a_large_result_comes_along_once_and_before_it_is_needed(export: Export) -> None:
    world = World(large)
    world.tasks["make"] = lambda: world.blobs.put("x" * 70_000).as_json()
    world.start("large")
    world.settle()
    path = export(world)
    kinds = [line[:7] for line in path.read_bytes().splitlines()]
    assert kinds.count(b'{"blob"') == 1
    found = read_history_file(path)
    assert [len(str(value)) for value in found.blobs.values()] == [70_000]
    assert found.header.status == "completed"
    assert path.stat().st_mode & 0o077 == 0, "payloads are for its owner"


def test_an_export_is_the_run_as_it_was_when_it_began(tmp_path: Path) -> None:
    store = many_signals(PAGE_EVENTS + 5)
    recorder_event = SignalReceived(at_ms=3, signal="late", signal_id="late")
    session = session_of(store, MemoryBlobs())
    lines: list[bytes] = []

    def write(line: bytes) -> None:
        if len(lines) == 1:
            late = Recorder.__new__(Recorder)
            late.store, late.tokens = store, {p: f"token-{p}" for p in range(store.partitions)}
            late.record("w", recorder_event, status="running")
        lines.append(line)

    header = run_in_place(export(session, W, write))
    assert header.events == PAGE_EVENTS + 5 == len(lines) - 1
    assert b"late" not in b"".join(lines)
    (tmp_path / "w.jsonl").write_bytes(b"".join(lines))
    assert len(read_history_file(tmp_path / "w.jsonl").events) == PAGE_EVENTS + 5


@pytest.mark.slow
def test_fifty_thousand_events_pass_through_bounded_memory(tmp_path: Path) -> None:
    store = many_signals(HISTORY_EVENTS_MAX)
    session = session_of(store, MemoryBlobs())
    with (tmp_path / "w.jsonl").open("wb") as file:
        tracemalloc.start()
        try:
            run_in_place(export(session, W, file.write))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (tmp_path / "w.jsonl").stat().st_size > 10_000_000
    assert peak < 2_000_000
    assert len(read_history_file(tmp_path / "w.jsonl").events) == HISTORY_EVENTS_MAX


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    world = World(large)
    world.tasks["make"] = lambda: world.blobs.put("x" * 70_000).as_json()
    world.start("large")
    world.settle()
    world.blobs.values.clear()
    with pytest.raises(StoreUnavailable, match="missing"):
        run_in_place(export_file(session_of(world.store, world.blobs), W, tmp_path / "w.jsonl"))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    world = World(patient)
    session = session_of(world.store, world.blobs)
    with pytest.raises(RunNotFound):
        run_in_place(export_file(session, W, tmp_path / "w.jsonl"))
    world.start("patient")
    with pytest.raises(UsageError, match="no event yet"):
        run_in_place(export_file(session, W, tmp_path / "w.jsonl"))


@pytest.mark.parametrize("missing", [1, 7, 10])
def test_a_history_that_lacks_events_is_not_exported_as_a_shorter_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    store = many_signals(10)
    read = store.read_history
    monkeypatch.setattr(
        store,
        "read_history",
        lambda key, **more: [e for e in read(key, **more) if e.seq != missing],
    )
    with pytest.raises(UsageError, match=f"event {missing} is missing"):
        run_in_place(export_file(session_of(store, MemoryBlobs()), W, tmp_path / "w.jsonl"))


def test_a_history_is_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = many_signals(3 * PAGE_EVENTS)
    read, counts = store.read_history, []

    def counted(key: RunKey, **more: Any) -> list[StoredEvent]:
        counts.append(more["count"])
        return read(key, **more)

    monkeypatch.setattr(store, "read_history", counted)
    run_in_place(export_file(session_of(store, MemoryBlobs()), W, tmp_path / "w.jsonl"))
    assert sorted(counts) == [1, *[PAGE_EVENTS] * 3]


def test_every_open_run_is_exported_and_one_that_fails_keeps_none_from_it(tmp_path: Path) -> None:
    world = World(patient, large)
    world.tasks["make"] = lambda: world.blobs.put("x" * 70_000).as_json()
    for id in ("a", "b/c"):
        world.start("patient", id=id)
    world.settle()
    world.start("large", id="large")
    world.turn()
    world.work()
    world.turn()
    world.blobs.values.clear()
    world.start("patient", id="new")
    folder = tmp_path / "open"
    done = run_in_place(export_open(session_of(world.store, world.blobs), folder, None))
    assert sorted(path.name for path in done.files) == ["a.1.jsonl", "b%2Fc.1.jsonl"]
    assert done.waiting == ["new"]
    assert list(done.failed) == ["large"]
    only = run_in_place(
        export_open(session_of(world.store, world.blobs), tmp_path / "typed", "large")
    )
    assert (only.files, list(only.failed)) == ([], ["large"])
