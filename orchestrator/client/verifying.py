"""Whether a history is what the orchestrators wrote: its hash chain, recomputed event by event."""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.client.summary import history_event_of
from orchestrator.core.values import first_head, next_head
from orchestrator.store.ports import RunKey, StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Whether a history is what the orchestrators wrote.

    `events` were found; the first bad one is `bad_seq`, for `reason`; None and "" where all hold.
    """

    events: int
    bad_seq: int | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.bad_seq is None


class ChainCheck:
    """Recomputes the chain over a history that comes in pages; it keeps none of them."""

    def __init__(self, key: RunKey) -> None:
        self._head = first_head(key.workflow_id, key.run)
        self._events = 0
        self._bad_seq: int | None = None
        self._reason = ""

    def add(self, page: Iterable[StoredEvent]) -> None:
        """Take the next events, in their order; behind a bad one they are only counted."""
        for entry in page:
            self._events += 1
            if self._bad_seq is None and (reason := self._why_bad(entry)):
                self.note(self._events, reason)

    def note(self, bad_seq: int, reason: str) -> None:
        """Say that an event is bad, unless one before it was."""
        if self._bad_seq is None:
            self._bad_seq, self._reason = bad_seq, reason

    def found(self) -> Verification:
        """Return what was found so far."""
        return Verification(events=self._events, bad_seq=self._bad_seq, reason=self._reason)

    def _why_bad(self, entry: StoredEvent) -> str:
        self._head = next_head(self._head, entry.recorded)
        if entry.seq != self._events:
            return f"missing: the next entry is event {entry.seq}"
        if entry.head != self._head:
            return "its bytes, or those of an event before it, are not the ones that were chained"
        try:
            history_event_of(entry)
        except ValueError as error:
            return str(error)
        return ""


def verify_chain(key: RunKey, stored: Iterable[StoredEvent]) -> Verification:
    """Return what recomputing the chain over `stored`, a whole history, finds."""
    check = ChainCheck(key)
    check.add(stored)
    return check.found()
