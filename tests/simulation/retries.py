"""P2, for runs that are attempted again: one attempt after the other, as the policy says.

Looked at when a run begins: what it must be is told by the run of the id before it.
"""

from collections.abc import Mapping
from typing import Any

from orchestrator.store.ports import RunKey
from tests.simulation import histories
from tests.simulation.broken import Broken
from tests.simulation.histories import Event

#: What the first event of every attempt says alike.
_ALIKE = ("workflow", "args", "kwargs", "retry", "first_run")


def check_beginning(key: RunKey, started: Event, before: list[Event]) -> None:
    """Check a run that begins against the run of its id before it, whose events are `before`.

    Raises:
        Broken: That one is open, or says that another run follows it, or none.
    """
    if not before:
        return  # There is none, or the server has lost it.
    if not histories.is_ended(before):
        raise Broken("P2", f"{key} begins", "the run before it has ended", "two are open")
    is_next = started.get("continued_from") == key.run - 1
    if is_next != histories.is_continued(before):
        raise Broken("P2", f"{key} begins", f"after {before[-1]}", started)
    ending = before[-1]
    if is_next and ending["type"] == "RunFailed":
        _check_attempt(key, started, before[0], ending)


def _check_attempt(key: RunKey, started: Event, first: Event, ending: Event) -> None:
    due_ms, attempt = ending["retry_at_ms"], first.get("attempt", 1) + 1
    if started["at_ms"] < due_ms and not started.get("is_withdrawn"):
        raise Broken("P2", f"attempt {key}", f"not before {due_ms}", started["at_ms"])
    if started.get("attempt", 1) != attempt or attempt > attempts_max(first):
        limits = f"attempt {attempt}, of {attempts_max(first)}"
        raise Broken("P2", f"attempt {key}", limits, started.get("attempt", 1))
    said = {name: first.get(name) for name in _ALIKE}
    said["first_run"] = first.get("first_run", key.run - 1)
    found = {name: started.get(name) for name in _ALIKE}
    if found != said:
        raise Broken("P2", f"start of attempt {key}", said, found)
    told = started.get("last_failure", {}).get("message")
    if told != ending["failure"]["message"]:
        raise Broken("P2", f"failure before {key}", ending["failure"]["message"], told)


def attempts_max(started: Mapping[str, Any]) -> int:
    """Return how many attempts there may be, by a run's first event."""
    return int(started.get("retry", {}).get("attempts", 1))
