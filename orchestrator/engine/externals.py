"""What runs say to runs that are no children of theirs: out as letters, and the answers back.

A letter names who asks (its *asker*: workflow, run, external).  Whoever takes it answers:

* the run that records it, in the very commit that records it;
* the delivery, where no run can take it: there is none, or it has ended;
* the owner, where the run ended between the delivery and the taking.

EN1  An answer says what is certain.  A signal that its run has recorded is never called
     undelivered: a delivery that finds the run closed looks into its history first.
EN2  The second answer to one question finds nothing that waits for it, and changes nothing.
"""

from collections.abc import Mapping
from typing import Protocol, TypeGuard

from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.run_retry import goes_on
from orchestrator.core.values import Json, loads
from orchestrator.engine.endings import outcome_of
from orchestrator.engine.ports import BlobStore
from orchestrator.engine.results import (
    handed_over,
    is_sealed_end,
    sealed_result,
    taken_over,
)
from orchestrator.engine.turn import Turn
from orchestrator.store.ports import (
    ClientStore,
    Kind,
    Letter,
    OwnerStore,
    Posted,
    PostedAnswer,
    RunKey,
    StoredEvent,
)

#: How a run can end, by its ending; one that continues as new goes on.
_ENDS: dict[type[e.Event], str] = {
    e.RunCompleted: "completed",
    e.RunFailed: "failed",
    e.RunCancelled: "cancelled",
    e.RunTerminated: "terminated",
}


class Store(OwnerStore, ClientStore, Protocol):
    """The store as the delivery needs it."""


def asker_in(body: Mapping[str, Json]) -> dict[str, Json]:
    """Return which run asks what `body` asks: workflow, run, external; {} for a client."""
    asker = body.get("asker")
    return asker if isinstance(asker, dict) else {}


def answer_to(asker: Mapping[str, Json], body: Mapping[str, Json]) -> Letter:
    """Return the letter that answers `asker`."""
    workflow_id, run = str(asker["workflow"]), int(str(asker["run"]))
    told = {**body, "external": asker["external"], "for_run": run}
    return Letter(kind=Kind.EXTERNAL, workflow_id=workflow_id, run=run, body=told)


def refusal(run: int, status: str, message: str) -> dict[str, Json]:
    """Return an answer that says why not."""
    failure = Failure(type=_TYPES[status], message=message)
    return {"run": run, "status": status, "failure": failure.as_json()}


_TYPES = {
    "not_found": "WorkflowNotFound",
    "closed": "WorkflowClosed",
    "rejected": "SignalRejected",
}


def end_of(run: int, ending: e.Event, blobs: BlobStore) -> dict[str, Json]:
    """Return, for one who watches, how a run ends.

    Raises:
        StoreUnavailable: See `results.handed_over`.
    """
    result, failure = outcome_of(ending)
    told: dict[str, Json] = {"run": run, "status": _ENDS[type(ending)]}
    return told | (
        handed_over(result, blobs) if failure is None else {"failure": failure.as_json()}
    )


def end_known(key: RunKey, ending: e.Event, history: list[StoredEvent]) -> dict[str, Json]:
    """Return an answer that says how a run has ended; what was shredded is no result."""
    result, failure = outcome_of(ending)
    if failure is None and is_sealed_end(history):
        failure = sealed_result(key)
    told: dict[str, Json] = {"run": key.run, "status": _ENDS[type(ending)]}
    return told | ({"result": result} if failure is None else {"failure": failure.as_json()})


