"""H7: an attempt is given up only while it is what the owner believes; cancelling likewise."""

import pytest

from orchestrator.store.bodies import CANCELLED_UNCLAIMED
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import (
    AttemptKey,
    ClaimAnswer,
    CommitResult,
    Kind,
    PostAnswer,
    StepRow,
    TimerKind,
)
from tests.store.world import DONE, LONG_MS, World, attempt, timer


def claimed(world: World, *, ttl_ms: int) -> AttemptKey:
    """Return a claimed attempt of a fresh run; its claim has expired where `ttl_ms` is short."""
    key = world.send(world.open_run(), start_to_close_ms=LONG_MS, heartbeat_ms=LONG_MS)
    world.store.claim(key, "one", ttl_ms=ttl_ms)
    world.pass_ms(5)
    return key


def test_expired_claim_is_given_up(world: World) -> None:
    key = claimed(world, ttl_ms=1)
    assert world.expired_claims() == [key]
    result = world.commit(key.run_key, ["lost"], given_up=[key], steps_resting=[1])
    assert result is CommitResult.COMMITTED
    assert world.expired_claims() == []
    assert world.timers() == []
    assert world.store.read_step(key.run_key, 1) == {"attempt": "1", "state": "resting"}


def test_giving_up_alone_makes_the_step_rest(world: World) -> None:
    key = claimed(world, ttl_ms=1)
    assert world.commit(key.run_key, ["lost"], given_up=[key]) is CommitResult.COMMITTED
    assert world.store.renew({key: "one"}, ttl_ms=9) == {key: ClaimAnswer.REFUSED}
    assert world.store.heartbeat(key, "one", 1) is ClaimAnswer.REFUSED
    assert world.store.post_outcome(key, "one", DONE) is PostAnswer.SUPERSEDED


def test_living_claim_is_not_given_up(world: World) -> None:
    key = claimed(world, ttl_ms=LONG_MS)
    result = world.commit(key.run_key, ["lost"], given_up=[key], steps_settled=[key])
    assert result is CommitResult.CLAIMED
    assert world.store.read_step(key.run_key, 1)["state"] == "claimed"
    assert len(world.store.read_history(key.run_key)) == 2


def test_claim_renewed_meanwhile_is_not_given_up(world: World) -> None:
    key = claimed(world, ttl_ms=1)
    world.store.renew({key: "one"}, ttl_ms=LONG_MS)
    assert world.commit(key.run_key, ["lost"], given_up=[key]) is CommitResult.CLAIMED


def test_attempt_whose_outcome_was_posted_meanwhile_is_not_given_up(world: World) -> None:
    key = claimed(world, ttl_ms=1)
    assert world.store.post_outcome(key, "one", DONE) is PostAnswer.POSTED
    result = world.commit(key.run_key, ["lost"], given_up=[key], steps_settled=[key])
    assert result is CommitResult.CLAIMED
    assert len(world.bodies(Kind.OUTCOME)) == 1
    assert len(world.store.read_history(key.run_key)) == 2


def test_one_living_claim_of_two_keeps_both(world: World) -> None:
    dead = claimed(world, ttl_ms=1)
    alive = world.send(dead.run_key, 2)
    world.store.claim(alive, "two", ttl_ms=LONG_MS)
    both = world.commit(dead.run_key, ["lost"], given_up=[dead, alive])
    assert both is CommitResult.CLAIMED
    assert world.expired_claims() == [dead]


def test_claim_is_not_given_up_twice(world: World) -> None:
    key = claimed(world, ttl_ms=1)
    made = world.next_commit(key.run_key, [], given_up=[key])
    assert world.store.commit([("lease-1", made)]) == [CommitResult.COMMITTED]
    assert world.store.commit([("lease-1", made)]) == [CommitResult.CLAIMED]


def test_time_out_gives_up_a_living_claim_that_has_no_outcome(world: World) -> None:
    key = claimed(world, ttl_ms=LONG_MS)
    row = StepRow(step=1, attempt=2)
    result = world.commit(key.run_key, ["timed out"], unposted=[key], steps_sent=[row])
    assert result is CommitResult.COMMITTED
    assert world.timers() == []
    assert world.store.post_outcome(key, "one", DONE) is PostAnswer.SUPERSEDED


@pytest.mark.parametrize("state", ["posted", "resting", "next attempt", "settled"])
def test_time_out_of_an_attempt_that_is_over_changes_nothing(world: World, state: str) -> None:
    key = claimed(world, ttl_ms=LONG_MS)
    if state == "posted":
        world.store.post_outcome(key, "one", DONE)
    elif state == "resting":
        world.commit(key.run_key, ["rests"], steps_resting=[1])
    elif state == "settled":
        world.commit(key.run_key, ["settled"], steps_settled=[key])
    else:
        world.send(key.run_key, 1, 2)
    before = world.store.read_history(key.run_key)
    result = world.commit(key.run_key, ["timed out"], unposted=[key], steps_settled=[key])
    assert result is CommitResult.CLAIMED
    assert world.store.read_history(key.run_key) == before


def test_unclaimed_attempt_is_given_up(world: World) -> None:
    key = world.send(world.open_run())
    result = world.commit(key.run_key, ["not started"], unclaimed=[key], steps_settled=[key])
    assert result is CommitResult.COMMITTED
    assert world.store.claim(key, "one", ttl_ms=9).answer is ClaimAnswer.REFUSED


