"""A run that goes on as the next run of its id: what goes over, and what becomes of it there.

CN1  The old run's end and the new run's start are one commit; there is no instant between them.
CN2  What arrived and was not taken goes over in its order, and comes before all that arrives later.
CN3  A signal or an update that the chain has taken lately is known again, whichever run it
     reaches.  Updates behind the cut of a reset are not: what they did is not in the run either.
CN4  Mail for a run that was continued is mail for the run that goes on (`Forwarding`).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

from orchestrator.core import events as e
from orchestrator.core.deadlines import timeouts_left
from orchestrator.core.errors import ActivationFailed
from orchestrator.core.events import SignalReceived
from orchestrator.core.execution import Execution
from orchestrator.core.last_ends import LastEnds
from orchestrator.core.limits import CARRIED_BYTES_MAX, CARRIED_SIGNAL_IDS_MAX, EVENT_BYTES_MAX
from orchestrator.core.resetting import Origin, start_of
from orchestrator.core.run_retry import with_next_attempt
from orchestrator.core.seen import signal_digest, update_digest
from orchestrator.core.values import Json, canonical
from orchestrator.engine.endings import handed_on
from orchestrator.engine.turn import Turn
from orchestrator.store.ports import InboxEntry, Kind, NextRun, OwnerStore, RunKey, TimerKind

#: Ids whose latest run an owner remembers; of the others the log tells.
_REMEMBERED_MAX = 10_000
#: Inputs that the next run gets where the old one's code had no chance to see them.
_GO_OVER = (SignalReceived, e.CancelRequested, e.TerminateRequested)
_FOLLOWS = frozenset({Kind.SIGNAL, Kind.UPDATE, Kind.CANCEL, Kind.TERMINATE, Kind.WATCH})


def going_over(turn: Turn, execution: Execution) -> list[e.Input]:
    """Return what the run's code has not taken, for the next run, in the order of its coming.

    What came over from the run before, and is not even recorded here, is behind the rest.

    Raises:
        ActivationFailed: It is more than one start can carry.
    """
    unread: list[e.Input] = [*execution.mailbox.unread(), *execution.late, *turn.inputs]
    over: list[e.Input] = [event for event in unread if isinstance(event, _GO_OVER)]
    # Only many of them can be too much: each fits an event.
    if len(over) * EVENT_BYTES_MAX > CARRIED_BYTES_MAX:
        size = sum(len(canonical(_as_carried(event))) for event in over)
        if size > CARRIED_BYTES_MAX:
            raise ActivationFailed(
                "limit",
                f"{len(over)} signals that nobody has taken, {size} bytes, do not fit into the "
                f"start of the next run, at most {CARRIED_BYTES_MAX} do; they are kept here: "
                "deploy code that takes more of them before it calls continue_as_new, or reads "
                "large data from a store of its own",
            )
    return over


def continue_run(turn: Turn, asked: e.RunContinuedAsNew, over: Sequence[e.Input]) -> None:
    """Have the commit of the run's end open the next one; before that end is appended.

    `asked` has the input itself, not a reference to it; `over` is what `going_over` returned.
    """
    begins: dict[str, Json] = {
        "workflow": asked.workflow,
        "args": asked.args,
        "kwargs": asked.kwargs,
    }
    _open_next(turn, begins, over, turn.ledger.last_ends, at_ms=turn.at_ms)


def _open_next(
    turn: Turn,
    begins: Mapping[str, Json],
    over: Sequence[e.Input],
    last: LastEnds,
    *,
    at_ms: int,
) -> None:
    """Have the commit open the next run at `at_ms`; `begins` is what its START says of its own."""
    key, started = turn.key, turn.started
    first_run = started.first_run or key.run
    carried = {event.signal_id for event in over if isinstance(event, SignalReceived)}
    taken = [signal_digest(one) for one in turn.ledger.signal_ids if one not in carried]
    if "origin" not in begins:
        taken += [update_digest(one) for one in turn.ledger.update_ids]
    body: dict[str, Json] = {
        "request_id": f"{key}.next",
        "continued_from": key.run,
        "first_run": first_run,
        "seen": [*[*started.seen, *taken][-CARRIED_SIGNAL_IDS_MAX:]],
        "carried": [_as_carried(event) for event in over],
        **handed_on(last, turn.tools.blobs),
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
    body |= timeouts_left(started)
    if started.retry:
        body["retry"] = started.retry
    if started.parent:
        body["parent"] = started.parent
    if turn.ledger.watchers:
        body["watchers"] = [*turn.ledger.watchers]
    body |= begins
    turn.draft.next_run = NextRun(
        workflow=str(begins["workflow"]), request=f"{key}.next", first_run=first_run, body=body
    )
    follows = RunKey(workflow_id=key.workflow_id, run=key.run + 1)
    turn.draft.set_timer(turn.draft.timer_of(follows, TimerKind.START, 0), at_ms)


def with_attempts(turn: Turn, commands: Sequence[e.Command]) -> Sequence[e.Command]:
    """Return the commands; a failure of the run says in it whether the run is attempted again."""
    if not turn.started.retry:
        return commands
    return [
        with_next_attempt(command, turn.ledger, at_ms=turn.at_ms, jitter=turn.tools.rng.random())
        if isinstance(command, e.RunFailed)
        else command
        for command in commands
    ]


def reset_run(turn: Turn, origin: Origin) -> None:
    """Have the commit of the run's end open the next one, which goes on from `origin`."""
    started = turn.started
    begins: dict[str, Json] = {
        **start_of(started),
        "request_id": origin.request_id,
        "attempt": started.attempt,
        "origin": origin.as_json(),
        "execution_deadline_at_ms": None,  # It stood still (DL3).
    }
    _open_next(turn, begins, (), LastEnds.of(started), at_ms=turn.at_ms)


