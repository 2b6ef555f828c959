"""A run that goes on as the next run of its id: what goes over, and what becomes of it there.

CN1  The old run's end and the new run's start are one commit; there is no instant between them.
CN2  What arrived and was not taken goes over in its order, and comes before all that arrives later.
CN3  A signal that the chain has taken lately is known again, whichever run it reaches.
CN4  Mail for a run that was continued is mail for the run that goes on (`Forwarding`).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.core import events as e
from orchestrator.core.events import SignalReceived
from orchestrator.core.limits import CARRIED_SIGNAL_IDS_MAX
from orchestrator.core.values import Json, loads
from orchestrator.engine.turn import Turn
from orchestrator.store.ports import InboxEntry, Kind, NextRun, OwnerStore, RunKey, TimerKind

#: Ids whose latest run an owner remembers; of the others the log tells.
_REMEMBERED_MAX = 10_000
_FOLLOWS = frozenset({Kind.SIGNAL, Kind.UPDATE, Kind.CANCEL, Kind.TERMINATE, Kind.WATCH})


def signal_digest(signal_id: str) -> str:
    """Return what a chain remembers of a signal's id: 64 bits of its SHA-256, in hex."""
    return hashlib.sha256(signal_id.encode()).hexdigest()[:16]


def continue_run(turn: Turn, asked: e.RunContinuedAsNew, unread: Sequence[SignalReceived]) -> None:
    """Have the commit of the run's end open the next one; before that end is appended.

    `asked` has the input itself, not a reference to it.  What came over from the run before, and is
    not even recorded here, goes on behind what is `unread`.
    """
    waiting = [event for event in turn.inputs if isinstance(event, SignalReceived)]
    unread = [*unread, *waiting]
    key, started = turn.key, turn.started
    first_run = started.first_run or key.run
    carried = {signal.signal_id for signal in unread}
    taken = [signal_digest(one) for one in turn.ledger.signal_ids if one not in carried]
    body: dict[str, Json] = {
        "workflow": asked.workflow,
        "args": asked.args,
        "kwargs": asked.kwargs,
        "request_id": f"{key}.next",
        "continued_from": key.run,
        "first_run": first_run,
        "seen": [*[*started.seen, *taken][-CARRIED_SIGNAL_IDS_MAX:]],
        "carried": [
            {"signal": one.signal, "signal_id": one.signal_id, "payload": one.payload}
            for one in unread
        ],
    }
    for name, value in (
        ("search_attributes", turn.ledger.search_attributes),
        ("memo", turn.ledger.memo),
        ("summary", started.summary),
        ("details", started.details),
        ("headers", started.headers),
    ):
        if value:
            body[name] = value
    if started.parent:
        body["parent"] = started.parent
    if turn.ledger.watchers:
        body["watchers"] = [*turn.ledger.watchers]
    turn.draft.next_run = NextRun(
        workflow=asked.workflow, request=f"{key}.next", first_run=first_run, body=body
    )
    follows = RunKey(workflow_id=key.workflow_id, run=key.run + 1)
    turn.draft.set_timer(turn.draft.timer_of(follows, TimerKind.START, 0), turn.at_ms)


def carried_in(body: Mapping[str, Json], at_ms: int) -> Iterator[SignalReceived]:
    """Yield the signals that a start brings with it, oldest first."""
    carried = body.get("carried")
    for one in carried if isinstance(carried, list) else []:
        assert isinstance(one, dict)
        yield SignalReceived(
            at_ms=at_ms,
            signal=str(one["signal"]),
            signal_id=str(one["signal_id"]),
            payload=one.get("payload"),
        )


def start_in_row(store: OwnerStore, key: RunKey) -> list[InboxEntry]:
    """Return the start that lies in the row of a run that has not begun, as an entry, or [].

    It is in no inbox: its id is "".

    Raises:
        StoreUnavailable: No answer.
    """
    row = store.find_row(key.workflow_id)
    if not row or row["run"] != str(key.run) or not row.get("start"):
        return []
    body = loads(row["start"])
    assert isinstance(body, dict), "a start is an object"
    return [InboxEntry(id="", kind=Kind.START, workflow_id=key.workflow_id, run=key.run, body=body)]


class Forwarding:
    """Which run goes on for one that was continued (CN4), as far as an owner knows."""

    def __init__(self) -> None:
        self._chains: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def note(self, key: RunKey) -> None:
        """Run `key` was continued by the next one of its id."""
        first, latest = self._chains.pop(key.workflow_id, (key.run, key.run))
        if not first <= key.run <= latest:
            first = key.run
        self._chains[key.workflow_id] = (first, max(latest, key.run + 1))
        while len(self._chains) > _REMEMBERED_MAX:
            self._chains.popitem(last=False)

    def run_of(self, entry: InboxEntry, run: int) -> int:
        """Return the number of the run that takes `entry`, which is meant for run `run`."""
        first, latest = self._chains.get(entry.workflow_id, (0, 0))
        return latest if entry.kind in _FOLLOWS and first <= run < latest else run


def follows(kind: Kind) -> bool:
    """Return whether entries of this kind go on to the run that continues theirs."""
    return kind in _FOLLOWS
