"""H9 for outcomes that come with a digest: the same one again is known, another one is refused."""

from orchestrator.core.values import Json
from orchestrator.store.ports import AttemptKey, ClaimAnswer, Kind, PostAnswer
from tests.store.world import DONE, LONG_MS, World

APPROVED: dict[str, Json] = {**DONE, "digest": "aa"}
REFUSED: dict[str, Json] = {
    "kind": "failed",
    "failure": {"type": "No", "message": "no"},
    "digest": "bb",
}


def left(world: World) -> AttemptKey:
    key = world.send(world.open_run())
    world.store.claim(key, "w/1", ttl_ms=LONG_MS)
    assert world.store.detach(key, "w/1") is ClaimAnswer.GRANTED
    return key


def post(world: World, key: AttemptKey, body: dict[str, Json]) -> PostAnswer:
    return world.store.post_outcome(key, "w/1", body)


def settle(world: World, key: AttemptKey) -> None:
    ids = [entry.id for entry in world.inbox()]
    world.commit(key.run_key, ["done"], inbox_ids=ids, steps_settled=[key])


def test_digest_is_not_passed_on(world: World) -> None:
    key = left(world)
    assert post(world, key, APPROVED) is PostAnswer.POSTED
    assert world.bodies(Kind.OUTCOME) == [{**DONE, "step": 1, "attempt": 1}]


def test_another_outcome_under_the_same_token_is_refused_with_one_note(world: World) -> None:
    key = left(world)
    post(world, key, APPROVED)
    assert post(world, key, APPROVED) is PostAnswer.REPEATED
    for _ in range(2):
        assert post(world, key, REFUSED) is PostAnswer.SUPERSEDED
    assert len(world.bodies(Kind.OUTCOME)) == 1
    late: dict[str, Json] = {"step": 1, "attempt": 1, "kind": "failed"}
    assert world.bodies(Kind.LATE_OUTCOME) == [late]
    assert post(world, key, APPROVED) is PostAnswer.REPEATED


def test_same_outcome_is_known_after_the_step_is_settled_and_leaves_no_note(world: World) -> None:
    key = left(world)
    post(world, key, APPROVED)
    settle(world, key)
    assert post(world, key, APPROVED) is PostAnswer.REPEATED
    assert world.inbox() == []
    assert post(world, key, REFUSED) is PostAnswer.SUPERSEDED
    assert len(world.bodies(Kind.LATE_OUTCOME)) == 1
    assert world.store.read_step(key.run_key, 1) == {}


def test_same_outcome_is_known_after_further_attempts(world: World) -> None:
    key = left(world)
    post(world, key, REFUSED)
    ids = [entry.id for entry in world.inbox()]
    world.commit(key.run_key, ["failed"], inbox_ids=ids, steps_resting=[1])
    following = world.send(key.run_key, 1, 2)
    world.store.claim(following, "w/1", ttl_ms=LONG_MS)
    assert post(world, key, REFUSED) is PostAnswer.REPEATED
    assert post(world, following, APPROVED) is PostAnswer.POSTED
    assert post(world, key, REFUSED) is PostAnswer.REPEATED
    assert world.bodies(Kind.LATE_OUTCOME) == []


def test_nothing_is_kept_beyond_the_run_s_end(world: World) -> None:
    key = left(world)
    post(world, key, APPROVED)
    settle(world, key)
    world.commit(key.run_key, ["end"], closed_at_ms=5)
    assert post(world, key, APPROVED) is PostAnswer.GONE
    assert world.inbox() == []


def test_who_gives_no_digest_is_answered_as_before(world: World) -> None:
    key = left(world)
    assert post(world, key, DONE) is PostAnswer.POSTED
    assert post(world, key, REFUSED) is PostAnswer.REPEATED, "posted by a client of before"
    assert post(world, key, DONE) is PostAnswer.REPEATED
    assert len(world.inbox()) == 1
