"""The store in memory: for tests, and the reference that the one on Redis is held against.

With a `ManualClock` it is deterministic and never waits; with the machine's clock it may be used
from several threads.  One lock makes every call atomic (H2).  Nothing outlives the process.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

from orchestrator.core.limits import (
    ANSWER_TTL_MS,
    PARTITIONS_DEFAULT,
    REJECTED_SIGNALS_MAX,
)
from orchestrator.core.values import Json, canonical
from orchestrator.store import memory_attempts, memory_starts
from orchestrator.store.clocks import Clock, SystemClock
from orchestrator.store.keys import partition_of
from orchestrator.store.memory_commit import apply_commit
from orchestrator.store.memory_finding import MemoryRunIndex
from orchestrator.store.memory_keys import MemoryKeys
from orchestrator.store.memory_partition import Lease, Partition, id_order
from orchestrator.store.memory_permits import MemoryPermits
from orchestrator.store.ports import (
    Answer,
    AttemptKey,
    Claim,
    ClaimAnswer,
    Commit,
    CommitResult,
    DoorEntry,
    Due,
    InboxEntry,
    Kind,
    Letter,
    Message,
    PostAnswer,
    Posted,
    PostedAnswer,
    RunKey,
    Start,
    StoredEvent,
    TimerKey,
)

#: What `read_step` shows of a step's row.
STEP_FIELDS = ("attempt", "state", "claim", "external", "details", "heartbeat_at_ms")


class MemoryStore(MemoryRunIndex, MemoryKeys, MemoryPermits):
    """See `OwnerStore`, `WorkerStore` and `ClientStore`.

    Args:
        partitions: How many partitions.
        clock: The store's clock.
        direct: Messages of a commit go to `queues` in the same act; else into the outbox.
    """

    def __init__(
        self,
        partitions: int = PARTITIONS_DEFAULT,
        clock: Clock | None = None,
        *,
        direct: bool = True,
    ) -> None:
        super().__init__(partitions)
        MemoryPermits.__init__(self)
        self.clock: Clock = clock if clock is not None else SystemClock()
        #: Bodies of messages by queue, oldest first.
        self.queues: dict[str, deque[bytes]] = defaultdict(deque)
        #: Signals that no run could take, each with its "reason".
        self.rejected: deque[dict[str, str]] = deque(maxlen=REJECTED_SIGNALS_MAX)
        self._direct = direct
        self._parts = [Partition() for _ in range(partitions)]
        self._orchestrators: dict[str, int] = {}
        self._answers: dict[str, tuple[int, dict[str, Json]]] = {}
        self._door: dict[str, DoorEntry] = {}
        self._door_last = 0
        self._changed = threading.Condition()

    @property
    def partitions(self) -> int:
        """See `OwnerStore.partitions`."""
        return len(self._parts)

    def _of(self, workflow_id: str) -> Partition:
        return self._parts[partition_of(workflow_id, len(self._parts))]

    def _wait_until(self, is_ready: Callable[[], bool], wait_ms: int) -> None:
        """Wait for other threads; a manual clock stands still, so that there waiting is over."""
        if wait_ms > 0 and not self.clock.is_manual:
            self._changed.wait_for(is_ready, wait_ms / 1000)

    # --- owners ---------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """See `OwnerStore.now_ms`."""
        return self.clock.now_ms

    def server_id(self) -> str:
        """See `OwnerStore.server_id`."""
        return f"memory-{id(self)}"

    def report_orchestrator(self, owner_id: str, *, ttl_ms: int) -> list[str]:
        """See `OwnerStore.report_orchestrator`."""
        with self._changed:
            now_ms = self.clock.now_ms
            self._orchestrators[owner_id] = now_ms + ttl_ms
            alive = {name: at for name, at in self._orchestrators.items() if at > now_ms}
            self._orchestrators = alive
            return sorted(alive)

    def retire_orchestrator(self, owner_id: str) -> None:
        """See `OwnerStore.retire_orchestrator`."""
        with self._changed:
            self._orchestrators.pop(owner_id, None)

    def list_orchestrators(self) -> dict[str, int]:
        """See `OwnerStore.list_orchestrators`."""
        with self._changed:
            return dict(self._orchestrators)

    def grant_lease(self, partition: int, owner_id: str, token: str, *, ttl_ms: int) -> bool:
        """See `OwnerStore.grant_lease`."""
        with self._changed:
            part, now_ms = self._parts[partition], self.clock.now_ms
            lease = part.lease
            if lease and lease.expires_at_ms > now_ms and lease.owner_id != owner_id:
                return False
            part.lease = Lease(owner_id=owner_id, token=token, expires_at_ms=now_ms + ttl_ms)
            return True

    def renew_leases(self, tokens: Mapping[int, str], *, ttl_ms: int) -> set[int]:
        """See `OwnerStore.renew_leases`."""
        with self._changed:
            now_ms = self.clock.now_ms
            lost = set()
            for partition, token in tokens.items():
                part = self._parts[partition]
                if part.lease is not None and part.holds_lease(token, now_ms):
                    part.lease.expires_at_ms = now_ms + ttl_ms
                else:
                    lost.add(partition)
            return lost

    def release_lease(self, partition: int, token: str) -> None:
        """See `OwnerStore.release_lease`."""
        with self._changed:
            part = self._parts[partition]
            if part.holds_lease(token, self.clock.now_ms):
                part.lease = None

    def take_inbox(
        self, after: Mapping[int, str], *, count: int, block_ms: int
    ) -> dict[int, list[InboxEntry]]:
        """See `OwnerStore.take_inbox`."""
        with self._changed:
            self._wait_until(lambda: bool(self._arrived(after, count)), block_ms)
            return self._arrived(after, count)

    def _arrived(self, after: Mapping[int, str], count: int) -> dict[int, list[InboxEntry]]:
        found = {}
        for partition, last_id in after.items():
            last = id_order(last_id)
            inbox = self._parts[partition].inbox
            entries = [entry for entry_id, entry in inbox.items() if id_order(entry_id) > last]
            if entries:
                found[partition] = entries[:count]
        return found

    def sweep(self, partitions: Sequence[int], *, count: int) -> tuple[int, dict[int, Due]]:
        """See `OwnerStore.sweep`."""
        with self._changed:
            now_ms = self.clock.now_ms
            return now_ms, {p: self._parts[p].due(now_ms, count) for p in partitions}

    def commit(self, commits: Sequence[tuple[str, Commit]]) -> list[CommitResult | None]:
        """See `OwnerStore.commit`."""
        with self._changed:
            results: list[CommitResult | None] = []
            for token, commit in commits:
                part = self._of(commit.key.workflow_id)
                result = apply_commit(part, token, commit, now_ms=self.clock.now_ms)
                if result is CommitResult.COMMITTED:
                    self._send(part, commit.messages)
                results.append(result)
            self._changed.notify_all()
            return results

    def _send(self, part: Partition, messages: Sequence[Message]) -> None:
        for message in messages:
            if self._direct:
                self.queues[message.queue].append(message.body)
            else:
                part.outbox[part.next_id()] = message

    def discard(
        self,
        partition: int,
        token: str,
        inbox_ids: Sequence[str],
        timers: Sequence[TimerKey] = (),
        claims: Sequence[AttemptKey] = (),
    ) -> None:
        """See `OwnerStore.discard`."""
        with self._changed:
            part = self._parts[partition]
            if part.holds_lease(token, self.clock.now_ms):
                for entry_id in inbox_ids:
                    part.inbox.pop(entry_id, None)
                for timer in timers:
                    part.timers.pop(timer, None)
                for claim in claims:
                    if claim in part.claims and part.claims[claim] <= self.clock.now_ms:
                        del part.claims[claim]

    def set_aside(self, partition: int, token: str, inbox_id: str, reason: str) -> None:
        """See `OwnerStore.set_aside`."""
        with self._changed:
            part = self._parts[partition]
            entry = part.inbox.get(inbox_id)
            if entry is not None:
                told = {"workflow": entry.workflow_id, "kind": entry.kind.value}
                self.rejected.append({**told, "run": str(entry.run), "reason": reason})
            if part.holds_lease(token, self.clock.now_ms):
                part.inbox.pop(inbox_id, None)

    def reject(self, fields: Mapping[str, str], reason: str) -> None:
        """See `OwnerStore.reject`."""
        with self._changed:
            self.rejected.append({**fields, "reason": reason})

    def list_blocked(self, partition: int) -> list[RunKey]:
        """See `OwnerStore.list_blocked`."""
        with self._changed:
            return sorted(self._parts[partition].blocked, key=str)

    def read_step(self, key: RunKey, step: int) -> dict[str, str]:
        """See `OwnerStore.read_step`."""
        with self._changed:
            row = self._of(key.workflow_id).find_step(key, step) or {}
            return {name: row[name] for name in STEP_FIELDS if name in row}

    def answer(self, answers: Sequence[Answer]) -> None:
        """See `OwnerStore.answer`."""
        with self._changed:
            now_ms = self.clock.now_ms
            self._answers = {key: kept for key, kept in self._answers.items() if kept[0] > now_ms}
            for answer in answers:
                self._answers.setdefault(answer.reply_to, (now_ms + ANSWER_TTL_MS, answer.body))
            self._changed.notify_all()

    def write_door(self, fields: Mapping[str, str]) -> str:
        """Write a line to the signal door, as people do with redis-cli; return its id."""
        with self._changed:
            self._door_last += 1
            entry_id = f"{self._door_last}-0"
            self._door[entry_id] = DoorEntry(id=entry_id, fields=dict(fields))
            return entry_id

    def read_door(self, *, count: int) -> list[DoorEntry]:
        """See `OwnerStore.read_door`."""
        with self._changed:
            return list(self._door.values())[:count]

    def ack_door(self, ids: Sequence[str]) -> None:
        """See `OwnerStore.ack_door`."""
        with self._changed:
            for entry_id in ids:
                self._door.pop(entry_id, None)

    def read_letters(self, partition: int, *, count: int) -> list[tuple[str, Letter]]:
        """See `OwnerStore.read_letters`."""
        with self._changed:
            return list(self._parts[partition].letters.items())[:count]

    def ack_letters(self, partition: int, ids: Sequence[str]) -> None:
        """See `OwnerStore.ack_letters`."""
        with self._changed:
            for entry_id in ids:
                self._parts[partition].letters.pop(entry_id, None)

    def read_outbox(self, partition: int, *, count: int) -> list[tuple[str, Message]]:
        """See `OwnerStore.read_outbox`."""
        with self._changed:
            return list(self._parts[partition].outbox.items())[:count]

    def ack_outbox(self, partition: int, ids: Sequence[str]) -> None:
        """See `OwnerStore.ack_outbox`."""
        with self._changed:
            for entry_id in ids:
                self._parts[partition].outbox.pop(entry_id, None)

    # --- workers --------------------------------------------------------------------------------

    def claim(self, key: AttemptKey, token: str, *, ttl_ms: int) -> Claim:
        """See `WorkerStore.claim`."""
        with self._changed:
            part = self._of(key.workflow_id)
            return memory_attempts.claim(part, key, token, self.clock.now_ms, ttl_ms)

    def renew(
        self, claims: Mapping[AttemptKey, str], *, ttl_ms: int
    ) -> dict[AttemptKey, ClaimAnswer]:
        """See `WorkerStore.renew`."""
        with self._changed:
            now_ms = self.clock.now_ms
            return {
                key: memory_attempts.renew(self._of(key.workflow_id), key, token, now_ms, ttl_ms)
                for key, token in claims.items()
            }

    def post_outcome(self, key: AttemptKey, token: str, body: Mapping[str, Json]) -> PostAnswer:
        """See `WorkerStore.post_outcome`."""
        with self._changed:
            part = self._of(key.workflow_id)
            posted = memory_attempts.post_outcome(part, key, token, body)
            self._changed.notify_all()
            return posted

    def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """See `WorkerStore.heartbeat`."""
        with self._changed:
            part = self._of(key.workflow_id)
            return memory_attempts.heartbeat(part, key, token, self.clock.now_ms, details)

    def detach(self, key: AttemptKey, token: str) -> ClaimAnswer:
        """See `WorkerStore.detach`."""
        with self._changed:
            return memory_attempts.detach(self._of(key.workflow_id), key, token)

    # --- clients --------------------------------------------------------------------------------

    def start(
        self,
        workflow_id: str,
        *,
        request_id: str,
        body: Mapping[str, Json],
        message: tuple[Kind, Mapping[str, Json]] | None = None,
    ) -> Start:
        """See `ClientStore.start`."""
        with self._changed:
            part, now_ms = self._of(workflow_id), self.clock.now_ms
            started = memory_starts.start(part, workflow_id, request_id, body, message, now_ms)
            self._changed.notify_all()
            return started

    def post(
        self, workflow_id: str, kind: Kind, body: Mapping[str, Json], *, run: int = 0
    ) -> Posted:
        """See `ClientStore.post`."""
        with self._changed:
            part = self._of(workflow_id)
            row = part.rows.get(workflow_id)
            if row is None or run > int(row["run"]):
                return Posted(answer=PostedAnswer.NOT_FOUND, run=run, status="")
            latest = int(row["run"])
            if run and int(row.get("first") or latest) <= run:
                run = latest  # A run that continues another takes what is meant for its chain.
            is_open = workflow_id in part.open and run in (0, latest)
            # The status of a run that a later one replaced is in its history alone.
            status = row["status"] if run in (0, latest) else ""
            if not is_open and kind is not Kind.QUERY:
                return Posted(answer=PostedAnswer.CLOSED, run=run or latest, status=status)
            # The entry names the run that was open now: a later run of the id never gets its mail.
            part.post(kind, workflow_id, run or latest, canonical(dict(body)))
            self._changed.notify_all()
            return Posted(answer=PostedAnswer.POSTED, run=run or latest, status=status)

    def find_row(self, workflow_id: str) -> dict[str, str] | None:
        """See `OwnerStore.find_row`."""
        with self._changed:
            row = self._of(workflow_id).rows.get(workflow_id)
            return None if row is None else dict(row)

    def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """See `OwnerStore.read_history`."""
        with self._changed:
            events = self._of(key.workflow_id).logs.get(key, [])[after_seq:]
            return events if count is None else events[:count]

    def wait_for_answer(
        self, workflow_id: str, reply_to: str, *, wait_ms: int
    ) -> dict[str, Json] | None:
        """See `ClientStore.wait_for_answer`."""
        with self._changed:
            self._wait_until(lambda: reply_to in self._answers, wait_ms)
            expires_at_ms, body = self._answers.get(reply_to, (0, None))
            return body if expires_at_ms > self.clock.now_ms else None

    def wait_for_event(self, key: RunKey, *, after_seq: int, wait_ms: int) -> bool:
        """See `ClientStore.wait_for_event`."""
        with self._changed:
            logs = self._of(key.workflow_id).logs
            self._wait_until(lambda: len(logs.get(key, ())) > after_seq, wait_ms)
            return len(logs.get(key, ())) > after_seq