class Externals:
    """A run's questions to other runs, and theirs to it."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    # --- as the one who asks ---------------------------------------------------------------------

    def send(self, command: e.Command) -> None:
        """Write the letter that `command` means, if it means one."""
        turn = self._turn
        match command:
            case e.ExternalSignalSent():
                kind = Kind.SIGNAL
                body: dict[str, Json] = {"signal": command.signal, "payload": command.payload}
                body["signal_id"] = f"{turn.key}.external-{command.external}"
            case e.ExternalCancelSent():
                kind = Kind.CANCEL
                body = {"reason": command.reason}
                body["request_id"] = f"{turn.key}.external-{command.external}"
            case e.ExternalResultAwaited():
                kind, body = Kind.WATCH, {}
            case _:
                return
        body["asker"] = turn.as_asker(command.external)
        turn.draft.letters.append(
            Letter(kind=kind, workflow_id=command.id, run=command.run, body=body)
        )

    def take_answer(self, body: Mapping[str, Json]) -> None:
        """What became of a question: external, run, status, and result or failure."""
        number, failure, at_ms = body.get("external"), body.get("failure"), self._turn.at_ms
        if number not in self._turn.ledger.externals:
            return  # Answered already (EN2).
        assert isinstance(number, int)
        run, tools = int(str(body.get("run"))), self._turn.tools
        asked = self._turn.ledger.externals[number]
        result: Json | Failure
        if isinstance(failure, dict):
            result = Failure.from_json(failure)
        elif not isinstance(asked, e.ExternalResultAwaited):
            result = None
        else:
            ended = RunKey(workflow_id=asked.id, run=run)
            result = taken_over(body, ended, tools.blobs, tools.read_history)
        event: e.Input
        if isinstance(result, Failure):
            kind = str(body.get("status"))
            event = e.ExternalFailed(
                at_ms=at_ms, external=number, run=run, kind=kind, failure=result
            )
        else:
            event = e.ExternalCompleted(at_ms=at_ms, external=number, run=run, result=result)
        self._turn.inputs.append(event)

    # --- as the one who is asked -----------------------------------------------------------------

    def taken(self, body: Mapping[str, Json], *, rejected: str = "") -> None:
        """Answer that what `body` asks is recorded in this draft, or why the run rejects it."""
        asker, run = asker_in(body), self._turn.key.run
        if asker:
            told: dict[str, Json] = {"run": run, "status": "delivered"}
            if rejected:
                told = refusal(run, "rejected", rejected)
            self._turn.draft.letters.append(answer_to(asker, told))

    def watch(self, body: Mapping[str, Json]) -> None:
        """Another run waits for this one's end: asker."""
        asker = asker_in(body)
        if asker and asker not in self._turn.ledger.watchers:
            self._turn.draft.record(e.WatcherAdded(at_ms=self._turn.at_ms, watcher=asker))

    def tell_watchers(self, ending: e.Event) -> None:
        """Tell those who wait how this run ended, in the commit that ends it."""
        run, blobs = self._turn.key.run, self._turn.tools.blobs
        for watcher in self._turn.ledger.watchers:
            told = end_of(run, ending, blobs)  # Each keeps a copy of its own.
            self._turn.draft.letters.append(answer_to(watcher, told))

    def too_late(self, kind: Kind, body: Mapping[str, Json]) -> Letter | None:
        """Return the answer to what came after this run's end; None where nobody waits for one."""
        asker, ending, key = asker_in(body), self._turn.ledger.ending, self._turn.key
        if not asker:
            return None
        if kind is Kind.WATCH and _ends(ending):
            return answer_to(asker, end_known(key, ending, self._turn.tools.read_history(key)))
        return answer_to(asker, _closed(key))


def answer_undelivered(store: Store, letter: Letter, posted: Posted) -> Letter | None:
    """Return the answer to a letter that no run took; None where none is wanted, or it is given.

    Raises:
        StoreUnavailable: No answer.
    """
    asker, workflow_id = asker_in(letter.body), letter.workflow_id
    if not asker:
        return None
    if posted.answer is PostedAnswer.NOT_FOUND:
        which = f"run {letter.run} of {workflow_id}" if letter.run else workflow_id
        return answer_to(asker, refusal(0, "not_found", f"there is no {which} in this namespace"))
    key = RunKey(workflow_id=workflow_id, run=posted.run)
    history = store.read_history(key)
    events = [_event(stored) for stored in history]
    ending = events[-1] if events else None
    if letter.kind is Kind.WATCH and _ends(ending):
        return answer_to(asker, end_known(key, ending, history))
    if any(_is_of(event, letter.body) for event in events):
        # EN1: 1. delivered, recorded and answered; 2. a crash before the letter was removed;
        # 3. the run ended.
        return None
    return answer_to(asker, _closed(key))


def _ends(event: e.Event | None) -> TypeGuard[e.Event]:
    """Return whether the chain of a run ended with `event`, so that there is an end to tell."""
    return type(event) in _ENDS and not goes_on(event)


def _closed(key: RunKey) -> dict[str, Json]:
    message = f"{key.workflow_id} run {key.run} has ended: it takes no more messages"
    return refusal(key.run, "closed", message)


def _event(stored: StoredEvent) -> e.Event:
    return e.decode(loads(stored.data))  # type: ignore[arg-type]


def _is_of(event: e.Event, body: Mapping[str, Json]) -> bool:
    match event:
        case e.SignalReceived() | e.SignalRejected():
            return event.signal_id == body.get("signal_id")
        case e.CancelRequested():
            return event.request_id == body.get("request_id")
        case _:
            return False
