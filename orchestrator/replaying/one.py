"""One history against the code of a registry."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from orchestrator.client.history_file import RecordedHistory, read_history_file
from orchestrator.core.blobs import BlobRef
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import (
    ActivationFailed,
    HistoryFileError,
    NondeterminismError,
    StoreUnavailable,
)
from orchestrator.core.events import Event, RunBlocked, RunStarted, RunUnblocked
from orchestrator.core.replay import replay
from orchestrator.core.values import Json, canonical, digest
from orchestrator.core.versions import to_carry_on, why_unknown
from orchestrator.engine.references import with_values
from orchestrator.replaying.results import Mismatch, ReplayResult, ReplayStatus

T = TypeVar("T")

#: Carries out an activation, bounded: `engine.watchdog.Watchdog`.
Watch = Callable[[str, Callable[[], list[Event]]], list[Event]]
Source = str | Path | RecordedHistory

_DIFFERS = " [differs in "


class FileBlobs:
    """The values that came with a history; see `engine.ports.BlobStore`."""

    def __init__(self, values: Mapping[str, Json]) -> None:
        self._values = dict(values)

    def put(self, value: Json) -> BlobRef:
        """See `BlobStore.put`."""
        ref = BlobRef(sha256=digest(value), size=len(canonical(value)))
        self._values[ref.sha256] = value
        return ref

    def get(self, ref: BlobRef) -> Json:
        """See `BlobStore.get`."""
        if ref.sha256 not in self._values:
            raise StoreUnavailable(f"reading blob {ref.sha256[:12]}", "it is not in the file")
        return self._values[ref.sha256]


def replay_source(
    registry: Mapping[str, WorkflowDefinition], source: Source, watch: Watch
) -> ReplayResult:
    """Return what replaying `source` finds; it raises nothing that the code or the file does."""
    if isinstance(source, RecordedHistory):
        header = source.header
        return replay_history(registry, source, f"{header.workflow_id} run {header.run}", watch)
    try:
        history = read_history_file(source)
    except HistoryFileError as error:
        return ReplayResult(source=str(source), status=ReplayStatus.UNREADABLE, message=str(error))
    return replay_history(registry, history, str(source), watch)


def replay_history(
    registry: Mapping[str, WorkflowDefinition], history: RecordedHistory, name: str, watch: Watch
) -> ReplayResult:
    """Return what replaying a history finds; see `core.replay` for what is compared."""
    header = history.header
    started = history.events[0] if history.events else None
    if isinstance(started, RunStarted):
        definition = to_carry_on(registry, started)
    else:
        definition = registry.get(header.workflow)
    born_with, blocked = _code_and_block(history)

    def result(status: ReplayStatus, message: str = "", **more: object) -> ReplayResult:
        now = definition.fingerprint if definition is not None else ""
        return ReplayResult(
            source=name,
            workflow_id=header.workflow_id,
            run=header.run,
            workflow=header.workflow,
            events=len(history.events),
            status=status,
            message=message,
            is_code_changed=now != born_with if now and born_with else None,
            blocked=f"{blocked.kind}: {blocked.message}" if blocked else "",
            **more,  # type: ignore[arg-type]
        )

    if definition is None:
        version = started.version if isinstance(started, RunStarted) else header.version
        message = why_unknown(registry, header.workflow, version)
        return result(ReplayStatus.UNKNOWN, message)
    try:
        _replay(definition, history, watch)
    except NondeterminismError as error:
        found = _mismatch(error)
        return result(ReplayStatus.MISMATCH, str(error), mismatch=found, where=error.where)
    except ActivationFailed as error:
        return result(
            ReplayStatus.FAILED,
            f"{error.kind}: {error.message}",
            where=error.where,
            traceback=error.traceback,
        )
    except (StoreUnavailable, ValueError) as error:
        return result(ReplayStatus.UNREADABLE, str(error))
    return result(ReplayStatus.FITS)


def _replay(definition: WorkflowDefinition, history: RecordedHistory, watch: Watch) -> None:
    header, blobs = history.header, FileBlobs(history.blobs)
    events = [with_values(event, blobs) for event in history.events]
    subject = f"{header.workflow_id}.{header.run}"
    replayed = replay(
        definition,
        header.workflow_id,
        header.run,
        events,
        activate=lambda apply: watch(subject, apply),  # type: ignore[arg-type, return-value]
    )
    replayed.execution.close()


def _mismatch(error: NondeterminismError) -> Mismatch:
    issued, _, differs = error.issued.partition(_DIFFERS)
    return Mismatch(
        seq=error.seq,
        recorded=error.recorded,
        issued=issued,
        differs=tuple(differs.removesuffix("]").split(", ")) if differs else (),
        where=error.where,
    )


def _code_and_block(history: RecordedHistory) -> tuple[str, RunBlocked | None]:
    """Return the fingerprint of the code that last moved the run, and what it rests for."""
    fingerprint, blocked = "", None
    for event in history.events:
        if isinstance(event, RunStarted | RunUnblocked):
            fingerprint, blocked = event.fingerprint or fingerprint, None
        elif isinstance(event, RunBlocked):
            blocked = event
    return fingerprint, blocked
