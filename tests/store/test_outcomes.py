"""P2 in the store: an attempt's outcome enters the inbox once, from whoever held the attempt."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.core.values import Json
from orchestrator.store.ports import AttemptKey, CommitResult, Kind, PostAnswer, TimerKind
from tests.store.conftest import keys_of
from tests.store.world import DONE, LONG_MS, World, timer

FAILED: dict[str, Json] = {"kind": "failed", "failure": {"type": "ValueError", "message": "no"}}


def claimed(world: World) -> AttemptKey:
    """Return an attempt of a fresh run, claimed under the token "worker-1:a"."""
    key = world.send(world.open_run(), start_to_close_ms=LONG_MS, heartbeat_ms=LONG_MS)
    world.store.claim(key, "worker-1:a", ttl_ms=1)
    return key


def test_outcome_enters_the_inbox_and_releases_the_claim(world: World) -> None:
    key = claimed(world)
    assert world.store.post_outcome(key, "worker-1:a", DONE) is PostAnswer.POSTED
    (entry,) = world.inbox()
    assert (entry.kind, entry.workflow_id, entry.run) == (Kind.OUTCOME, key.workflow_id, key.run)
    assert entry.body == {**DONE, "step": 1, "attempt": 1}
    world.pass_ms(5)
    assert world.expired_claims() == []
    assert world.timers() == []
    assert world.store.read_step(key.run_key, 1)["state"] == "posted"


@pytest.mark.parametrize("token", ["worker-1:a", "worker-1:"])
def test_repeated_outcome_changes_nothing(world: World, token: str) -> None:
    key = claimed(world)
    assert world.store.post_outcome(key, token, DONE) is PostAnswer.POSTED
    assert world.store.post_outcome(key, token, DONE) is PostAnswer.REPEATED
    assert len(world.inbox()) == 1


def test_outcome_repeated_after_it_was_recorded_changes_nothing(world: World) -> None:
    key = claimed(world)
    world.store.post_outcome(key, "worker-1:a", FAILED)
    ids = [entry.id for entry in world.inbox()]
    world.commit(key.run_key, ["failed"], inbox_ids=ids, steps_resting=[1])
    assert world.store.post_outcome(key, "worker-1:a", FAILED) is PostAnswer.REPEATED
    world.send(key.run_key, 1, 2)
    assert world.store.post_outcome(key, "worker-1:a", FAILED) is PostAnswer.REPEATED
    assert world.inbox() == []


def test_of_many_racing_posts_one_enters_the_inbox(world: World) -> None:
    key = claimed(world)
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(world.store.post_outcome, key, "worker-1:a", DONE) for _ in range(16)]
        answers = [post.result() for post in posts]
    assert answers.count(PostAnswer.POSTED) == 1
    assert answers.count(PostAnswer.REPEATED) == 15
    assert len(world.inbox()) == 1


def test_superseded_outcome_is_refused_and_recorded_once(world: World) -> None:
    key = claimed(world)
    world.pass_ms(5)
    world.commit(key.run_key, ["lost"], given_up=[key])
    following = world.send(key.run_key, 1, 2)
    world.store.claim(following, "worker-2:a", ttl_ms=LONG_MS)
    for _ in range(2):
        assert world.store.post_outcome(key, "worker-1:a", DONE) is PostAnswer.SUPERSEDED
    (entry,) = world.inbox()
    assert entry.kind is Kind.LATE_OUTCOME
    assert entry.body == {"step": 1, "attempt": 1, "kind": "completed"}
    assert world.store.read_step(key.run_key, 1)["claim"] == "worker-2:a"
    assert world.store.post_outcome(following, "worker-2:a", DONE) is PostAnswer.POSTED


def test_outcome_of_the_last_attempt_is_not_that_of_the_current_one(world: World) -> None:
    last = claimed(world)
    current = world.send(last.run_key, 1, 2)
    # Nobody has the current attempt; then the same worker has it.
    assert world.store.post_outcome(last, "", FAILED) is PostAnswer.SUPERSEDED
    world.store.claim(current, "worker-1:b", ttl_ms=LONG_MS)
    assert world.store.post_outcome(last, "worker-1:", FAILED) is PostAnswer.SUPERSEDED
    assert world.bodies(Kind.OUTCOME) == []
    assert world.store.read_step(last.run_key, 1)["state"] == "claimed"
    assert world.store.post_outcome(current, "worker-1:b", DONE) is PostAnswer.POSTED


@pytest.mark.parametrize("token", ["worker-2:a", "worker-1:ab", ""])
def test_outcome_from_somebody_else_posts_nothing(world: World, token: str) -> None:
    key = claimed(world)
    assert world.store.post_outcome(key, token, DONE) is PostAnswer.SUPERSEDED
    assert world.bodies(Kind.OUTCOME) == []
    assert world.store.read_step(key.run_key, 1)["state"] == "claimed"
    assert world.store.post_outcome(key, "worker-1:a", DONE) is PostAnswer.POSTED


def test_outcome_under_a_token_that_claimed_nothing_is_refused(world: World) -> None:
    key = world.send(world.open_run())
    assert world.store.post_outcome(key, "worker-1:a", DONE) is PostAnswer.SUPERSEDED
    assert world.store.read_step(key.run_key, 1)["state"] == "scheduled"


def test_unclaimed_attempt_takes_an_outcome_without_a_token(world: World) -> None:
    key = world.send(world.open_run())
    waiting = timer(key.run_key, TimerKind.UNCLAIMED, 1, 1)
    world.commit(key.run_key, ["timer"], timers_set={waiting: 5})
    assert world.store.post_outcome(key, "", FAILED) is PostAnswer.POSTED
    assert world.store.post_outcome(key, "", FAILED) is PostAnswer.REPEATED
    assert world.bodies(Kind.OUTCOME) == [{**FAILED, "step": 1, "attempt": 1}]
    assert world.timers() == []
    assert world.store.claim(key, "one", ttl_ms=9).answer.value == "refused"


def test_claimed_outcome_is_no_repetition_of_one_without_a_token(world: World) -> None:
    key = claimed(world)
    world.store.post_outcome(key, "worker-1:a", DONE)
    assert world.store.post_outcome(key, "", FAILED) is PostAnswer.SUPERSEDED
    assert len(world.inbox()) == 1


@pytest.mark.parametrize("state", ["closed", "unknown run"])
def test_outcome_nobody_waits_for_is_gone(world: World, state: str) -> None:
    key = claimed(world)
    if state == "closed":
        world.commit(key.run_key, ["end"], closed_at_ms=5)
    else:
        key = AttemptKey(workflow_id="nobody", run=1, step=1, attempt=1)
    assert world.store.post_outcome(key, "worker-1:a", DONE) is PostAnswer.GONE
    assert world.inbox(key.workflow_id) == []


def test_outcome_for_a_settled_step_is_refused_and_recorded(world: World) -> None:
    key = claimed(world)
    world.commit(key.run_key, ["done"], steps_settled=[key])
    assert world.store.post_outcome(key, "worker-1:a", DONE) is PostAnswer.GONE
    assert world.store.post_outcome(key, "", DONE) is PostAnswer.GONE
    assert world.inbox(key.workflow_id) == []
    assert world.store.post_outcome(key, "worker-1/a", DONE) is PostAnswer.SUPERSEDED
    assert world.bodies(Kind.LATE_OUTCOME) == [{"step": 1, "attempt": 1, "kind": "completed"}]


def test_settled_step_leaves_no_trace(world: World) -> None:
    key = claimed(world)
    other = world.send(key.run_key, 11)
    world.store.heartbeat(key, "worker-1:a", {"n": 1})
    assert world.commit(key.run_key, ["s"], steps_settled=[key]) is CommitResult.COMMITTED
    world.pass_ms(5)
    assert world.store.read_step(key.run_key, 1) == {}
    assert world.expired_claims() == []
    assert world.timers() == []
    if world.client is not None:
        name = keys_of(world).steps(key.workflow_id, key.run)
        fields = {field.decode() for field in world.client.hkeys(name)}
        assert {field.split(".")[0] for field in fields} == {str(other.step), "open"}


def test_body_of_an_outcome_keeps_numbers_lists_and_text_as_they_were(world: World) -> None:
    key = claimed(world)
    body: dict[str, Json] = {
        "kind": "completed",
        "result": {"big": 12345678901234567890, "none": [], "text": "☃\x00\"'", "f": 0.1},
    }
    world.store.post_outcome(key, "worker-1:a", body)
    assert world.bodies(Kind.OUTCOME) == [{**body, "step": 1, "attempt": 1}]
