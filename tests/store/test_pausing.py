"""A paused attempt is nobody's to claim until it is sent again; one that is held goes on."""

import pytest

from orchestrator.store.ports import (
    AttemptKey,
    ClaimAnswer,
    CommitResult,
    Kind,
    PostAnswer,
    StepRow,
    TimerKind,
)
from tests.store.world import DONE, LONG_MS, World, timer


def paused(world: World) -> AttemptKey:
    key = world.send(world.open_run())
    done = world.commit(key.run_key, ["paused"], steps_paused=[1])
    assert done is CommitResult.COMMITTED
    return key


def send_again(world: World, key: AttemptKey) -> None:
    due_ms = world.store.now_ms() + LONG_MS
    waiting = {
        timer(key.run_key, kind, 1, 1): due_ms
        for kind in (TimerKind.UNCLAIMED, TimerKind.SCHEDULE_TO_START)
    }
    row = StepRow(step=1, attempt=1)
    done = world.commit(key.run_key, ["again"], steps_sent=[row], timers_set=waiting)
    assert done is CommitResult.COMMITTED


def test_paused_attempt_is_refused_to_all_who_come(world: World) -> None:
    key = paused(world)
    assert world.store.claim(key, "w/1", ttl_ms=LONG_MS).answer is ClaimAnswer.REFUSED
    assert world.store.post_outcome(key, "", DONE) is PostAnswer.SUPERSEDED
    assert world.store.post_outcome(key, "w/1", DONE) is PostAnswer.SUPERSEDED
    assert world.store.read_step(key.run_key, 1)["state"] == "paused"


def test_paused_attempt_that_is_sent_again_is_claimed_once(world: World) -> None:
    key = paused(world)
    send_again(world, key)
    assert len(world.timers()) == 2
    assert world.store.claim(key, "w/1", ttl_ms=LONG_MS).answer is ClaimAnswer.GRANTED
    assert world.store.claim(key, "w/2", ttl_ms=LONG_MS).answer is ClaimAnswer.REFUSED
    assert world.timers() == []


def test_claimed_attempt_goes_on_through_a_pause_and_its_end(world: World) -> None:
    key = world.send(world.open_run())
    world.store.claim(key, "w/1", ttl_ms=LONG_MS)
    world.commit(key.run_key, ["paused"], steps_paused=[1])
    assert world.store.renew({key: "w/"}, ttl_ms=LONG_MS) == {key: ClaimAnswer.GRANTED}
    send_again(world, key)
    # Nobody waits for a claim that is there: these would send the message for ever.
    assert world.timers() == []
    assert world.store.post_outcome(key, "w/1", DONE) is PostAnswer.POSTED


def test_attempt_sent_and_paused_in_one_commit_is_paused(world: World) -> None:
    run = world.open_run()
    row = StepRow(step=1, attempt=1)
    world.commit(run, ["sent, paused"], steps_sent=[row], steps_paused=[1])
    assert world.store.read_step(run, 1)["state"] == "paused"


def test_paused_attempt_that_is_cancelled_has_its_outcome(world: World) -> None:
    key = paused(world)
    world.commit(key.run_key, ["cancel"], steps_cancelled=[1])
    (body,) = world.bodies(Kind.OUTCOME)
    assert (body["kind"], body["attempt"], body["ran"]) == ("cancelled", 1, False)


def test_paused_attempt_is_given_up_by_a_time_out(world: World) -> None:
    key = paused(world)
    done = world.commit(key.run_key, ["late"], unposted=[key], steps_settled=[key])
    assert done is CommitResult.COMMITTED
    assert world.store.read_step(key.run_key, 1) == {}


@pytest.mark.parametrize("steps", [[2], [1, 2]])
def test_pause_of_a_step_that_is_not_there_changes_nothing_else(
    world: World, steps: list[int]
) -> None:
    key = world.send(world.open_run())
    world.commit(key.run_key, ["paused"], steps_paused=steps)
    assert world.store.read_step(key.run_key, 2) == {}


def test_run_that_ends_takes_its_paused_steps_along(world: World) -> None:
    key = paused(world)
    world.commit(key.run_key, ["end"], closed_at_ms=1)
    assert world.store.read_step(key.run_key, 1) == {}
    assert world.store.post_outcome(key, "w/1", DONE) is PostAnswer.GONE
