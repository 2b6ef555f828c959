"""Calls about attempts, as workers make them: claim, renew, detach, heartbeat, post."""

import json
from collections.abc import Mapping

from orchestrator.core.values import Json, canonical
from orchestrator.store.bodies import digest_in, late_body, outcome_body
from orchestrator.store.calls import Argument, Call, Flow, ask, ask_all, run_script, text
from orchestrator.store.keys import Keys
from orchestrator.store.ports import AttemptKey, Claim, ClaimAnswer, PostAnswer


def claim(keys: Keys, key: AttemptKey, token: str, ttl_ms: int) -> Flow[Claim]:
    """See `WorkerStore.claim`."""
    assert token, "a claim needs a token"
    arguments: list[Argument] = [key.step, key.attempt, str(key), token, ttl_ms]
    call = run_script("claim", "claim_attempt", _steps_claims_timers(keys, key), arguments)
    answer, details = yield from ask(call)
    return Claim(answer=ClaimAnswer(text(answer)), details=json.loads(details or "null"))


def renew(
    keys: Keys, claims: Mapping[AttemptKey, str], ttl_ms: int
) -> Flow[dict[AttemptKey, ClaimAnswer]]:
    """See `WorkerStore.renew`."""
    replies = yield from ask_all(
        [_renewal(keys, key, token, ttl_ms) for key, token in claims.items()]
    )
    return {key: ClaimAnswer(text(reply)) for key, reply in zip(claims, replies, strict=True)}


def _renewal(keys: Keys, key: AttemptKey, token: str, ttl_ms: int) -> Call:
    names = _steps_claims_timers(keys, key)[:2]
    arguments: list[Argument] = [key.step, key.attempt, str(key), token, ttl_ms]
    return run_script("renew", "renew_claim", names, arguments)


def heartbeat(keys: Keys, key: AttemptKey, token: str, details: Json) -> Flow[ClaimAnswer]:
    """See `WorkerStore.heartbeat`."""
    arguments: list[Argument] = [key.step, key.attempt, str(key), token, canonical(details)]
    steps, _, timers = _steps_claims_timers(keys, key)
    call = run_script("heartbeat", "note_heartbeat", [steps, timers], arguments)
    reply = yield from ask(call)
    return ClaimAnswer(text(reply))


def detach(keys: Keys, key: AttemptKey, token: str) -> Flow[ClaimAnswer]:
    """See `WorkerStore.detach`."""
    names = _steps_claims_timers(keys, key)[:2]
    arguments: list[Argument] = [key.step, key.attempt, str(key), token]
    reply = yield from ask(run_script("detach", "detach_claim", names, arguments))
    return ClaimAnswer(text(reply))


def post_outcome(
    keys: Keys, key: AttemptKey, token: str, body: Mapping[str, Json]
) -> Flow[PostAnswer]:
    """See `WorkerStore.post_outcome`."""
    names = [*_steps_claims_timers(keys, key), keys.inbox(keys.of_workflow(key.workflow_id))]
    arguments: list[Argument] = [
        *(key.step, key.attempt, str(key), token, key.workflow_id, key.run),
        *(outcome_body(key, body), late_body(key, body), digest_in(body)),
    ]
    reply = yield from ask(run_script("post_outcome", "post_outcome", names, arguments))
    return PostAnswer(text(reply))


def _steps_claims_timers(keys: Keys, key: AttemptKey) -> list[str]:
    partition = keys.of_workflow(key.workflow_id)
    steps = keys.steps(key.workflow_id, key.run)
    return [steps, keys.claims(partition), keys.timers(partition)]