def test_attempt_claimed_meanwhile_is_not_given_up_as_unclaimed(world: World) -> None:
    key = claimed(world, ttl_ms=LONG_MS)
    assert world.commit(key.run_key, ["not started"], unclaimed=[key]) is CommitResult.CLAIMED
    assert world.store.renew({key: "one"}, ttl_ms=9) == {key: ClaimAnswer.GRANTED}


def test_cancelled_step_that_nobody_claimed_gets_its_outcome_at_once(world: World) -> None:
    run = world.open_run()
    world.send(run, 1, 1)
    key = world.send(run, 1, 2)
    waiting = {
        timer(run, kind, 1, 2): 5 for kind in (TimerKind.UNCLAIMED, TimerKind.SCHEDULE_TO_START)
    }
    world.commit(run, ["timers"], timers_set=waiting)
    world.commit(run, ["cancel"], steps_cancelled=[1])
    (entry,) = world.inbox()
    assert (entry.kind, entry.workflow_id, entry.run) == (Kind.OUTCOME, run.workflow_id, run.run)
    assert entry.body == {
        "step": 1,
        "attempt": 2,
        "kind": "cancelled",
        "failure": CANCELLED_UNCLAIMED,
        "ran": False,
    }
    assert world.timers() == []
    assert world.store.read_step(run, 1)["state"] == "posted"
    assert world.store.claim(key, "one", ttl_ms=9).answer is ClaimAnswer.REFUSED


def test_cancelled_step_that_is_claimed_learns_it_and_posts_its_own_outcome(world: World) -> None:
    key = claimed(world, ttl_ms=LONG_MS)
    world.commit(key.run_key, ["cancel"], steps_cancelled=[1])
    assert world.inbox() == []
    assert world.store.renew({key: "one"}, ttl_ms=LONG_MS) == {key: ClaimAnswer.CANCELLED}
    assert world.store.heartbeat(key, "one", 1) is ClaimAnswer.CANCELLED
    assert world.store.claim(key, "one", ttl_ms=9).answer is ClaimAnswer.CANCELLED
    assert world.store.claim(key, "two", ttl_ms=9).answer is ClaimAnswer.REFUSED
    assert world.store.post_outcome(key, "one", DONE) is PostAnswer.POSTED


def test_cancelling_step_whose_worker_died_is_given_up(world: World) -> None:
    key = claimed(world, ttl_ms=1)
    world.commit(key.run_key, ["cancel"], steps_cancelled=[1])
    assert world.expired_claims() == [key]
    result = world.commit(key.run_key, ["lost"], given_up=[key], steps_settled=[key])
    assert result is CommitResult.COMMITTED
    assert world.store.read_step(key.run_key, 1) == {}


@pytest.mark.parametrize("state", ["posted", "resting", "unknown"])
def test_cancelling_a_step_that_is_not_under_way_does_nothing(world: World, state: str) -> None:
    key = claimed(world, ttl_ms=LONG_MS)
    if state == "posted":
        world.store.post_outcome(key, "one", DONE)
    elif state == "resting":
        world.commit(key.run_key, ["rests"], steps_resting=[1])
    before = world.inbox()
    steps = [9] if state == "unknown" else [1]
    assert world.commit(key.run_key, ["cancel"], steps_cancelled=steps) is CommitResult.COMMITTED
    assert world.inbox() == before
    assert world.store.read_step(key.run_key, 9) == {}


def test_step_sent_and_cancelled_in_one_commit_is_cancelled(world: World) -> None:
    run = world.open_run()
    world.commit(run, ["both"], steps_sent=[StepRow(step=1, attempt=1)], steps_cancelled=[1])
    assert [body["kind"] for body in world.bodies(Kind.OUTCOME)] == ["cancelled"]


def test_step_that_rests_and_is_settled_in_one_commit_leaves_no_claim(world: World) -> None:
    # A time-out ends attempt 1, and the same commit cancels the step, whose attempt is 2 by now.
    key = claimed(world, ttl_ms=1)
    next_key = attempt(key.run_key, number=2)
    result = world.commit(
        key.run_key, ["timed out"], unposted=[key], steps_resting=[1], steps_settled=[next_key]
    )
    assert result is CommitResult.COMMITTED
    assert world.expired_claims() == []


def leave_claim(world: World, key: AttemptKey) -> None:
    """Leave an expired claim behind, as an earlier version did."""
    if isinstance(world.store, MemoryStore):
        world.store._of(key.workflow_id).claims[key] = 1
    else:
        claims = world.store.keys.claims(world.partition(key.workflow_id))
        world.client.zadd(claims, {str(key): 1})


def test_claim_that_outlived_its_attempt_goes_without_touching_the_next_one(world: World) -> None:
    old = claimed(world, ttl_ms=LONG_MS)
    world.commit(old.run_key, ["failed"], unposted=[old], steps_resting=[1])
    new = world.send(old.run_key, number=2)
    assert world.store.claim(new, "two", ttl_ms=LONG_MS).answer is ClaimAnswer.GRANTED
    leave_claim(world, old)
    assert world.expired_claims() == [old]
    assert world.commit(old.run_key, given_up=[old]) is CommitResult.COMMITTED
    assert world.expired_claims() == []
    assert world.store.renew({new: "two"}, ttl_ms=LONG_MS) == {new: ClaimAnswer.GRANTED}


def test_claim_that_outlived_its_step_goes(world: World) -> None:
    key = claimed(world, ttl_ms=1)
    world.commit(key.run_key, ["failed"], unposted=[key], steps_settled=[key])
    leave_claim(world, key)
    assert world.commit(key.run_key, given_up=[key]) is CommitResult.COMMITTED
    assert world.expired_claims() == []
