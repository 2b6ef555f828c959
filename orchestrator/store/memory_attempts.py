"""What workers do to attempts, in memory: claim, renew, detach, heartbeat, post.

The same decisions as claim_attempt.lua, renew_claim.lua, detach_claim.lua, note_heartbeat.lua and
post_outcome.lua; tests/store holds the two against each other.
"""

import json
from collections.abc import Mapping

from orchestrator.core.values import Json, canonical
from orchestrator.store.bodies import digest_in, late_body, outcome_body
from orchestrator.store.memory_partition import Partition, attempt_timer
from orchestrator.store.ports import (
    AttemptKey,
    Claim,
    ClaimAnswer,
    Kind,
    PostAnswer,
    TimerKind,
)

_HELD = {"claimed": ClaimAnswer.GRANTED, "cancelling": ClaimAnswer.CANCELLED}


def set_claim_timers(
    partition: Partition, key: AttemptKey, row: Mapping[str, str], now_ms: int
) -> None:
    """Set START_TO_CLOSE and HEARTBEAT of a fresh claim where the step's row asks for them."""
    start_to_close_ms = int(row["start_to_close_ms"])
    if start_to_close_ms:
        timer = attempt_timer(TimerKind.START_TO_CLOSE, key)
        partition.timers[timer] = now_ms + start_to_close_ms
    heartbeat_ms = int(row["heartbeat_ms"])
    if heartbeat_ms:
        partition.timers[attempt_timer(TimerKind.HEARTBEAT, key)] = now_ms + heartbeat_ms


def claim(partition: Partition, key: AttemptKey, token: str, now_ms: int, ttl_ms: int) -> Claim:
    """See `WorkerStore.claim`."""
    row = partition.find_step(key.run_key, key.step)
    if row is None or row.get("attempt") != str(key.attempt):
        return Claim(answer=ClaimAnswer.REFUSED)
    if row["state"] != "scheduled":
        held = _HELD.get(row["state"], ClaimAnswer.REFUSED)
        if row.get("claim") != token or held is ClaimAnswer.REFUSED:
            return Claim(answer=ClaimAnswer.REFUSED)
        return Claim(answer=held, details=_details(row))
    row["state"] = "claimed"
    row["claim"] = token
    partition.claims[key] = now_ms + ttl_ms
    partition.end_waiting(key)
    set_claim_timers(partition, key, row, now_ms)
    return Claim(answer=ClaimAnswer.GRANTED, details=_details(row))


def _details(row: Mapping[str, str]) -> Json:
    details: Json = json.loads(row.get("details", "null"))
    return details


def _held(partition: Partition, key: AttemptKey, token: str) -> ClaimAnswer:
    """Return what the holder of `token`, or of a claim that begins with it, is to be told."""
    row = partition.find_step(key.run_key, key.step)
    if row is None or row.get("attempt") != str(key.attempt):
        return ClaimAnswer.REFUSED
    if not token or not row.get("claim", "").startswith(token):
        return ClaimAnswer.REFUSED
    return _HELD.get(row["state"], ClaimAnswer.REFUSED)


def renew(
    partition: Partition, key: AttemptKey, token: str, now_ms: int, ttl_ms: int
) -> ClaimAnswer:
    """See `WorkerStore.renew`."""
    answer = _held(partition, key, token)
    row = partition.find_step(key.run_key, key.step) or {}
    # A renewal that was under way when the claim was detached must not let it expire again.
    if answer is not ClaimAnswer.REFUSED and "external" not in row:
        partition.claims[key] = now_ms + ttl_ms
    return answer


def detach(partition: Partition, key: AttemptKey, token: str) -> ClaimAnswer:
    """See `WorkerStore.detach`."""
    answer = _held(partition, key, token)
    row = partition.find_step(key.run_key, key.step) or {}
    if answer is ClaimAnswer.REFUSED or row["claim"] != token:
        return ClaimAnswer.REFUSED
    row["external"] = "1"
    partition.claims.pop(key, None)
    return answer


def heartbeat(
    partition: Partition, key: AttemptKey, token: str, now_ms: int, details: Json
) -> ClaimAnswer:
    """See `WorkerStore.heartbeat`."""
    answer = _held(partition, key, token)
    if answer is ClaimAnswer.REFUSED:
        return answer
    row = partition.steps[key.run_key][key.step]
    row["details"] = canonical(details).decode()
    row["heartbeat_at_ms"] = str(now_ms)
    if int(row["heartbeat_ms"]):
        due_ms = now_ms + int(row["heartbeat_ms"])
        partition.timers[attempt_timer(TimerKind.HEARTBEAT, key)] = due_ms
    return answer


def post_outcome(
    partition: Partition, key: AttemptKey, token: str, body: Mapping[str, Json]
) -> PostAnswer:
    """See `WorkerStore.post_outcome`."""
    digest, row = digest_in(body), partition.find_step(key.run_key, key.step)
    said = partition.said.get(key, "") if digest else ""
    if said and said == digest:
        return PostAnswer.REPEATED
    if row is None or "attempt" not in row:
        # Settled, perhaps by another attempt.  A body that ran under a claim of its own
        # ("<worker>/…") is told of in the history, as long as the run is open.
        if "/" in token and key.run_key in partition.steps:
            late = late_body(key, body)
            partition.post(Kind.LATE_OUTCOME, key.workflow_id, key.run, late)
            return PostAnswer.SUPERSEDED
        return PostAnswer.GONE
    if _was_posted(row, key, token) and not said:
        return PostAnswer.REPEATED
    if _is_another_s(row, key, token):
        return PostAnswer.SUPERSEDED
    if not _may_post(row, key, token):
        # A copy that never ran (token "") has nothing to tell that history lacks.
        if token and row.get("late_attempt") != str(key.attempt):
            row["late_attempt"] = str(key.attempt)
            late = late_body(key, body)
            partition.post(Kind.LATE_OUTCOME, key.workflow_id, key.run, late)
        return PostAnswer.SUPERSEDED
    row["state"] = "posted"
    row["posted_attempt"] = str(key.attempt)
    row["posted_by"] = row.get("claim", "")
    if digest:
        partition.said[key] = digest
    partition.end_claim(key)
    partition.end_waiting(key)
    partition.post(Kind.OUTCOME, key.workflow_id, key.run, outcome_body(key, body))
    return PostAnswer.POSTED


def _was_posted(row: Mapping[str, str], key: AttemptKey, token: str) -> bool:
    """Return whether an outcome of the token is in: the row remembers the last that posted."""
    if row.get("posted_attempt") != str(key.attempt):
        return False
    posted_by = row.get("posted_by", "")
    return posted_by.startswith(token) if token else not posted_by


def _is_another_s(row: Mapping[str, str], key: AttemptKey, token: str) -> bool:
    """Return whether a worker speaks of a claim that is no longer its own; see `detach`."""
    claim = row.get("claim", "")
    is_part = bool(token) and token != claim and claim.startswith(token)
    return "external" in row and row["attempt"] == str(key.attempt) and is_part


def _may_post(row: Mapping[str, str], key: AttemptKey, token: str) -> bool:
    if row["attempt"] != str(key.attempt):
        return False
    if row["state"] == "scheduled":
        return not token
    return row["state"] in _HELD and bool(token) and row["claim"].startswith(token)
