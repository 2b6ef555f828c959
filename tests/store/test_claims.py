"""H6: one worker at a time holds an attempt, and only the current one."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.core.values import Json
from orchestrator.store.ports import AttemptKey, Claim, ClaimAnswer, TimerKind
from tests.store.world import DONE, LONG_MS, World, timer

GRANTED = Claim(answer=ClaimAnswer.GRANTED)
REFUSED = Claim(answer=ClaimAnswer.REFUSED)


def test_unclaimed_attempt_is_granted_once(world: World) -> None:
    key = world.send(world.open_run())
    assert world.store.claim(key, "one", ttl_ms=LONG_MS) == GRANTED
    assert world.store.claim(key, "two", ttl_ms=LONG_MS) == REFUSED
    assert world.store.read_step(key.run_key, 1)["claim"] == "one"


def test_repeated_claim_is_granted_and_changes_nothing(world: World) -> None:
    key = world.send(world.open_run(), start_to_close_ms=LONG_MS)
    assert world.store.claim(key, "one", ttl_ms=1) == GRANTED
    due_ms = world.due_ms(f"start_to_close:{key}")
    world.pass_ms(5)
    assert world.store.claim(key, "one", ttl_ms=LONG_MS) == GRANTED
    assert world.due_ms(f"start_to_close:{key}") == due_ms
    assert world.expired_claims() == [key]


def test_of_many_racing_claims_one_is_granted(world: World) -> None:
    key = world.send(world.open_run())
    with ThreadPoolExecutor(8) as pool:
        claims = [
            pool.submit(world.store.claim, key, f"worker-{n}", ttl_ms=LONG_MS) for n in range(16)
        ]
        answers = [claim.result().answer for claim in claims]
    assert answers.count(ClaimAnswer.GRANTED) == 1
    assert answers.count(ClaimAnswer.REFUSED) == 15


@pytest.mark.parametrize(
    "wrong",
    [
        AttemptKey(workflow_id="order-42", run=1, step=1, attempt=1),
        AttemptKey(workflow_id="order-42", run=1, step=1, attempt=3),
        AttemptKey(workflow_id="order-42", run=1, step=2, attempt=2),
        AttemptKey(workflow_id="order-42", run=2, step=1, attempt=2),
        AttemptKey(workflow_id="order-43", run=1, step=1, attempt=2),
    ],
    ids=str,
)
def test_attempt_that_is_not_current_is_refused(world: World, wrong: AttemptKey) -> None:
    key = world.open_run()
    world.send(key, 1, 1)
    world.send(key, 1, 2)
    assert world.store.claim(wrong, "one", ttl_ms=LONG_MS) == REFUSED
    assert world.store.renew({wrong: "one"}, ttl_ms=9) == {wrong: ClaimAnswer.REFUSED}
    assert world.store.heartbeat(wrong, "one", 1) is ClaimAnswer.REFUSED
    assert world.store.read_step(key, 1) == {"attempt": "2", "state": "scheduled"}


def test_resting_step_is_not_claimed(world: World) -> None:
    run = world.open_run()
    key = world.send(run)
    world.commit(run, ["rests"], steps_resting=[1])
    assert world.store.claim(key, "one", ttl_ms=LONG_MS) == REFUSED


def test_posted_attempt_is_not_claimed(world: World) -> None:
    key = world.send(world.open_run())
    world.store.claim(key, "one", ttl_ms=LONG_MS)
    world.store.post_outcome(key, "one", DONE)
    for token in ("one", "two"):
        assert world.store.claim(key, token, ttl_ms=LONG_MS) == REFUSED


def test_attempt_of_a_closed_run_is_refused(world: World) -> None:
    run = world.open_run()
    key = world.send(run)
    world.store.claim(key, "one", ttl_ms=LONG_MS)
    world.commit(run, ["end"], closed_at_ms=5)
    assert world.store.claim(key, "one", ttl_ms=LONG_MS) == REFUSED
    assert world.store.renew({key: "one"}, ttl_ms=9) == {key: ClaimAnswer.REFUSED}
    assert world.store.heartbeat(key, "one", 1) is ClaimAnswer.REFUSED
    assert world.store.read_step(run, 1) == {}


def test_claim_ends_the_wait_for_it_and_starts_what_its_row_asks_for(world: World) -> None:
    run = world.open_run()
    key = world.send(run, start_to_close_ms=70, heartbeat_ms=50)
    waiting = [TimerKind.UNCLAIMED, TimerKind.SCHEDULE_TO_START]
    other = timer(run, TimerKind.UNCLAIMED, 2, 1)
    timers = {timer(run, kind, 1, 1): 5 for kind in waiting} | {other: 5}
    world.commit(run, ["timers"], timers_set=timers)
    before_ms = world.store.now_ms()
    world.store.claim(key, "one", ttl_ms=LONG_MS)
    assert world.timers() == [str(other), f"heartbeat:{key}", f"start_to_close:{key}"]
    assert world.due_ms(f"heartbeat:{key}") >= before_ms + 50
    assert world.due_ms(f"start_to_close:{key}") == world.due_ms(f"heartbeat:{key}") + 20


def test_claim_without_time_outs_sets_no_timer(world: World) -> None:
    key = world.send(world.open_run())
    world.store.claim(key, "one", ttl_ms=LONG_MS)
    assert world.timers() == []


def test_claim_that_is_renewed_does_not_expire(world: World) -> None:
    key = world.send(world.open_run())
    world.store.claim(key, "one", ttl_ms=1)
    world.pass_ms(5)
    assert world.expired_claims() == [key]
    # Expired and not given up: still held.
    assert world.store.renew({key: "one"}, ttl_ms=LONG_MS) == {key: ClaimAnswer.GRANTED}
    assert world.expired_claims() == []


def test_claims_are_renewed_under_the_workers_part_of_the_token(world: World) -> None:
    run = world.open_run()
    one, two = world.send(run, 1), world.send(run, 2)
    world.store.claim(one, "worker-1:a", ttl_ms=LONG_MS)
    world.store.claim(two, "worker-2:a", ttl_ms=LONG_MS)
    assert world.store.renew({one: "worker-1:", two: "worker-1:"}, ttl_ms=LONG_MS) == {
        one: ClaimAnswer.GRANTED,
        two: ClaimAnswer.REFUSED,
    }
    assert world.store.renew({}, ttl_ms=LONG_MS) == {}


def test_empty_token_and_longer_token_hold_no_claim(world: World) -> None:
    key = world.send(world.open_run())
    world.store.claim(key, "one", ttl_ms=LONG_MS)
    for token in ("", "one-more"):
        assert world.store.renew({key: token}, ttl_ms=LONG_MS) == {key: ClaimAnswer.REFUSED}
        assert world.store.heartbeat(key, token, 1) is ClaimAnswer.REFUSED
    assert "details" not in world.store.read_step(key.run_key, 1)


def test_heartbeat_keeps_details_for_the_next_attempt(world: World) -> None:
    run = world.open_run()
    key = world.send(run)
    world.store.claim(key, "one", ttl_ms=LONG_MS)
    details: Json = {"epoch": 3, "path": "s3://ü", "empty": []}
    assert world.store.heartbeat(key, "one", details) is ClaimAnswer.GRANTED
    row = world.store.read_step(run, 1)
    assert int(row["heartbeat_at_ms"]) <= world.store.now_ms()
    following = world.send(run, 1, 2)
    assert "heartbeat_at_ms" not in world.store.read_step(run, 1)
    claim = world.store.claim(following, "two", ttl_ms=LONG_MS)
    assert claim == Claim(answer=ClaimAnswer.GRANTED, details=details)


def test_heartbeat_moves_its_timer_and_no_other(world: World) -> None:
    key = world.send(world.open_run(), start_to_close_ms=LONG_MS, heartbeat_ms=50)
    world.store.claim(key, "one", ttl_ms=LONG_MS)
    first_ms, close_ms = world.due_ms(f"heartbeat:{key}"), world.due_ms(f"start_to_close:{key}")
    world.pass_ms(5)
    world.store.heartbeat(key, "one", None)
    assert world.due_ms(f"heartbeat:{key}") >= first_ms + 5
    assert world.due_ms(f"start_to_close:{key}") == close_ms


def test_next_attempt_ends_the_claim_of_the_last(world: World) -> None:
    run = world.open_run()
    key = world.send(run, start_to_close_ms=LONG_MS, heartbeat_ms=LONG_MS)
    world.store.claim(key, "one", ttl_ms=1)
    following = world.send(run, 1, 2)
    world.pass_ms(5)
    assert world.expired_claims() == []
    assert world.timers() == []
    assert world.store.renew({key: "one"}, ttl_ms=9) == {key: ClaimAnswer.REFUSED}
    assert world.store.claim(following, "two", ttl_ms=LONG_MS) == GRANTED


def test_attempt_sent_again_leaves_a_claim_alone(world: World) -> None:
    run = world.open_run()
    key = world.send(run)
    world.store.claim(key, "one", ttl_ms=LONG_MS)
    world.send(run)
    assert world.store.read_step(run, 1) == {"attempt": "1", "state": "claimed", "claim": "one"}
    assert world.store.renew({key: "one"}, ttl_ms=9) == {key: ClaimAnswer.GRANTED}


def test_worker_that_holds_the_next_attempt_holds_the_last_one_no_more(world: World) -> None:
    run = world.open_run()
    last = world.send(run)
    world.store.claim(last, "worker-1:a", ttl_ms=LONG_MS)
    current = world.send(run, 1, 2)
    world.store.claim(current, "worker-1:b", ttl_ms=LONG_MS)
    assert world.store.renew({last: "worker-1:", current: "worker-1:"}, ttl_ms=LONG_MS) == {
        last: ClaimAnswer.REFUSED,
        current: ClaimAnswer.GRANTED,
    }
    assert world.store.heartbeat(last, "worker-1:", 1) is ClaimAnswer.REFUSED
    assert "details" not in world.store.read_step(run, 1)


def test_claim_ends_with_its_outcome(world: World) -> None:
    key = world.send(world.open_run(), heartbeat_ms=LONG_MS)
    world.store.claim(key, "one", ttl_ms=LONG_MS)
    world.store.post_outcome(key, "one", DONE)
    assert world.store.renew({key: "one"}, ttl_ms=1) == {key: ClaimAnswer.REFUSED}
    assert world.store.heartbeat(key, "one", 1) is ClaimAnswer.REFUSED
    world.pass_ms(5)
    assert world.expired_claims() == []
    assert world.timers() == []
