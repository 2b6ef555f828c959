"""Histories as the checker reads them: JSON, and nothing of the engine's understanding of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.store.ports import RunKey

#: One event: its JSON object.
Event = dict[str, Any]
ENDINGS = ("RunCompleted", "RunFailed", "RunCancelled", "RunTerminated", "RunContinuedAsNew")
#: What code orders; everything else arrives, or is noted.
COMMANDS = (
    *ENDINGS,
    "StepScheduled",
    "StepCancelRequested",
    "TimerStarted",
    "TimerCancelled",
    "SignalRefused",
    "CompensationStarted",
    "CompensationCompleted",
    "SagaCommitted",
    "PermitRequested",
    "PermitReleased",
)
#: What settles a step.
SETTLING = ("StepCompleted", "StepFailed")
#: What records the end of an attempt.
ENDS_ATTEMPT = (*SETTLING, "StepAttemptFailed", "StepParked")


def key_of(workflow_id: str, run: int) -> RunKey:
    """Return the key of a run."""
    return RunKey(workflow_id=workflow_id, run=run)


def decoded(stored: Iterable[Any]) -> list[Event]:
    """Return the events in what the store, or the watch, keeps of a history."""
    return [json.loads(one.data) for one in stored]


def is_ended(events: Sequence[Event]) -> bool:
    """Return whether the run has ended."""
    return bool(events) and events[-1]["type"] in ENDINGS


def is_continued(events: Sequence[Event]) -> bool:
    """Return whether the run has ended, and the next one of its id goes on."""
    if not events:
        return False
    ending = events[-1]
    is_retried = ending["type"] == "RunFailed" and "retry_at_ms" in ending
    return is_retried or ending["type"] == "RunContinuedAsNew"


def followers(runs: Mapping[RunKey, Sequence[Event]], key: RunKey) -> list[RunKey]:
    """Return the runs that go on after `key`, in their order."""
    found: list[RunKey] = []
    while is_continued(runs[key]):
        key = key_of(key.workflow_id, key.run + 1)
        if key not in runs:
            break
        found.append(key)
    return found


def chain_of(runs: Mapping[RunKey, Sequence[Event]], key: RunKey) -> list[RunKey]:
    """Return all runs of the chain that `key` is part of."""
    first = key
    while (before := runs[first][0].get("continued_from")) is not None:
        first = key_of(key.workflow_id, before)
    return [first, *followers(runs, first)]


def of_type(events: Iterable[Event], *types: str) -> list[Event]:
    """Return the events of some types."""
    return [event for event in events if event["type"] in types]


def by_step(events: Iterable[Event]) -> dict[int, list[Event]]:
    """Return the events that name a step, by its number."""
    found: dict[int, list[Event]] = {}
    for event in events:
        if "step" in event:
            found.setdefault(event["step"], []).append(event)
    return found


def parked(events: Iterable[Event]) -> list[int]:
    """Return the steps that wait for a person."""
    found: list[int] = []
    for event in events:
        if event["type"] == "StepParked":
            found.append(event["step"])
        elif event["type"] == "StepUnparked" and event["step"] in found:
            found.remove(event["step"])
    return found
