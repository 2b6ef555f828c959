"""One look through a whole history, page by page: what it comes to, and none of it kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cli.errors import EXIT_NO, Refusal
from orchestrator.client.handle import RunHandle
from orchestrator.client.summary import HistoryEvent
from orchestrator.core.events import (
    Event,
    StepAttemptFailed,
    StepParked,
    StepPaused,
    StepUnpaused,
    TimerStarted,
)
from orchestrator.core.ledger import Ledger

PAGE_EVENTS = 1_000


@dataclass(slots=True)
class Scan:
    """What a history comes to: what is outstanding, and what was said of it last.

    `timer_summaries` are of timers that have one; `failures` and `pauses` the last ones of steps,
    by number.
    """

    ledger: Ledger = field(default_factory=Ledger)
    timer_summaries: dict[int, str] = field(default_factory=dict)
    failures: dict[int, StepAttemptFailed | StepParked] = field(default_factory=dict)
    pauses: dict[int, StepPaused] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take the next event of the history into account."""
        self.ledger.apply(event)
        match event:
            case TimerStarted():
                if event.summary:
                    self.timer_summaries[event.timer] = event.summary
            case StepAttemptFailed() | StepParked():
                self.failures[event.step] = event
            case StepPaused():
                self.pauses[event.step] = event
            case StepUnpaused():
                self.pauses.pop(event.step, None)
            case _:
                pass


def scan(handle: RunHandle[Any]) -> Scan:
    """Look through the history of a run.

    Raises:
        Refusal: It cannot be read.
    """
    found = Scan()
    for each in events_of(handle):
        found.add(each.event)
    return found


def events_of(
    handle: RunHandle[Any], *, after: int = 0, limit: int | None = None
) -> Iterator[HistoryEvent]:
    """Yield the events behind event `after`, oldest first, `limit` at most.

    Raises:
        Refusal: They cannot be read.
    """
    while limit is None or limit > 0:
        count = PAGE_EVENTS if limit is None else min(PAGE_EVENTS, limit)
        try:
            page = handle.history(after=after, limit=count)
        except ValueError as error:
            reason = f"history of {handle.workflow_id} cannot be read: {error}"
            raise Refusal(reason, EXIT_NO) from error
        yield from page
        if len(page) < count:
            return
        after = page[-1].seq
        limit = None if limit is None else limit - len(page)
