"""A commit, in memory: check all, then write, in the order of commit_run.lua.

H2 holds because nothing is written before the last check, and no write can fail.
"""

from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.values import canonical
from orchestrator.store import memory_index
from orchestrator.store.bodies import cancelled_body
from orchestrator.store.memory_attempts import set_claim_timers
from orchestrator.store.memory_partition import Partition
from orchestrator.store.memory_starts import replace_row, starts_after
from orchestrator.store.ports import (
    AttemptKey,
    Commit,
    CommitResult,
    Kind,
    NextRun,
    RunKey,
    StepRow,
)
from orchestrator.store.rows import fields_of_start


def apply_commit(partition: Partition, token: str, commit: Commit, *, now_ms: int) -> CommitResult:
    """Carry out `commit`, but for its messages, or return why not.  See `OwnerStore.commit`."""
    refusal = _refusal(partition, token, commit, now_ms)
    if refusal is not None:
        return refusal
    key = commit.key
    row = partition.rows[key.workflow_id]
    if commit.events:
        partition.logs.setdefault(key, []).extend(commit.events)
        row["seq"] = str(commit.events[-1].seq)
        row["head"] = commit.events[-1].head
    memory_index.change(partition, key.workflow_id, row, commit.fields)
    for entry_id in commit.inbox_ids:
        partition.inbox.pop(entry_id, None)
    _change_timers(partition, commit)
    _change_steps(partition, commit, now_ms)
    for letter in commit.letters:
        partition.letters[partition.next_id()] = letter
    if commit.blocked is not None:
        (partition.blocked.add if commit.blocked else partition.blocked.discard)(key)
    if commit.closed_at_ms is not None:
        memory_index.close(partition, key.workflow_id, row)
        _close(partition, key, commit.closed_at_ms)
    if commit.next_run is not None:
        _open_next(partition, key, commit.next_run, now_ms)
    return CommitResult.COMMITTED


def _refusal(partition: Partition, token: str, commit: Commit, now_ms: int) -> CommitResult | None:
    if not partition.holds_lease(token, now_ms):
        return CommitResult.FENCED
    row = partition.rows.get(commit.key.workflow_id)
    if row is None or row["run"] != str(commit.key.run) or row["seq"] != str(commit.expected_seq):
        return CommitResult.CONFLICT
    # Before the first event the row has no head, whatever the caller computed for it.
    if commit.expected_seq and row["head"] != commit.expected_head:
        return CommitResult.CONFLICT
    for attempt in commit.given_up:
        expires_at_ms = partition.claims.get(attempt)
        if expires_at_ms is None or expires_at_ms > now_ms:
            return CommitResult.CLAIMED
    for attempts, states in (
        (commit.unposted, ("scheduled", "paused", "claimed", "cancelling")),
        (commit.unclaimed, ("scheduled",)),
    ):
        if not all(_is_current(partition, attempt, states) for attempt in attempts):
            return CommitResult.CLAIMED
    return None


def _is_current(partition: Partition, attempt: AttemptKey, states: tuple[str, ...]) -> bool:
    row = partition.find_step(attempt.run_key, attempt.step)
    if row is None:
        return False
    return row["attempt"] == str(attempt.attempt) and row["state"] in states


def _change_timers(partition: Partition, commit: Commit) -> None:
    for timer in commit.timers_removed:
        partition.timers.pop(timer, None)
    partition.timers.update(commit.timers_set)


