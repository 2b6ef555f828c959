"""Indexes made anew from histories: safe while everything runs, and any number of times.

RE1  The history is read first; a run whose history has grown by the time its row is written is read
     again, so that nothing newer is overwritten (I4).
RE2  What the row has and no history tells (its request, its published state) stays as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.client.reading import end_of
from orchestrator.client.summary import history_event_of
from orchestrator.core import events as e
from orchestrator.core.ledger import Ledger
from orchestrator.core.run_retry import goes_on
from orchestrator.core.values import canonical
from orchestrator.store.index_ports import RunIndex
from orchestrator.store.ports import RunKey, StoredEvent

#: Times a run is read again while it moves; its own commits index it meanwhile.
_TRIES_MAX = 20
#: What a field says that need not be there.
_SILENT = ("", "{}", '""')


class ReindexStore(RunIndex, Protocol):
    """The store as reindexing needs it."""

    @property
    def partitions(self) -> int:
        """See `ports.OwnerStore`."""
        ...

    def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """See `ports.OwnerStore`."""
        ...


@dataclass(slots=True)
class Reindexed:
    """What a reindexing did; `failed` has a reason for each run that it could not read."""

    done: int = 0
    failed: list[str] = field(default_factory=list)


def reindex(
    store: ReindexStore, *, progress: Callable[[int], None] = lambda done: None
) -> Reindexed:
    """Index every run of the namespace anew from its history.

    Raises:
        StoreUnavailable: No answer; what was done is done, and doing it again changes nothing.
    """
    report = Reindexed()
    for partition in range(store.partitions):
        for workflow_id, run in store.list_all_runs(partition):
            reason = _reindex_one(store, RunKey(workflow_id=workflow_id, run=run))
            if reason:
                report.failed.append(f"{workflow_id} run {run}: {reason}")
            else:
                report.done += 1
                progress(report.done)
    store.mark_indexed()
    return report


def _reindex_one(store: ReindexStore, key: RunKey) -> str:
    """Return why it could not be done, or ""."""
    for _ in range(_TRIES_MAX):
        (row,) = store.read_rows([(key.workflow_id, key.run)])
        try:
            fields = row_of(key, store.read_history(key), row or {})
        except (ValueError, AssertionError, KeyError) as error:
            return f"its history cannot be read: {error}"
        if fields is None:
            return "it has neither a row nor a history"
        if store.reindex_run(key.workflow_id, key.run, fields):
            return ""
    return "it moved all the while; its own commits index it"


def row_of(
    key: RunKey, stored: Sequence[StoredEvent], row: Mapping[str, str]
) -> dict[str, str] | None:
    """Return the fields of a run's row that its history tells; of a run without one, `row`.

    Raises:
        ValueError: An entry that is no event of this version.
        AssertionError, KeyError: Events that cannot follow each other.
    """
    if not stored:
        return dict(row) or None
    ledger = Ledger()
    events = [history_event_of(entry).event for entry in stored]
    for event in events:
        ledger.apply(event)
    started = events[0]
    if not isinstance(started, e.RunStarted):
        raise ValueError("it does not begin with RunStarted")
    fields = {
        "type": started.workflow,
        "status": ledger.status,
        "started_at_ms": row.get("started_at_ms") or str(started.at_ms),
        "seq": str(ledger.seq),
        "head": stored[-1].head,
        "attributes": canonical(ledger.search_attributes).decode(),
        "memo": canonical(ledger.memo).decode(),
        "summary": canonical(started.summary).decode(),
        "details": canonical(started.details).decode(),
        "current_details": canonical(ledger.current_details).decode(),
    }
    if ledger.ending is not None:
        fields |= _ending_of(ledger.ending)
    if row:
        # The head stays the row's own: were it taken from the history, nobody could tell by it
        # that the history was changed.
        del fields["head"]
    else:
        fields |= {"run": str(key.run), "version": started.version, "request": started.request_id}
    return {name: text for name, text in fields.items() if text not in _SILENT or name in row}


def _ending_of(ending: e.Event) -> dict[str, str]:
    fields = {"closed_at_ms": str(ending.at_ms)}
    if isinstance(ending, e.RunCompleted):
        return fields | {"result": canonical(ending.result).decode()}
    _, failure = end_of(ending)
    if failure is not None:
        fields["failure"] = canonical(failure.as_json()).decode()
    if isinstance(ending, e.RunFailed | e.RunReset) and goes_on(ending):
        fields["retried"] = "1"
    return fields
