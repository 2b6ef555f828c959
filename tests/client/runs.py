"""A stand-in for the orchestrator: records events into a store, as an owner would."""

from orchestrator.core import events as e
from orchestrator.core.values import canonical, first_head, next_head
from orchestrator.store.keys import partition_of
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Commit, CommitResult, RunKey, StoredEvent

TTL_MS = 3_600_000


class Recorder:
    """Owns every partition of a store and appends what a test says."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.tokens = {p: f"token-{p}" for p in range(store.partitions)}
        for partition, token in self.tokens.items():
            assert store.grant_lease(partition, "recorder", token, ttl_ms=TTL_MS)

    def token_of(self, workflow_id: str) -> str:
        """Return the lease token that commits about `workflow_id` carry."""
        return self.tokens[partition_of(workflow_id, self.store.partitions)]

    def started(self, workflow_id: str, run: int = 1, workflow: str = "order") -> None:
        """Record that an orchestrator has seen the run."""
        event = e.RunStarted(at_ms=1_000, workflow=workflow, seed="00")
        self.record(workflow_id, event, run=run, status="running")

    def completed(self, workflow_id: str, result: object, run: int = 1) -> None:
        """Record the run's result and end."""
        event = e.RunCompleted(at_ms=2_000, result=result)  # type: ignore[arg-type]
        text = canonical(event.result).decode()
        self.record(
            workflow_id, event, run=run, status="completed", result=text, closed_at_ms="2000"
        )

    def record(self, workflow_id: str, *events: e.Event, run: int = 1, **fields: str) -> None:
        """Append events and set fields of the row."""
        key = RunKey(workflow_id=workflow_id, run=run)
        history = self.store.read_history(key)
        seq = len(history)
        head = history[-1].head if history else ""
        commit_head, stored = head, []
        head = head or first_head(workflow_id, run)
        for event in events:
            data = e.encode(event)
            seq, head = seq + 1, next_head(head, data)
            stored.append(StoredEvent(seq=seq, data=data, head=head))
        closed_at_ms = fields.get("closed_at_ms")
        commit = Commit(
            key=key,
            expected_seq=len(history),
            expected_head=commit_head,
            events=stored,
            fields=fields,
            closed_at_ms=None if closed_at_ms is None else int(closed_at_ms),
        )
        [answer] = self.store.commit([(self.token_of(workflow_id), commit)])
        assert answer is CommitResult.COMMITTED, answer
