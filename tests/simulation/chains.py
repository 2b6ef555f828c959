"""P2, for runs that go on: every signal of a chain reaches exactly one of its runs, in order.

What a run's code has taken, and what it left, is told by replaying its history.
"""

from collections.abc import Sequence

from orchestrator.core.events import decode
from orchestrator.core.replay import replay
from orchestrator.store.ports import RunKey
from tests.simulation import histories, programs
from tests.simulation.broken import Broken
from tests.simulation.checks import Verdict
from tests.simulation.histories import Event
from tests.simulation.retries import attempts_max


def check_chains(verdict: Verdict) -> None:
    """Follow every chain from its first run on.

    Raises:
        Broken: A run goes on as nothing, or a signal was lost, taken twice or moved.
    """
    for key, events in verdict.runs.items():
        if not events[0].get("continued_from"):
            _check_chain(verdict, key)


def check_retries(verdict: Verdict) -> None:
    """Check that no attempt is missing: a run that has failed for good had a reason to.

    Raises:
        Broken: It had attempts left, and nobody asked it to stop.
    """
    for key, events in verdict.runs.items():
        first, ending = events[0], events[-1]
        if ending["type"] != "RunFailed" or ending.get("retry_at_ms") or "retry" not in first:
            continue
        is_stopped = histories.of_type(events, "CancelRequested", "TerminateRequested")
        is_final = ending["failure"].get("non_retryable") or is_stopped
        if first.get("attempt", 1) < attempts_max(first) and not is_final:
            raise Broken("P2", f"{key} has failed", "another attempt, by its policy", first)


def _check_chain(verdict: Verdict, first: RunKey) -> None:
    chain = [first, *histories.followers(verdict.runs, first)]
    if histories.is_continued(verdict.runs[chain[-1]]):
        raise Broken("P2", f"{chain[-1]} was continued", "a run that goes on", "none")
    taken: set[str] = set()
    over: list[str] = []
    for key in chain:
        events = verdict.runs[key]
        if key != first:
            _check_link(key, first, events)
        received = [event["signal_id"] for event in _received(events)]
        came, fresh = received[: len(over)], received[len(over) :]
        if came != over[: len(came)]:
            raise Broken("P2", f"what came over to {key}", over, received)
        refused = [one["signal_id"] for one in histories.of_type(events, "SignalRejected")]
        told = [*received, *refused]
        twice = {one for one in told if told.count(one) > 1}
        if again := twice | (taken & set(told)) | (set(over) & {*fresh, *refused}):
            raise Broken("P2", f"signals of {key}", "told of once in the chain", sorted(again))
        left = _left(key, events)
        taken |= set(told) - set(left)
        over = [*left, *over[len(came) :]]


def _check_link(key: RunKey, first: RunKey, events: Sequence[Event]) -> None:
    started = events[0]
    found = (started.get("continued_from"), started.get("first_run"))
    if found != (key.run - 1, first.run):
        raise Broken("P2", f"the chain of {key}", (key.run - 1, first.run), found)


def _received(events: Sequence[Event]) -> list[Event]:
    return histories.of_type(events, "SignalReceived")


def _left(key: RunKey, events: Sequence[Event]) -> list[str]:
    """Return the ids of the signals that the run's code never had in its hands, in order."""
    if not histories.is_continued(events):
        return []
    replayed = replay(
        programs.definition(), key.workflow_id, key.run, [decode(event) for event in events]
    )
    try:
        unread = [signal.signal_id for signal in replayed.execution.mailbox.unread()]
        late = [one for one in replayed.execution.late if type(one).__name__ == "SignalReceived"]
        return [*unread, *(str(getattr(one, "signal_id", "")) for one in late)]
    finally:
        replayed.execution.close()
