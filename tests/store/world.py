"""A store under test, with what a test needs around it: time that passes, and a view behind it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from orchestrator.core.values import Json, first_head, next_head
from orchestrator.store.clocks import ManualClock
from orchestrator.store.index_ports import Window
from orchestrator.store.keys import partition_of
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import (
    AttemptKey,
    Commit,
    CommitResult,
    InboxEntry,
    Kind,
    RunKey,
    StepRow,
    StoredEvent,
    TimerKey,
    TimerKind,
)
from orchestrator.store.redis import RedisStore

Store = MemoryStore | RedisStore

WORKFLOW_ID = "order-42"
OWNER = "owner-1"
TOKEN = "lease-1"
#: Longer than any test.
LONG_MS = 600_000
START: dict[str, Json] = {"workflow": "order", "args": [42], "kwargs": {"vip": True}}
DONE: dict[str, Json] = {"kind": "completed", "result": {"paid": True}}


def attempt(key: RunKey, step: int = 1, number: int = 1) -> AttemptKey:
    """Return an attempt of a run."""
    return AttemptKey(workflow_id=key.workflow_id, run=key.run, step=step, attempt=number)


def timer(key: RunKey, kind: TimerKind, number: int = 1, of_attempt: int = 0) -> TimerKey:
    """Return a timer of a run."""
    return TimerKey(
        kind=kind, workflow_id=key.workflow_id, run=key.run, number=number, attempt=of_attempt
    )


def events(
    key: RunKey, texts: Sequence[str], *, after: int = 0, head: str = ""
) -> list[StoredEvent]:
    """Return events that follow the event `after`, whose head is `head`."""
    head = head or first_head(key.workflow_id, key.run)
    made = []
    for seq, data in enumerate(texts, start=after + 1):
        head = next_head(head, data.encode())
        made.append(StoredEvent(seq=seq, data=data.encode(), head=head))
    return made


@dataclass
class World:
    """A store, and the hands and eyes of a test."""

    store: Store
    #: Lets so many milliseconds pass on the store's clock.
    pass_ms: Callable[[int], None]
    #: The server's client, whose types are no help here; None for the store in memory.
    client: Any = None
    heads: dict[RunKey, tuple[int, str]] = field(
        default_factory=lambda: defaultdict(lambda: (0, ""))
    )

    def partition(self, workflow_id: str = WORKFLOW_ID) -> int:
        """Return the partition of an id."""
        return partition_of(workflow_id, self.store.partitions)

    def lease(self, workflow_id: str = WORKFLOW_ID, token: str = TOKEN) -> None:
        """Take the lease of an id's partition, for the whole test."""
        partition = self.partition(workflow_id)
        assert self.store.grant_lease(partition, OWNER, token, ttl_ms=LONG_MS)

    def open_run(self, workflow_id: str = WORKFLOW_ID, request_id: str = "request-1") -> RunKey:
        """Start a run, own its partition, and record its first event."""
        started = self.store.start(workflow_id, request_id=request_id, body=START)
        self.lease(workflow_id)
        key = RunKey(workflow_id=workflow_id, run=started.run)
        ids = [entry.id for entry in self.inbox(workflow_id)]
        assert self.commit(key, ["started"], inbox_ids=ids) is CommitResult.COMMITTED
        return key

    def commit(
        self, key: RunKey, texts: Sequence[str] = (), *, token: str = TOKEN, **parts: Any
    ) -> CommitResult | None:
        """Commit events after the last ones committed this way."""
        made = self.next_commit(key, texts, **parts)
        (result,) = self.store.commit([(token, made)])
        if result is CommitResult.COMMITTED and made.events:
            self.heads[key] = (made.events[-1].seq, made.events[-1].head)
        return result

    def next_commit(self, key: RunKey, texts: Sequence[str] = (), **parts: Any) -> Commit:
        """Return a commit of events after the last ones."""
        seq, head = self.heads[key]
        return Commit(
            key=key,
            expected_seq=seq,
            expected_head=head,
            events=events(key, texts, after=seq, head=head),
            **parts,
        )

    def send(self, key: RunKey, step: int = 1, number: int = 1, **parts: Any) -> AttemptKey:
        """Send an attempt, as a commit of its own, and return its key."""
        row = StepRow(step=step, attempt=number, **parts)
        assert (
            self.commit(key, [f"sent {step}.{number}"], steps_sent=[row]) is CommitResult.COMMITTED
        )
        return attempt(key, step, number)

    def inbox(self, workflow_id: str = WORKFLOW_ID) -> list[InboxEntry]:
        """Return all that lies in the inbox of an id's partition."""
        partition = self.partition(workflow_id)
        found = self.store.take_inbox({partition: "0"}, count=1_000, block_ms=0)
        return found.get(partition, [])

    def bodies(self, kind: Kind, workflow_id: str = WORKFLOW_ID) -> list[dict[str, Json]]:
        """Return the bodies of the inbox entries of one kind."""
        return [entry.body for entry in self.inbox(workflow_id) if entry.kind is kind]

    def timers(self, workflow_id: str = WORKFLOW_ID) -> list[str]:
        """Return the timers of an id's partition, due or not, oldest first."""
        if isinstance(self.store, MemoryStore):
            part = self.store._of(workflow_id)
            return sorted(map(str, part.timers), key=lambda name: (self.due_ms(name), name))
        assert self.client is not None
        name = self.store.keys.timers(self.partition(workflow_id))
        return [member.decode() for member in self.client.zrange(name, 0, -1)]

    def due_ms(self, name: str, workflow_id: str = WORKFLOW_ID) -> int:
        """Return the instant of a timer."""
        if isinstance(self.store, MemoryStore):
            return self.store._of(workflow_id).timers[TimerKey.parse(name)]
        assert self.client is not None
        score = self.client.zscore(self.store.keys.timers(self.partition(workflow_id)), name)
        assert score is not None
        return int(score)

    def expired_claims(self, workflow_id: str = WORKFLOW_ID) -> list[AttemptKey]:
        """Return the claims of an id's partition that have expired."""
        partition = self.partition(workflow_id)
        _, due = self.store.sweep([partition], count=1_000)
        return list(due[partition].claims)

    def listed(self, *indexes: str, count: int = 99) -> list[dict[str, str]]:
        """Return the rows of the runs in any of these indexes, newest first."""
        page = self.store.page_runs(indexes or ["all"], Window(count=count))
        return [row for _, row in page.rows]

    def queue(self, name: str) -> list[bytes]:
        """Return the messages in a broker queue, oldest first."""
        if isinstance(self.store, MemoryStore):
            return list(self.store.queues[name])
        assert self.client is not None
        return list(reversed(self.client.lrange(name, 0, -1)))

    def write_door(self, fields: Mapping[str, str]) -> None:
        """Write a line to the signal door."""
        if isinstance(self.store, MemoryStore):
            self.store.write_door(fields)
        else:
            assert self.client is not None
            self.client.xadd(self.store.keys.door, dict(fields))

    def rejected(self) -> list[dict[str, str]]:
        """Return the rejected list, oldest first."""
        if isinstance(self.store, MemoryStore):
            return list(self.store.rejected)
        assert self.client is not None
        lines = self.client.xrange(self.store.keys.rejected)
        return [
            {name.decode(): value.decode() for name, value in fields.items()} for _, fields in lines
        ]


def memory_world(*, direct: bool) -> World:
    """Return a world in memory, with a clock turned by hand."""
    clock = ManualClock()
    return World(MemoryStore(clock=clock, direct=direct), clock.advance)


def redis_world(store: RedisStore, client: Redis) -> World:
    """Return a world on a server, whose own clock decides."""

    def pass_ms(ms: int) -> None:
        until_ms = store.now_ms() + ms
        while store.now_ms() < until_ms:
            pass

    return World(store, pass_ms, client)
