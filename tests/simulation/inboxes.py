"""What leaves an inbox is recorded: looked at whenever an entry goes (P1).

An entry goes with the commit that records it, or is discarded because it changes nothing: a query,
a repetition, mail for a run that has ended or that there is not.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.store.ports import InboxEntry, Kind, PostAnswer, PostedAnswer
from tests.simulation import histories
from tests.simulation.attempts import Call
from tests.simulation.broken import Broken
from tests.simulation.histories import Event
from tests.simulation.server import Server
from tests.simulation.watch import Watch


class Inboxes:
    """Compares what leaves the inboxes with the histories."""

    def __init__(self, server: Server, watch: Watch) -> None:
        self._server = server
        self._watch = watch

    def touched(self, call: Call) -> list[tuple[int, InboxEntry]]:
        """Return the entries that a call may remove, each with its partition."""
        if call.name == "commit":
            ids = {one for _, commit in call.args[0] for one in commit.inbox_ids}
        elif call.name == "discard":
            ids = set(call.args[2])
        else:
            return []
        if not ids:
            return []
        return [
            (number, entry)
            for number, part in enumerate(self._server._parts)
            for entry_id, entry in part.inbox.items()
            if entry_id in ids
        ]

    def check(self, touched: Sequence[tuple[int, InboxEntry]]) -> None:
        """Check those of `touched` that are gone.

        Raises:
            Broken: One left no trace, although something ought to tell of it.
        """
        for partition, entry in touched:
            if entry.id not in self._server._parts[partition].inbox:
                self._check_gone(entry)

    def check_open(self, call: Call, answer: Any) -> None:
        """Check that a run that takes a message has not ended.

        Raises:
            Broken: Its sender was told that it is delivered, and nobody will ever look at it.
        """
        if answer.answer is not PostedAnswer.POSTED or call.args[1] is Kind.QUERY:
            return
        key = histories.key_of(call.args[0], answer.run)
        if histories.is_ended(self._watch.events(key)):
            raise Broken(
                "P1", f"{call.args[1].value} to {key}", "closed: the run has ended", "taken"
            )

    def check_late(self, call: Call, answer: Any) -> None:
        """Check that an outcome that came too late is told of.

        Raises:
            Broken: Its worker was told so, and history will never know.
        """
        key, token, _ = call.args
        if answer is not PostAnswer.SUPERSEDED or not token:
            return
        told = {"step": key.step, "attempt": key.attempt}
        waiting = any(
            entry.kind is Kind.LATE_OUTCOME and entry.body.items() >= told.items()
            for part in self._server._parts
            for entry in part.inbox.values()
        )
        if not waiting and not _refused(self._watch.events(key.run_key), told):
            raise Broken("P1", f"outcome of {key}, too late", "in the inbox, to be told of", "gone")

    def _check_gone(self, entry: InboxEntry) -> None:
        if entry.kind is Kind.PERMIT and entry.body["run"] != entry.run:
            return  # Of an earlier run of the id, which has ended: it goes back to its key.
        events = self._watch.events(histories.key_of(entry.workflow_id, entry.run))
        if not events and self._watch.has_lost_tail:
            return  # Its run is lost, and whoever took it did not know yet.
        if histories.is_ended(events):
            return  # It raced with the end; a signal is kept among the rejected, see `checks`.
        events = [*self._before(entry, events), *events]
        if not _TRACES[entry.kind](events, entry.body):
            raise Broken(
                "P1",
                f"{entry.kind.value} left the inbox of {entry.workflow_id}.{entry.run}",
                f"an event that tells of {dict(entry.body)}",
                f"none among {[event['type'] for event in events]}",
            )

    def _before(self, entry: InboxEntry, events: Sequence[Event]) -> list[Event]:
        """Return what the chain has on record before this run, where that may tell of the entry."""
        told: list[Event] = []
        while entry.kind is Kind.SIGNAL and events and (run := events[0].get("continued_from")):
            events = self._watch.events(histories.key_of(entry.workflow_id, run))
            told = [*events, *told]
        return told


def _started(events: Sequence[Event], body: Mapping[str, Any]) -> bool:
    return bool(events) and events[0].get("request_id") == body["request_id"]


def _signalled(events: Sequence[Event], body: Mapping[str, Any]) -> bool:
    told = histories.of_type(events, "SignalReceived", "SignalRejected")
    return any(event["signal_id"] == body["signal_id"] for event in told)


def _requested(
    request: str, event_type: str
) -> Callable[[Sequence[Event], Mapping[str, Any]], bool]:
    def has_trace(events: Sequence[Event], body: Mapping[str, Any]) -> bool:
        told = histories.of_type(events, event_type)
        if any(event.get("request_id") == body["request_id"] for event in told):
            return True
        rejected = histories.of_type(events, "RequestRejected")
        return any(event["request"] == request for event in rejected)

    return has_trace


def _attempted(events: Sequence[Event], body: Mapping[str, Any]) -> bool:
    told = histories.of_type(events, *histories.ENDS_ATTEMPT, "OutcomeRefused")
    asked = body["step"], body["attempt"]
    return any((event["step"], event["attempt"]) == asked for event in told)


def _refused(events: Sequence[Event], body: Mapping[str, Any]) -> bool:
    told = histories.of_type(events, "OutcomeRefused")
    asked = body["step"], body["attempt"]
    return any((event["step"], event["attempt"]) == asked for event in told)


def _decided(events: Sequence[Event], body: Mapping[str, Any]) -> bool:
    told = histories.of_type(events, "StepUnparked")
    if any(event.get("by") == body["by"] for event in told):
        return True
    return any(one["request"] == "decision" for one in histories.of_type(events, "RequestRejected"))


def _granted(events: Sequence[Event], body: Mapping[str, Any]) -> bool:
    told = histories.of_type(events, "PermitGranted", "PermitReleased")
    return any(event["permit"] == body["permit"] for event in told)


#: What in a history tells of an entry.
_TRACES: Mapping[Kind, Callable[[Sequence[Event], Mapping[str, Any]], bool]] = {
    Kind.START: _started,
    Kind.SIGNAL: _signalled,
    Kind.CANCEL: _requested("cancel", "CancelRequested"),
    Kind.TERMINATE: _requested("terminate", "TerminateRequested"),
    Kind.OUTCOME: _attempted,
    Kind.LATE_OUTCOME: _refused,
    Kind.DECISION: _decided,
    Kind.PERMIT: _granted,
    Kind.QUERY: lambda events, body: True,
}
