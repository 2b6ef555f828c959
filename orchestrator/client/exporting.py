"""From the store to files: histories as `history_file` writes them.

X1  A file appears whole, under its name, or not at all.
X2  Memory holds one page of events, and one large value, however long the history.
X3  A run is exported as it stands when the export begins; what it does meanwhile is not in it.
"""

import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path

from orchestrator.client.history_file import (
    HistoryHeader,
    blob_line,
    event_line,
    file_name,
    header_line,
)
from orchestrator.client.listing import filter_of, iterate
from orchestrator.client.messages import Target
from orchestrator.client.reading import describe
from orchestrator.client.session import Session
from orchestrator.client.summary import RunSummary, history_event_of, instant
from orchestrator.core.blobs import BlobRef, find_blob_ref
from orchestrator.core.errors import OrchestratorError, UsageError
from orchestrator.core.events import INPUTS, Event
from orchestrator.store.ports import RunKey, StoredEvent

#: Events of one page; each is at most ``EVENT_BYTES_MAX`` large.
PAGE_EVENTS = 200

Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What became of an export of many runs.

    Args:
        files: One per run, newest run first.
        waiting: Ids of runs that have no event yet: there is nothing to export of them.
        failed: Why a run could not be exported, by its id.
    """

    files: list[Path]
    waiting: list[str]
    failed: dict[str, str]


async def export(session: Session, target: Target, write: Write) -> HistoryHeader:
    """Write a run's history, line by line, and return the header that it begins with.

    Raises:
        RunNotFound: No run has this id.
        UsageError: No orchestrator has seen it yet, or its history lacks events.
        StoreUnavailable: No answer; or a value it refers to cannot be read.
    """
    summary = await describe(session, target)
    if not summary.seq:
        raise UsageError(
            f"{summary.workflow_id} has no event yet: no orchestrator has seen it; "
            f"export it once it has started"
        )
    header = await _header(session, summary)
    write(header_line(header))
    seen: set[str] = set()
    async for stored in stored_events(session, summary, about=f"{summary.workflow_id}: "):
        _write_blobs(session, stored, seen, write)
        write(event_line(stored))
    return header


async def stored_events(
    session: Session, run: RunSummary, *, about: str = ""
) -> AsyncIterator[StoredEvent]:
    """Yield the events that `run` says there are, oldest first, page by page.

    Raises:
        UsageError: One is missing; the text begins with `about`.
        StoreUnavailable: No answer.
    """
    seq = 0
    while seq < run.seq:
        page = await _page(session, run.key, seq, min(PAGE_EVENTS, run.seq - seq))
        for stored in page:
            if stored.seq != seq + 1:
                break
            yield stored
            seq += 1
        if not page or page[-1].seq != seq:
            raise UsageError(f"{about}event {seq + 1} is missing; workflow verify tells more")


async def export_file(session: Session, target: Target, path: str | Path) -> Path:
    """Write a run's history into a file (X1) and return its path; a folder is given a name in it.

    Raises:
        RunNotFound, UsageError, StoreUnavailable: See `export`.
        OSError: The file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        run = target.run or (await describe(session, target)).run
        path /= file_name(target.workflow_id, run)
        target = Target(workflow_id=target.workflow_id, run=run)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".export-", delete=False) as file:
        try:
            await export(session, target, file.write)
        except BaseException:
            Path(file.name).unlink()
            raise
    return Path(file.name).replace(path)


async def export_open(session: Session, folder: str | Path, type: str | None) -> Exported:
    """Write the history of every open run into a folder, which is made if need be.

    A run that cannot be exported does not keep the others from it.

    Raises:
        StoreUnavailable: No answer.
        OSError: The folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = filter_of("", {"closed": False, "type": type})
    done = Exported(files=[], waiting=[], failed={})
    async for run in iterate(session, wanted):
        if not run.seq:
            done.waiting.append(run.workflow_id)
            continue
        target = Target(workflow_id=run.workflow_id, run=run.run)
        try:
            done.files.append(await export_file(session, target, folder))
        except OrchestratorError as error:
            done.failed[run.workflow_id] = str(error)
    return done


async def _header(session: Session, summary: RunSummary) -> HistoryHeader:
    now_ms = await session.resend(session.store.now_ms)
    last = await _page(session, summary.key, summary.seq - 1, 1)
    return HistoryHeader(
        workflow_id=summary.workflow_id,
        run=summary.run,
        workflow=summary.type,
        version=summary.version,
        status=summary.status,
        events=summary.seq,
        # What the last event says; the row's own may be a commit ahead.
        head=last[0].head if last else summary.head,
        exported_at=instant(now_ms).isoformat(),
        engine=version("celery-orchestrator"),
    )


async def _page(session: Session, key: RunKey, after_seq: int, count: int) -> list[StoredEvent]:
    return await session.resend(
        lambda: session.store.read_history(key, after_seq=after_seq, count=count)
    )


def _write_blobs(session: Session, stored: StoredEvent, seen: set[str], write: Write) -> None:
    for ref in _needed(history_event_of(stored).event):
        if ref.sha256 not in seen:
            seen.add(ref.sha256)
            write(blob_line(ref, session.blobs.get(ref)))


def _needed(event: Event) -> list[BlobRef]:
    """Return what replay has to know of an event and finds by reference only: an input's values."""
    if not isinstance(event, INPUTS):
        return []
    refs = (find_blob_ref(getattr(event, part.name)) for part in fields(event))
    return [ref for ref in refs if ref is not None]
