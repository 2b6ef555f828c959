"""A run that has not begun: whether it begins now, and what becomes of its mail until then.

DY1  The START of a run that is to begin later goes from the inbox into the row, with the instant at
     which the run begins, and a START timer is set: one commit, without an event.  The history
     begins with the run.
DY2  What arrives for it meanwhile stays in the inbox, unread.  Once the run has begun, the inbox is
     read again, so that all of it is taken in its order.  Queries alone are answered: it has not
     begun.
DY3  A message that goes with a start begins the run at once.
DY4  A run that is cancelled or terminated before it began is withdrawn: its history has its start,
     the request and the end, and no code of it runs.
DY5  The time from which a delay counts is when the store accepted the start.
DY6  The next attempt of a run that failed (`core.run_retry`) waits in the same way: its START lies
     in the row from the beginning.
DY7  The commit that begins a run removes its START timer, whatever began it; what such a timer has
     left behind of a run that has ended vanishes.
"""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.core.values import canonical, loads
from orchestrator.core.with_start import again_in
from orchestrator.engine.children import parent_in
from orchestrator.engine.run import Arrival, LiveRun
from orchestrator.store.ports import InboxEntry, Kind, OwnerStore, TimerKey, TimerKind

_STOPS = frozenset({Kind.CANCEL, Kind.TERMINATE})


def arrivals_of_unbegun(
    store: OwnerStore, run: LiveRun, arrivals: Sequence[Arrival], now_ms: int
) -> list[Arrival]:
    """Return what a run without a history is to take now; the rest stays where it lies.

    Where its START comes from the row, it is an entry with the id "".  What becomes of the row
    stands in the run's draft.

    Raises:
        StoreUnavailable: No answer.
    """
    entries = [arrival for arrival in arrivals if isinstance(arrival, InboxEntry)]
    start = next((entry for entry in entries if entry.kind is Kind.START), None)
    if start is not None and not start.body.get("start_delay_ms"):
        return [*arrivals]
    row = store.find_row(run.key.workflow_id)
    if not row or row["run"] != str(run.key.run):
        return [*arrivals]
    if start is None:
        start = _start_in(row, run)
        if start is None:
            return [*arrivals]
        if not start.body.get("start_delay_ms"):
            run.draft.remove_timer(run.draft.timer(TimerKind.START, 0))
            return [start, *arrivals]  # It continues another one (CN1), sooner than its timer.
    begins_at_ms = int(row["started_at_ms"]) + int(str(start.body["start_delay_ms"]))
    if now_ms >= begins_at_ms or any(map(_begins, arrivals)):
        return _begin(run, start, arrivals)
    for entry in entries:
        if _withdraws(entry, start):
            withdrawn = replace(start, body={**start.body, "withdrawn": True})
            return [*_begin(run, withdrawn, arrivals), entry]
    if start.id:
        _put_off(run, start, begins_at_ms)
    return [entry for entry in entries if entry.kind is Kind.QUERY]


def _start_in(row: dict[str, str], run: LiveRun) -> InboxEntry | None:
    if not row.get("start"):
        return None
    body = loads(row["start"])
    assert isinstance(body, dict), "a start is an object"
    key = run.key
    return InboxEntry(id="", kind=Kind.START, workflow_id=key.workflow_id, run=key.run, body=body)


def _begins(arrival: Arrival) -> bool:
    match arrival:
        case TimerKey(kind=TimerKind.START):
            return True
        case InboxEntry(kind=Kind.SIGNAL | Kind.UPDATE):
            return again_in(arrival.body, arrival.run) is not None
        case _:
            return False


def _withdraws(entry: InboxEntry, start: InboxEntry) -> bool:
    # What a parent asks of a child of its own is not for a stranger that has the id.
    parent = parent_in(entry.body)
    return entry.kind in _STOPS and (not parent or parent == parent_in(start.body))


def _begin(run: LiveRun, start: InboxEntry, arrivals: Sequence[Arrival]) -> list[Arrival]:
    # The others are read again, with what came before them (DY2).
    run.was_cut_short = not start.id or len(arrivals) > 1
    run.draft.remove_timer(run.draft.timer(TimerKind.START, 0))
    run.draft.fields |= {"start": "", "begins_at_ms": ""}
    return [start]


def _put_off(run: LiveRun, start: InboxEntry, begins_at_ms: int) -> None:
    run.draft.inbox_ids.append(start.id)
    run.draft.fields |= {
        "start": canonical(start.body).decode(),
        "begins_at_ms": str(begins_at_ms),
    }
    run.draft.set_timer(run.draft.timer(TimerKind.START, 0), begins_at_ms)
