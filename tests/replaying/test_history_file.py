"""F1-F4: a file proves itself; whatever is changed, cut or missing is named with its line."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.client.history_file import (
    HistoryHeader,
    RecordedHistory,
    blob_line,
    event_line,
    file_name,
    header_line,
    history_files,
    read_history_file,
    read_history_lines,
)
from orchestrator.core.blobs import BlobRef
from orchestrator.core.errors import HistoryFileError
from orchestrator.core.events import Event, RunStarted, SignalReceived, encode
from orchestrator.core.values import Json, canonical, digest, first_head, next_head
from orchestrator.store.ports import StoredEvent
from tests.histories.record import HERE

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def lines_of(*events: Event) -> list[bytes]:
    """Return a file's lines."""
    head, lines = first_head("w", 1), []
    for seq, event in enumerate(events, 1):
        data = encode(event)
        head = next_head(head, data)
        lines.append(event_line(StoredEvent(seq=seq, data=data, head=head)))
    header = HistoryHeader(
        workflow_id="w", run=1, workflow="order", events=len(events), head=head, status="running"
    )
    return [header_line(header), *lines]


def started(payload: Any = None) -> list[Event]:
    return [
        RunStarted(at_ms=1, workflow="order", args=[payload], seed="00"),
        SignalReceived(at_ms=2, signal="go", signal_id="s1", payload=payload),
        SignalReceived(at_ms=3, signal="go", signal_id="s2", payload=payload),
    ]


def refusal(lines: list[bytes]) -> HistoryFileError:
    with pytest.raises(HistoryFileError) as caught:
        read_history_lines(lines, "w.1.jsonl")
    return caught.value


@settings(deadline=None)
@given(JSON)
def test_every_value_comes_back_and_its_chain_holds(payload: Any) -> None:
    events = started(payload)
    found = read_history_lines(lines_of(*events), "w.1.jsonl")
    assert [encode(event) for event in found.events] == [encode(event) for event in events]
    assert found.header == read_history_lines(lines_of(*found.events), "again").header


@settings(deadline=None)
@given(JSON, st.data())
def test_no_changed_byte_of_an_event_goes_unnoticed(payload: Any, data: st.DataObject) -> None:
    lines = lines_of(*started(payload))
    number = data.draw(st.integers(1, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[number]) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda new: new != lines[number][at]))
    changed = lines[number][:at] + bytes([byte]) + lines[number][at + 1 :]
    try:
        same = json.loads(changed) == json.loads(lines[number])
    except ValueError:
        same = False
    if not same and b"\n" not in changed[:-1]:
        refusal([*lines[:number], changed, *lines[number + 1 :]])


def test_an_outsider_verifies_the_chain_with_sha256_and_the_file_alone() -> None:
    for path in HERE.glob("*.jsonl"):
        first, *lines = path.read_bytes().splitlines()
        header = json.loads(first)
        start = f"orc:1:{header['workflow_id']}:{header['run']}"
        head = hashlib.sha256(start.encode()).hexdigest()
        for line in lines:
            if line.startswith(b'{"seq"'):
                event = line[line.index(b'"event":') + len(b'"event":') : -1]
                head = hashlib.sha256(bytes.fromhex(head) + event).hexdigest()
                assert json.loads(line)["head"] == head
        assert header["head"] == head


def cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def half_a_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1][:40]]


def without_the_second(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1], lines[3]]


def exchanged(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1], lines[3], lines[2]]


def of_another_run(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"run":1', b'"run":2'), *lines[1:]]


def newer(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"format_version":1', b'"format_version":2'), *lines[1:]]


def of_another_head(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"head":"', b'"head":"00'), *lines[1:]]


def headless(lines: list[bytes]) -> list[bytes]:
    return lines[1:]


def of_a_future_event(lines: list[bytes]) -> list[bytes]:
    data = b'{"at_ms":1,"type":"RunTeleported"}'
    head = next_head(first_head("w", 1), data)
    header = HistoryHeader(workflow_id="w", run=1, workflow="order", events=1, head=head)
    return [header_line(header), event_line(StoredEvent(seq=1, data=data, head=head))]


def with_a_false_value(lines: list[bytes]) -> list[bytes]:
    return [lines[0], blob_line(BlobRef(sha256="ab" * 32, size=1), 1), *lines[1:]]


@pytest.mark.parametrize(
    ("damage", "line", "says"),
    [
        (cut, 0, "cut short"),
        (half_a_line, 4, "not JSON"),
        (without_the_second, 3, "event 2, which is missing"),
        (exchanged, 3, "event 2, which is missing"),
        (of_another_run, 2, "not the one that was chained"),
        (newer, 1, "format version 2"),
        (of_another_head, 1, "another head than the last event"),
        (headless, 1, "is no history"),
        (of_a_future_event, 2, "newer version"),
        (with_a_false_value, 2, "does not fit its digest"),
        (lambda _: [], 1, "not JSON"),
        (lambda _: [b"[]\n"], 1, "not a JSON object"),
        (lambda _: [b'{"format":"orchestrator-history","format_version":1}'], 1, "incomplete"),
    ],
)
def test_damage_is_named_with_its_line(
    damage: Callable[[list[bytes]], list[bytes]], line: int, says: str
) -> None:
    error = refusal(damage(lines_of(*started())))
    assert error.line == line
    assert says in str(error)


def test_values_come_along_by_their_digest() -> None:
    value: Json = {"rows": [1, 2, 3]}
    ref = BlobRef(sha256=digest(value), size=len(canonical(value)))
    header, *events = lines_of(*started(ref.as_json()))
    found = read_history_lines([header, blob_line(ref, value), *events], "w.1.jsonl")
    assert found.blobs == {ref.sha256: value}


def test_events_at_hand_are_a_history_too() -> None:
    events = started(1)
    history = RecordedHistory.of("w", 1, events)
    assert history.header.workflow == "order"
    assert history.header == HistoryHeader(
        **{**_parts(read_history_lines(lines_of(*events), "").header), "status": ""}
    )


def _parts(header: HistoryHeader) -> dict[str, Any]:
    return {name: getattr(header, name) for name in header.__slots__}


@settings(deadline=None)
@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_each_run_has_a_file_name_of_its_own(one: str, other: str) -> None:
    ids = [text.encode(errors="ignore").decode() for text in (one, other)]
    names = [file_name(workflow_id, 1) for workflow_id in ids]
    assert all(len(name.encode()) < 255 and "/" not in name for name in names)
    assert (names[0] == names[1]) == (ids[0] == ids[1])


def test_paths_that_hold_no_history_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryFileError, match="does not exist"):
        list(history_files([tmp_path / "no.jsonl"]))
    with pytest.raises(HistoryFileError, match="folder without"):
        list(history_files([tmp_path]))
    with pytest.raises(HistoryFileError, match="cannot be read"):
        read_history_file(tmp_path)
