"""One partition in memory: the same things that `keys.py` names in Redis, as dictionaries.

The fields of rows and steps are the texts that lie in Redis, so that readers cannot tell the
stores apart.  Nothing here locks: `memory.MemoryStore` does.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.store.index_ports import Place
from orchestrator.store.ports import (
    AttemptKey,
    Due,
    InboxEntry,
    Kind,
    Letter,
    Message,
    RunKey,
    StoredEvent,
    TimerKey,
    TimerKind,
)

#: Timers of one attempt that the claim sets, and that go when the attempt is over.
CLAIM_TIMERS = (TimerKind.START_TO_CLOSE, TimerKind.HEARTBEAT)
#: Timers of one attempt that wait for its claim.
WAITING_TIMERS = (TimerKind.UNCLAIMED, TimerKind.SCHEDULE_TO_START)


def attempt_timer(kind: TimerKind, key: AttemptKey) -> TimerKey:
    """Return the timer of `kind` for an attempt."""
    return TimerKey(
        kind=kind,
        workflow_id=key.workflow_id,
        run=key.run,
        number=key.step,
        attempt=key.attempt,
    )


@dataclass(slots=True)
class Lease:
    """Who owns a partition, and until when."""

    owner_id: str
    token: str
    expires_at_ms: int


@dataclass(slots=True)
class Partition:
    """What lies in one partition."""

    inbox: dict[str, InboxEntry] = field(default_factory=dict)
    logs: dict[RunKey, list[StoredEvent]] = field(default_factory=dict)
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    steps: dict[RunKey, dict[int, dict[str, str]]] = field(default_factory=dict)
    timers: dict[TimerKey, int] = field(default_factory=dict)
    claims: dict[AttemptKey, int] = field(default_factory=dict)
    #: Digests of outcomes that came with one, until their runs end.
    said: dict[AttemptKey, str] = field(default_factory=dict)
    lease: Lease | None = None
    open: dict[str, int] = field(default_factory=dict)
    closed: dict[RunKey, int] = field(default_factory=dict)
    past: dict[RunKey, dict[str, str]] = field(default_factory=dict)
    indexes: dict[str, set[Place]] = field(default_factory=dict)
    blocked: set[RunKey] = field(default_factory=set)
    outbox: dict[str, Message] = field(default_factory=dict)
    letters: dict[str, Letter] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def next_id(self) -> str:
        """Return an id above all earlier ones of this partition, shaped as Redis shapes them."""
        return f"{next(self._numbers)}-0"

    def post(self, kind: Kind, workflow_id: str, run: int, body: bytes) -> None:
        """Put an entry into the inbox; `body` is JSON."""
        entry_id = self.next_id()
        self.inbox[entry_id] = InboxEntry(
            id=entry_id, kind=kind, workflow_id=workflow_id, run=run, body=json.loads(body)
        )

    def holds_lease(self, token: str, now_ms: int) -> bool:
        """Return whether the lease is held under `token` now."""
        lease = self.lease
        return lease is not None and lease.token == token and lease.expires_at_ms > now_ms

    def due(self, now_ms: int, count: int) -> Due:
        """Return up to `count` due timers and expired claims; see `OwnerStore.sweep`."""
        timers = sorted(self.timers.items(), key=lambda item: (item[1], str(item[0])))
        claims = sorted(self.claims.items(), key=lambda item: (item[1], str(item[0])))
        return Due(
            timers=[timer for timer, at in timers if at <= now_ms][:count],
            claims=[key for key, at in claims if at <= now_ms][:count],
            next_due_ms=next((at for _, at in timers if at > now_ms), None),
        )

    def find_step(self, key: RunKey, step: int) -> dict[str, str] | None:
        """Return the row of an outstanding step, or None."""
        return self.steps.get(key, {}).get(step)

    def end_claim(self, key: AttemptKey) -> None:
        """Remove an attempt's claim and the timers that the claim set."""
        self.claims.pop(key, None)
        for kind in CLAIM_TIMERS:
            self.timers.pop(attempt_timer(kind, key), None)

    def end_waiting(self, key: AttemptKey) -> None:
        """Remove the timers that wait for an attempt's claim."""
        for kind in WAITING_TIMERS:
            self.timers.pop(attempt_timer(kind, key), None)


def id_order(entry_id: str) -> tuple[int, int]:
    """Return what sorts the ids of entries; "0" comes before all."""
    first, _, second = entry_id.partition("-")
    return int(first), int(second or 0)
