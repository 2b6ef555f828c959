"""A history as a file: JSON Lines that prove themselves, and that replay anywhere (docs/adr/0019).

F1  The first line is the header; every other one is an event, or a value that an event refers to.
F2  An event's line has its canonical bytes and the chain's head after it: whoever has the file can
    recompute the chain, with SHA-256 and JSON alone.
F3  A value that replay needs and that history has by reference stands before the first event that
    refers to it.  Payloads cannot be left out: replay is a function of them.
F4  The header tells how many events follow: a file that was cut short is never taken for a shorter
    history.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from orchestrator.core.blobs import BlobRef
from orchestrator.core.errors import HistoryFileError
from orchestrator.core.events import Event, decode, encode
from orchestrator.core.values import Json, canonical, digest, first_head, next_head
from orchestrator.store.ports import StoredEvent

FORMAT = "orchestrator-history"
#: A reader refuses a newer version than its own; an older one it reads for ever.
FORMAT_VERSION = 1
SUFFIX = ".jsonl"
#: Characters of an id in a file's name; file systems take 255 bytes.
_NAME_CHARS_MAX = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryHeader:
    """The first line: which run it is, and what the file is to hold.

    Args:
        workflow_id: The run's id.
        run: Which run of it, from 1.
        workflow: The workflow type.
        version: Of the workflow, as recorded at the start.
        status: Of the run when it was exported.
        events: How many follow.
        head: The chain's head after the last of them.
        exported_at: By the store's clock, ISO 8601; "" where nobody exported it.
        engine: Version of the orchestrator that exported it.
    """

    workflow_id: str
    run: int
    workflow: str
    version: str = ""
    status: str = ""
    events: int
    head: str
    exported_at: str = ""
    engine: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedHistory:
    """A whole history with all it takes to replay it; `blobs` are values by their SHA-256."""

    header: HistoryHeader
    events: tuple[Event, ...]
    blobs: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def of(cls, workflow_id: str, run: int, events: Iterable[Event]) -> "RecordedHistory":
        """Return events that a program has at hand as a history."""
        kept = tuple(events)
        head = first_head(workflow_id, run)
        for event in kept:
            head = next_head(head, encode(event))
        header = HistoryHeader(
            workflow_id=workflow_id,
            run=run,
            workflow=str(getattr(kept[0], "workflow", "")) if kept else "",
            events=len(kept),
            head=head,
        )
        return cls(header=header, events=kept)


def header_line(header: HistoryHeader) -> bytes:
    """Return the first line of a file."""
    about: dict[str, Json] = {part.name: getattr(header, part.name) for part in fields(header)}
    return canonical({"format": FORMAT, "format_version": FORMAT_VERSION, **about}) + b"\n"


def event_line(stored: StoredEvent) -> bytes:
    """Return the line of an event; its own bytes, as they were chained, stand at the end of it."""
    return b'{"seq":%d,"head":"%b","event":%b}\n' % (stored.seq, stored.head.encode(), stored.data)


def blob_line(ref: BlobRef, value: Json) -> bytes:
    """Return the line of a value that events refer to."""
    return b'{"blob":"%b","value":%b}\n' % (ref.sha256.encode(), canonical(value))


def file_name(workflow_id: str, run: int) -> str:
    """Return the name of a run's file: its own for each run, whatever characters an id has."""
    stem = quote(workflow_id, safe="")
    if len(stem) > _NAME_CHARS_MAX:
        stem = f"{stem[:_NAME_CHARS_MAX]}-{sha256(workflow_id.encode()).hexdigest()[:16]}"
    return f"{stem}.{run}{SUFFIX}"


def read_history_file(path: str | Path) -> RecordedHistory:
    """Return the history in a file, its chain recomputed.

    Raises:
        HistoryFileError: No such file, none of these files, one of a newer version, or one whose
            bytes are not those that were exported; the text names the line.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            return read_history_lines(file, name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise HistoryFileError(name, 0, f"cannot be read: {reason}") from error


def read_history_lines(lines: Iterable[bytes], name: str) -> RecordedHistory:
    """Return the history in `lines`; `name` is what errors call it.

    Raises:
        HistoryFileError: See `read_history_file`.
    """
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    header = _header(name, next(numbered, (1, b"")))
    events: list[Event] = []
    blobs: dict[str, Json] = {}
    head = first_head(header.workflow_id, header.run)
    for number, line in numbered:
        data = _object(name, number, line)
        if "blob" in data:
            _keep_blob(blobs, data, name, number)
        else:
            event, head = _event(data, head, len(events) + 1, (name, number))
            events.append(event)
    if len(events) != header.events:
        reason = f"has {len(events)} events, and its header says {header.events}: it was cut short"
        raise HistoryFileError(name, 0, f"{reason}; export it again")
    if head != header.head:
        raise HistoryFileError(name, 1, "the header has another head than the last event")
    return RecordedHistory(header=header, events=tuple(events), blobs=blobs)


def history_files(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield every history file that `paths` name, files and folders, each folder's in order.

    Raises:
        HistoryFileError: A path that does not exist, or a folder without a history.
    """
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(path.rglob(f"*{SUFFIX}"))
            if not found:
                raise HistoryFileError(str(path), 0, f"is a folder without a *{SUFFIX} file")
            yield from found
        elif path.exists():
            yield path
        else:
            raise HistoryFileError(str(path), 0, "does not exist")


def _header(name: str, numbered: tuple[int, bytes]) -> HistoryHeader:
    number, line = numbered
    data = _object(name, number, line)
    if data.get("format") != FORMAT:
        raise HistoryFileError(
            name, number, f"is no history: a first line with format {FORMAT!r} is wanted"
        )
    version = data.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        reason = f"has format version {version!r}, this program reads 1 to {FORMAT_VERSION}"
        raise HistoryFileError(name, number, f"{reason}: read it with a newer one")
    known = {part.name for part in fields(HistoryHeader)}
    parts = {key: value for key, value in data.items() if key in known}
    try:
        header = HistoryHeader(**parts)  # type: ignore[arg-type]
    except TypeError as error:
        raise HistoryFileError(name, number, f"has an incomplete header: {error}") from error
    numbers, texts = (header.run, header.events), (header.workflow_id, header.workflow, header.head)
    if not all(isinstance(each, int) for each in numbers) or not all(
        isinstance(each, str) for each in texts
    ):
        raise HistoryFileError(name, number, "has a header with parts of another type")
    return header


def _object(name: str, number: int, line: bytes) -> dict[str, Json]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise HistoryFileError(name, number, f"is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise HistoryFileError(name, number, "is not a JSON object")
    return data


def _event(data: dict[str, Json], head: str, seq: int, place: tuple[str, int]) -> tuple[Event, str]:
    """Return the event of a line and the chain's head after it, having checked both."""
    parts = data.get("event")
    if data.get("seq") != seq or not isinstance(parts, dict):
        raise HistoryFileError(*place, f"is not event {seq}, which is missing")
    after = next_head(head, canonical(parts))
    if data.get("head") != after:
        reason = f"event {seq}, or one before it, is not the one that was chained"
        raise HistoryFileError(*place, f"{reason}: the file was changed")
    try:
        return decode(parts), after
    except (ValueError, TypeError, AttributeError) as error:
        raise HistoryFileError(*place, f"event {seq} cannot be read: {error}") from error


def _keep_blob(blobs: dict[str, Json], data: dict[str, Json], name: str, number: int) -> None:
    value = data.get("value")
    if digest(value) != data["blob"]:
        raise HistoryFileError(name, number, "has a value that does not fit its digest")
    blobs[str(data["blob"])] = value
