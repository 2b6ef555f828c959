"""A detached claim outlives its worker: only its whole token, or a time-out, ends the attempt."""

import pytest

from orchestrator.core.values import Json
from orchestrator.store.ports import (
    AttemptKey,
    ClaimAnswer,
    CommitResult,
    Kind,
    PostAnswer,
    StepRow,
)
from tests.store.world import DONE, LONG_MS, World, attempt

LOST: dict[str, Json] = {"kind": "lost", "failure": {"type": "WorkerLost", "message": ""}}


def claimed(world: World, *, ttl_ms: int = 1, **parts: int) -> AttemptKey:
    key = world.send(world.open_run(), **parts)
    assert world.store.claim(key, "w/1", ttl_ms=ttl_ms).answer is ClaimAnswer.GRANTED
    return key


def detached(world: World, **parts: int) -> AttemptKey:
    key = claimed(world, **parts)
    assert world.store.detach(key, "w/1") is ClaimAnswer.GRANTED
    assert world.store.read_step(key.run_key, 1)["external"] == "1"
    return key


def test_detached_claim_does_not_expire_and_cannot_be_given_up_as_lost(world: World) -> None:
    key = claimed(world)
    world.pass_ms(5)
    assert world.expired_claims() == [key]
    # It has expired, and nobody has given it up: it is still held.
    assert world.store.detach(key, "w/1") is ClaimAnswer.GRANTED
    assert world.expired_claims() == []
    assert world.commit(key.run_key, ["lost"], given_up=[key]) is CommitResult.CLAIMED
    assert world.store.claim(key, "w/2", ttl_ms=LONG_MS).answer is ClaimAnswer.REFUSED


def test_renewal_that_was_under_way_does_not_let_a_detached_claim_expire(world: World) -> None:
    key = detached(world)
    assert world.store.renew({key: "w/"}, ttl_ms=1) == {key: ClaimAnswer.GRANTED}
    world.pass_ms(5)
    assert world.expired_claims() == []


def test_whole_token_posts_the_outcome_once(world: World) -> None:
    key = detached(world)
    assert world.store.post_outcome(key, "w/1", DONE) is PostAnswer.POSTED
    assert world.store.post_outcome(key, "w/1", LOST) is PostAnswer.REPEATED
    assert [body["kind"] for body in world.bodies(Kind.OUTCOME)] == ["completed"]


def test_worker_that_dies_later_does_not_speak_for_a_claim_it_left(world: World) -> None:
    key = detached(world)
    assert world.store.post_outcome(key, "w/", LOST) is PostAnswer.SUPERSEDED
    assert world.store.post_outcome(key, "", LOST) is PostAnswer.SUPERSEDED
    assert world.bodies(Kind.OUTCOME) == world.bodies(Kind.LATE_OUTCOME) == []
    assert world.store.post_outcome(key, "w/1", DONE) is PostAnswer.POSTED


def test_heartbeat_of_a_detached_attempt_keeps_details_and_moves_its_timer(world: World) -> None:
    key = detached(world, heartbeat_ms=10_000)
    before = world.due_ms(f"heartbeat:{key}")
    world.pass_ms(5)
    assert world.store.heartbeat(key, "w/1", {"at": 3}) is ClaimAnswer.GRANTED
    assert world.due_ms(f"heartbeat:{key}") > before
    assert world.store.read_step(key.run_key, 1)["details"] == '{"at":3}'


def test_cancellation_is_told_to_a_detached_attempt_and_its_outcome_counts(world: World) -> None:
    key = detached(world)
    world.commit(key.run_key, ["cancel"], steps_cancelled=[1])
    assert world.store.heartbeat(key, "w/1", None) is ClaimAnswer.CANCELLED
    assert world.store.detach(key, "w/1") is ClaimAnswer.CANCELLED
    assert world.store.post_outcome(key, "w/1", DONE) is PostAnswer.POSTED


def test_time_out_gives_a_detached_attempt_up_and_the_next_one_is_nobody_s_yet(
    world: World,
) -> None:
    key = detached(world, start_to_close_ms=10_000)
    assert f"start_to_close:{key}" in world.timers()
    done = world.commit(key.run_key, ["late"], unposted=[key], steps_resting=[1])
    assert done is CommitResult.COMMITTED
    assert "external" not in world.store.read_step(key.run_key, 1)
    assert world.store.detach(key, "w/1") is ClaimAnswer.REFUSED
    assert world.store.post_outcome(key, "w/1", DONE) is PostAnswer.SUPERSEDED
    second = world.send(key.run_key, 1, 2)
    assert world.store.claim(second, "w/2", ttl_ms=1).answer is ClaimAnswer.GRANTED
    world.pass_ms(5)
    assert world.expired_claims() == [second]
    assert world.store.heartbeat(key, "w/1", 1) is ClaimAnswer.REFUSED


@pytest.mark.parametrize("token", ["w/", "w/2", ""])
def test_only_the_whole_token_detaches(world: World, token: str) -> None:
    key = claimed(world)
    assert world.store.detach(key, token) is ClaimAnswer.REFUSED
    world.pass_ms(5)
    assert world.expired_claims() == [key]


def test_attempt_that_is_over_or_not_there_is_not_detached(world: World) -> None:
    key = claimed(world)
    world.store.post_outcome(key, "w/1", DONE)
    assert world.store.detach(key, "w/1") is ClaimAnswer.REFUSED
    world.commit(key.run_key, ["done"], steps_settled=[key])
    assert world.store.detach(key, "w/1") is ClaimAnswer.REFUSED
    assert world.store.read_step(key.run_key, 1) == {}


def test_settled_step_leaves_nothing_of_a_detached_claim(world: World) -> None:
    key = detached(world)
    world.store.post_outcome(key, "w/1", DONE)
    world.commit(key.run_key, ["done"], steps_settled=[key])
    assert world.store.read_step(key.run_key, 1) == {}


def test_new_attempt_sent_in_place_of_a_detached_one_is_renewed_like_any(world: World) -> None:
    key = detached(world)
    row = StepRow(step=1, attempt=2)
    world.commit(key.run_key, ["again"], unposted=[key], steps_sent=[row])
    second = attempt(key.run_key, 1, 2)
    assert world.store.claim(second, "w/2", ttl_ms=LONG_MS).answer is ClaimAnswer.GRANTED
    world.store.renew({second: "w/"}, ttl_ms=1)
    world.pass_ms(5)
    assert world.expired_claims() == [second]