def _change_steps(partition: Partition, commit: Commit, now_ms: int) -> None:
    for attempt in commit.given_up:
        # The row may be gone, or name a later attempt, which is nobody's to take.
        partition.end_claim(attempt)
        given = partition.find_step(commit.key, attempt.step)
        if given is not None and given["attempt"] == str(attempt.attempt):
            _rest(partition, commit.key, attempt.step)
    for attempt in commit.steps_settled:
        partition.end_claim(attempt)
        row = partition.steps.get(commit.key, {}).pop(attempt.step, {})
        if "attempt" in row:
            # Settled while it rested: the claim is that of the attempt before.
            partition.end_claim(_attempt(commit.key, attempt.step, row))
    for sent in commit.steps_sent:
        _send(partition, commit.key, sent, now_ms)
    for step in commit.steps_paused:
        paused = partition.find_step(commit.key, step)
        if paused is not None and paused["state"] == "scheduled":
            paused["state"] = "paused"
    for step in commit.steps_resting:
        _rest(partition, commit.key, step)
    for step in commit.steps_cancelled:
        _cancel(partition, commit.key, step)


def _attempt(key: RunKey, step: int, row: dict[str, str]) -> AttemptKey:
    return AttemptKey(
        workflow_id=key.workflow_id, run=key.run, step=step, attempt=int(row["attempt"])
    )


def _send(partition: Partition, key: RunKey, sent: StepRow, now_ms: int) -> None:
    row = partition.steps.setdefault(key, {}).setdefault(sent.step, {})
    if row.get("attempt") == str(sent.attempt):
        # Sent again; a worker may have claimed it meanwhile.
        if row["state"] == "paused":
            row["state"] = "scheduled"
        elif row["state"] != "scheduled":
            partition.end_waiting(_attempt(key, sent.step, row))
        return
    if "attempt" in row:
        partition.end_claim(_attempt(key, sent.step, row))
    for field in ("claim", "external", "heartbeat_at_ms"):
        row.pop(field, None)
    row["attempt"] = str(sent.attempt)
    row["state"] = "scheduled"
    row["start_to_close_ms"] = str(sent.start_to_close_ms)
    row["heartbeat_ms"] = str(sent.heartbeat_ms)
    if sent.local:
        attempt = _attempt(key, sent.step, row)
        row["state"] = "claimed"
        row["claim"] = sent.local
        partition.claims[attempt] = now_ms + CLAIM_TTL_MS
        set_claim_timers(partition, attempt, row, now_ms)


def _rest(partition: Partition, key: RunKey, step: int) -> None:
    row = partition.find_step(key, step)
    if row is None:
        return
    partition.end_claim(_attempt(key, step, row))
    row["state"] = "resting"
    row.pop("claim", None)
    row.pop("external", None)


def _cancel(partition: Partition, key: RunKey, step: int) -> None:
    row = partition.find_step(key, step)
    if row is None:
        return
    if row["state"] == "claimed":
        row["state"] = "cancelling"
    elif row["state"] in ("scheduled", "paused"):
        attempt = _attempt(key, step, row)
        row["state"] = "posted"
        row["posted_attempt"] = row["attempt"]
        row["posted_by"] = ""
        partition.end_waiting(attempt)
        partition.post(Kind.OUTCOME, key.workflow_id, key.run, cancelled_body(attempt))


def _open_next(partition: Partition, key: RunKey, opened: NextRun, now_ms: int) -> None:
    row = {
        "run": str(key.run + 1),
        "status": "pending",
        "type": opened.workflow,
        "request": opened.request,
        "started_at_ms": str(now_ms),
        "seq": "0",
        "first": str(opened.first_run),
        "start": canonical(dict(opened.body)).decode(),
        **fields_of_start(opened.body),
    }
    before = partition.rows[key.workflow_id]
    if "joined" in before:
        row["joined"] = before["joined"]
    if starts := starts_after(before):
        row["starts"] = " ".join(starts)
    replace_row(partition, key.workflow_id, row)
    partition.open[key.workflow_id] = now_ms


def _close(partition: Partition, key: RunKey, closed_at_ms: int) -> None:
    partition.open.pop(key.workflow_id, None)
    partition.closed[key] = closed_at_ms
    partition.blocked.discard(key)
    partition.said = {one: said for one, said in partition.said.items() if one.run_key != key}
    for step, row in partition.steps.pop(key, {}).items():
        attempt = _attempt(key, step, row)
        partition.end_claim(attempt)
        partition.end_waiting(attempt)