def retry_run(turn: Turn, failed: e.RunFailed, over: Sequence[e.Input]) -> None:
    """Have the commit of the run's failure open the next attempt; before that end is appended."""
    started, at_ms = turn.started, failed.retry_at_ms
    begins: dict[str, Json] = {
        "workflow": started.workflow,
        "args": started.args,
        "kwargs": started.kwargs,
        "attempt": started.attempt + 1,
    }
    if started.is_pinned:
        begins["version"] = started.version
    if at_ms > turn.at_ms:
        begins["start_delay_ms"] = at_ms - turn.at_ms
    last = turn.ledger.last_ends.failed(failed.failure)
    _open_next(turn, begins, over, last, at_ms=at_ms)


def _as_carried(event: e.Input) -> Json:
    match event:
        case SignalReceived():
            return {
                "signal": event.signal,
                "signal_id": event.signal_id,
                "payload": event.payload,
            }
        case e.CancelRequested():
            return {"cancel": event.reason, "request_id": event.request_id}
        case e.TerminateRequested():
            return {"terminate": event.reason, "request_id": event.request_id}
        case _:
            raise AssertionError(f"{type(event).__name__} does not go over")


def carried_in(body: Mapping[str, Json], at_ms: int) -> Iterator[e.Input]:
    """Yield the inputs that a start brings with it, oldest first."""
    carried = body.get("carried")
    for one in carried if isinstance(carried, list) else []:
        assert isinstance(one, dict)
        yield _from_carried(one, at_ms)


def _from_carried(one: Mapping[str, Json], at_ms: int) -> e.Input:
    for name, kind in (("cancel", e.CancelRequested), ("terminate", e.TerminateRequested)):
        if name in one:
            request_id = str(one.get("request_id") or "")
            return kind(at_ms=at_ms, reason=str(one[name]), request_id=request_id)
    return SignalReceived(
        at_ms=at_ms,
        signal=str(one["signal"]),
        signal_id=str(one["signal_id"]),
        payload=one.get("payload"),
    )


class Forwarding:
    """Which run goes on for one that was continued (CN4), as far as an owner knows.

    What it knows of an id may be old: whoever asks of a run that is not in memory looks at its row
    first.  Entries for several runs of a chain would otherwise be taken in another order than they
    came in, where an owner meets a chain that others have continued.
    """

    def __init__(self) -> None:
        self._chains: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def note(self, key: RunKey) -> None:
        """Run `key` was continued by the next one of its id."""
        first, latest = self._chains.get(key.workflow_id, (key.run, key.run))
        # One before `first` is of an older chain: it does not join the one that has the id now.
        first = key.run if key.run > latest else first
        self._remember(key.workflow_id, first, max(latest, key.run + 1))

    def learn(self, workflow_id: str, row: Mapping[str, str] | None) -> int:
        """Take note of what an id's row says; return the number of its latest run, 0 for none."""
        if row is None:
            self._chains.pop(workflow_id, None)
            return 0
        latest = int(row["run"])
        self._remember(workflow_id, int(row.get("first") or latest), latest)
        return latest

    def is_over(self, key: RunKey) -> bool:
        """Return whether the chain of run `key` has ended, and another one has its id."""
        first, _ = self._chains.get(key.workflow_id, (0, 0))
        return key.run < first

    def run_of(self, entry: InboxEntry, run: int) -> int:
        """Return the number of the run that takes `entry`, which is meant for run `run`."""
        first, latest = self._chains.get(entry.workflow_id, (0, 0))
        return latest if entry.kind in _FOLLOWS and first <= run < latest else run

    def _remember(self, workflow_id: str, first: int, latest: int) -> None:
        self._chains[workflow_id] = (first, latest)
        self._chains.move_to_end(workflow_id)
        while len(self._chains) > _REMEMBERED_MAX:
            self._chains.popitem(last=False)


class Sorting:
    """Finds, for the entries of one reading, the run that takes each."""

    def __init__(
        self, store: OwnerStore, forwarding: Forwarding, is_in_memory: Callable[[RunKey], bool]
    ) -> None:
        self._store = store
        self._forwarding = forwarding
        self._is_in_memory = is_in_memory
        #: The latest run of each id that was looked at: once per reading, however many entries.
        self._latest: dict[str, int] = {}

    def run_of(self, entry: InboxEntry) -> int:
        """Return the number of the run that takes `entry`; 0 where no run has the id.

        Raises:
            StoreUnavailable: No answer.
        """
        if not entry.run:
            return self._look(entry.workflow_id)
        if entry.kind is Kind.START:
            self._latest.setdefault(entry.workflow_id, entry.run)  # Nothing precedes it.
        elif entry.kind in _FOLLOWS:
            run = self._forwarding.run_of(entry, entry.run)
            if not self._is_in_memory(RunKey(workflow_id=entry.workflow_id, run=run)):
                self._look(entry.workflow_id)
        return self._forwarding.run_of(entry, entry.run)

    def _look(self, workflow_id: str) -> int:
        if workflow_id not in self._latest:
            row = self._store.find_row(workflow_id)
            self._latest[workflow_id] = self._forwarding.learn(workflow_id, row)
        return self._latest[workflow_id]


def follows(kind: Kind) -> bool:
    """Return whether entries of this kind go on to the run that continues theirs."""
    return kind in _FOLLOWS
