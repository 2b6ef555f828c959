"""The store on Redis or Valkey: the ports' calls, each run as a flow on a sync client.

What a call sends and how its reply reads is in `run_calls.py`, `attempt_calls.py`,
`owner_calls.py`, `index_calls.py`, `key_calls.py`, `permit_calls.py` and `commit_call.py`; each
change is a script in ``scripts``.

May be used from several threads, and survives a restart of the server: the call that meets it
raises `StoreUnavailable`, the next one works.
"""

import logging
from collections.abc import Mapping, Sequence

from redis import Redis

from orchestrator.core.values import Json
from orchestrator.store import (
    attempt_calls,
    index_calls,
    key_calls,
    owner_calls,
    permit_calls,
    run_calls,
)
from orchestrator.store.calls import Call, Flow
from orchestrator.store.commit_call import commit_call
from orchestrator.store.connect import blocking_twin
from orchestrator.store.executors import Executor
from orchestrator.store.index_ports import IndexPage, Window
from orchestrator.store.keys import Keys
from orchestrator.store.layout import open_namespace
from orchestrator.store.permit_ports import Grant, Holder, PermitState
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
    RunKey,
    Start,
    StoredEvent,
    TimerKey,
)

logger = logging.getLogger(__name__)


class RedisStore:
    """See `OwnerStore`, `WorkerStore` and `ClientStore`.

    Args:
        client: From `connect.connect`.
        prefix: Of every key.
        partitions: What the namespace has to have; None for what it has, or else the default.
        direct_queues: The broker is this very database: messages go to its lists in the act of
            the commit.  False puts them into the outbox.
        blocking: For calls that wait; by default connections of their own to the same server.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "orc",
        partitions: int | None = None,
        direct_queues: bool = False,
        blocking: Redis | None = None,
    ) -> None:
        self._executor = Executor(client, blocking or blocking_twin(client))
        self._prefix = prefix
        self._wanted_partitions = partitions
        self._direct_queues = direct_queues
        self._opened: Keys | None = None

    def open(self) -> "RedisStore":
        """Compare the namespace's layout with ours and return the store.

        Every other call does it, once, if nobody did.

        Raises:
            ConfigurationError: It was made with another layout or partition count.
        """
        self.keys  # noqa: B018 - asks the server
        return self

    @property
    def keys(self) -> Keys:
        """Names of the namespace's keys."""
        if self._opened is None:
            flow = open_namespace(self._prefix, self._wanted_partitions)
            self._opened = self._executor.run(flow)
        return self._opened

    @property
    def partitions(self) -> int:
        """See `OwnerStore.partitions`."""
        return self.keys.partitions

    # --- owners ---------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """See `OwnerStore.now_ms`."""
        return self._executor.run(owner_calls.now_ms())

    def server_id(self) -> str:
        """See `OwnerStore.server_id`."""
        return self._executor.run(owner_calls.server_id())

    def report_orchestrator(self, owner_id: str, *, ttl_ms: int) -> list[str]:
        """See `OwnerStore.report_orchestrator`."""
        return self._executor.run(owner_calls.report_orchestrator(self.keys, owner_id, ttl_ms))

    def retire_orchestrator(self, owner_id: str) -> None:
        """See `OwnerStore.retire_orchestrator`."""
        self._executor.run(owner_calls.retire_orchestrator(self.keys, owner_id))

    def list_orchestrators(self) -> dict[str, int]:
        """See `OwnerStore.list_orchestrators`."""
        return self._executor.run(owner_calls.list_orchestrators(self.keys))

    def grant_lease(self, partition: int, owner_id: str, token: str, *, ttl_ms: int) -> bool:
        """See `OwnerStore.grant_lease`."""
        flow = owner_calls.grant_lease(self.keys, partition, owner_id, token, ttl_ms)
        return self._executor.run(flow)

    def renew_leases(self, tokens: Mapping[int, str], *, ttl_ms: int) -> set[int]:
        """See `OwnerStore.renew_leases`."""
        return self._executor.run(owner_calls.renew_leases(self.keys, tokens, ttl_ms))

    def release_lease(self, partition: int, token: str) -> None:
        """See `OwnerStore.release_lease`."""
        self._executor.run(owner_calls.release_lease(self.keys, partition, token))

    def take_inbox(
        self, after: Mapping[int, str], *, count: int, block_ms: int
    ) -> dict[int, list[InboxEntry]]:
        """See `OwnerStore.take_inbox`."""
        return self._executor.run(owner_calls.take_inbox(self.keys, after, count, block_ms))

    def sweep(self, partitions: Sequence[int], *, count: int) -> tuple[int, dict[int, Due]]:
        """See `OwnerStore.sweep`."""
        return self._executor.run(owner_calls.sweep(self.keys, partitions, count))

    def commit(self, commits: Sequence[tuple[str, Commit]]) -> list[CommitResult | None]:
        """See `OwnerStore.commit`."""
        if not commits:
            return []
        calls = [
            commit_call(self.keys, token, commit, direct_queues=self._direct_queues)
            for token, commit in commits
        ]
        replies = self._executor.run(_replies_of(calls))
        return [
            _commit_result(commit.key, reply)
            for (_, commit), reply in zip(commits, replies, strict=True)
        ]

    def discard(
        self,
        partition: int,
        token: str,
        inbox_ids: Sequence[str],
        timers: Sequence[TimerKey] = (),
        claims: Sequence[AttemptKey] = (),
    ) -> None:
        """See `OwnerStore.discard`."""
        flow = owner_calls.discard(self.keys, partition, token, inbox_ids, timers, claims)
        self._executor.run(flow)

    def set_aside(self, partition: int, token: str, inbox_id: str, reason: str) -> None:
        """See `OwnerStore.set_aside`."""
        self._executor.run(owner_calls.set_aside(self.keys, partition, token, inbox_id, reason))

    def reject(self, fields: Mapping[str, str], reason: str) -> None:
        """See `OwnerStore.reject`."""
        self._executor.run(owner_calls.reject(self.keys, fields, reason))

    def list_blocked(self, partition: int) -> list[RunKey]:
        """See `OwnerStore.list_blocked`."""
        return self._executor.run(owner_calls.list_blocked(self.keys, partition))

    def read_step(self, key: RunKey, step: int) -> dict[str, str]:
        """See `OwnerStore.read_step`."""
        return self._executor.run(owner_calls.read_step(self.keys, key, step))

    def answer(self, answers: Sequence[Answer]) -> None:
        """See `OwnerStore.answer`."""
        self._executor.run(owner_calls.answer(self.keys, answers))

    def read_door(self, *, count: int) -> list[DoorEntry]:
        """See `OwnerStore.read_door`."""
        return self._executor.run(owner_calls.read_door(self.keys, count))

    def ack_door(self, ids: Sequence[str]) -> None:
        """See `OwnerStore.ack_door`."""
        self._executor.run(owner_calls.ack_door(self.keys, ids))

    def read_letters(self, partition: int, *, count: int) -> list[tuple[str, Letter]]:
        """See `OwnerStore.read_letters`."""
        return self._executor.run(owner_calls.read_letters(self.keys, partition, count))

    def ack_letters(self, partition: int, ids: Sequence[str]) -> None:
        """See `OwnerStore.ack_letters`."""
        self._executor.run(owner_calls.ack_letters(self.keys, partition, ids))

    def read_outbox(self, partition: int, *, count: int) -> list[tuple[str, Message]]:
        """See `OwnerStore.read_outbox`."""
        return self._executor.run(owner_calls.read_outbox(self.keys, partition, count))

    def ack_outbox(self, partition: int, ids: Sequence[str]) -> None:
        """See `OwnerStore.ack_outbox`."""
        self._executor.run(owner_calls.ack_outbox(self.keys, partition, ids))

    # --- data keys ------------------------------------------------------------------------------

    def find_key(self, scope: str) -> str | None:
        """See `KeyStore.find_key`."""
        return self._executor.run(key_calls.find_key(self.keys, scope))

    def create_key(self, scope: str, wrapped: str) -> str:
        """See `KeyStore.create_key`."""
        return self._executor.run(key_calls.create_key(self.keys, scope, wrapped))

    def replace_key(self, scope: str, expected: str, wrapped: str) -> bool:
        """See `KeyStore.replace_key`."""
        return self._executor.run(key_calls.replace_key(self.keys, scope, expected, wrapped))

    def list_keys(self, partition: int) -> list[str]:
        """See `KeyStore.list_keys`."""
        return self._executor.run(key_calls.list_keys(self.keys, partition))

    # --- permits --------------------------------------------------------------------------------

    def request_permit(self, key: str, holder: Holder, *, limit: int) -> list[Grant]:
        """See `PermitStore.request_permit`."""
        return self._executor.run(permit_calls.request_permit(self.keys, key, holder, limit))

    def release_permit(self, key: str, holder: Holder) -> list[Grant]:
        """See `PermitStore.release_permit`."""
        return self._executor.run(permit_calls.release_permit(self.keys, key, holder))

    def note_told(self, key: str, grant: Grant) -> None:
        """See `PermitStore.note_told`."""
        self._executor.run(permit_calls.note_told(self.keys, key, grant))

    def take_slot(self, key: str, holder: Holder, *, limit: int, per_ms: int) -> int:
        """See `PermitStore.take_slot`."""
        return self._executor.run(permit_calls.take_slot(self.keys, key, holder, limit, per_ms))

    def read_permits(self, key: str) -> PermitState:
        """See `PermitStore.read_permits`."""
        return self._executor.run(permit_calls.read_permits(self.keys, key))

    # --- workers --------------------------------------------------------------------------------

    def claim(self, key: AttemptKey, token: str, *, ttl_ms: int) -> Claim:
        """See `WorkerStore.claim`."""
        return self._executor.run(attempt_calls.claim(self.keys, key, token, ttl_ms))

    def renew(
        self, claims: Mapping[AttemptKey, str], *, ttl_ms: int
    ) -> dict[AttemptKey, ClaimAnswer]:
        """See `WorkerStore.renew`."""
        return self._executor.run(attempt_calls.renew(self.keys, claims, ttl_ms))

    def post_outcome(self, key: AttemptKey, token: str, body: Mapping[str, Json]) -> PostAnswer:
        """See `WorkerStore.post_outcome`."""
        return self._executor.run(attempt_calls.post_outcome(self.keys, key, token, body))

    def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """See `WorkerStore.heartbeat`."""
        return self._executor.run(attempt_calls.heartbeat(self.keys, key, token, details))

    def detach(self, key: AttemptKey, token: str) -> ClaimAnswer:
        """See `WorkerStore.detach`."""
        return self._executor.run(attempt_calls.detach(self.keys, key, token))

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
        return self._executor.run(
            run_calls.start(self.keys, workflow_id, request_id, body, message)
        )

    def post(
        self, workflow_id: str, kind: Kind, body: Mapping[str, Json], *, run: int = 0
    ) -> Posted:
        """See `ClientStore.post`."""
        return self._executor.run(run_calls.post(self.keys, workflow_id, kind, body, run))

    def find_row(self, workflow_id: str) -> dict[str, str] | None:
        """See `OwnerStore.find_row`."""
        return self._executor.run(run_calls.find_row(self.keys, workflow_id))

    def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """See `OwnerStore.read_history`."""
        return self._executor.run(run_calls.read_history(self.keys, key, after_seq, count))

    def wait_for_answer(
        self, workflow_id: str, reply_to: str, *, wait_ms: int
    ) -> dict[str, Json] | None:
        """See `ClientStore.wait_for_answer`."""
        return self._executor.run(run_calls.wait_for_answer(self.keys, reply_to, wait_ms))

    def wait_for_event(self, key: RunKey, *, after_seq: int, wait_ms: int) -> bool:
        """See `ClientStore.wait_for_event`."""
        return self._executor.run(run_calls.wait_for_event(self.keys, key, after_seq, wait_ms))

    def page_runs(self, indexes: Sequence[str], window: Window) -> IndexPage:
        """See `RunIndex.page_runs`."""
        return self._executor.run(index_calls.page_runs(self.keys, indexes, window))

    def index_sizes(self, indexes: Sequence[str]) -> list[int]:
        """See `RunIndex.index_sizes`."""
        return self._executor.run(index_calls.index_sizes(self.keys, indexes))

    def read_rows(self, runs: Sequence[tuple[str, int]]) -> list[dict[str, str] | None]:
        """See `RunIndex.read_rows`."""
        return self._executor.run(index_calls.read_rows(self.keys, runs))

    def list_all_runs(self, partition: int) -> list[tuple[str, int]]:
        """See `RunIndex.list_all_runs`."""
        return self._executor.run(index_calls.list_all_runs(self.keys, partition))

    def reindex_run(self, workflow_id: str, run: int, row: Mapping[str, str]) -> bool:
        """See `RunIndex.reindex_run`."""
        return self._executor.run(index_calls.reindex_run(self.keys, workflow_id, run, row))

    def mark_indexed(self) -> None:
        """See `RunIndex.mark_indexed`."""
        self._executor.run(index_calls.mark_indexed(self.keys))


def _replies_of(calls: Sequence[Call]) -> Flow[list[object]]:
    """Return replies as they are, errors among them: one commit's error is not another's."""
    replies = yield calls
    return replies


def _commit_result(key: RunKey, reply: object) -> CommitResult | None:
    if isinstance(reply, bytes):
        return CommitResult(reply.decode())
    logger.error("event=commit_unanswered run=%s reason=%s", key, reply)
    return None
