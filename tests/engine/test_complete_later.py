"""An attempt that its worker left to who has its token, through kills, time-outs and retries."""

from datetime import timedelta
from typing import Any

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import StepTimeout
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.retry import Retry
from orchestrator.store.ports import AttemptKey, ClaimAnswer, Kind, PostAnswer
from tests.engine.world import World

AT_ONCE = Retry(attempts=3, initial=timedelta(0))
DAY_MS = 86_400_000


async def approved() -> Any:
    return await workflow.step("ask", retry=AT_ONCE)


async def pressed() -> Any:
    try:
        return await workflow.step("ask", retry=AT_ONCE, start_to_close=timedelta(hours=1))
    except StepTimeout as error:
        return error.failure.type


async def watched() -> Any:
    return await workflow.step("ask", retry=AT_ONCE, heartbeat=timedelta(minutes=1))


def left(world: World, name: str = "approved") -> dict[str, Any]:
    """Start the run, claim the attempt at its step, leave it, and return its message."""
    world.start(name)
    world.turn()
    return leave_next(world)


def leave_next(world: World) -> dict[str, Any]:
    message = world.pop()
    assert message
    assert world.claim(message) is ClaimAnswer.GRANTED
    key = AttemptKey.parse(message["key"])
    assert world.store.detach(key, "worker/1") is ClaimAnswer.GRANTED
    return message


def yes(world: World, message: dict[str, Any]) -> PostAnswer:
    return world.finish(message, {"kind": "completed", "result": "yes"})


def of(world: World, kind: type[e.Event]) -> list[Any]:
    return [event for event in world.events() if isinstance(event, kind)]


def test_an_answer_that_comes_days_later_ends_the_first_attempt() -> None:
    world = World(approved)
    message = left(world)
    for _ in range(3):
        world.advance(DAY_MS)
        world.settle()
        world.restart()
    world.settle()
    assert yes(world, message) is PostAnswer.POSTED
    world.settle()
    assert world.result() == "yes"
    assert of(world, e.StepAttemptFailed) == []
    world.check_chain()


def test_a_claim_that_expired_and_is_left_as_the_owner_looks_is_not_taken_for_lost() -> None:
    world = World(approved)
    world.start("approved")
    world.turn()
    message = world.pop()
    assert message
    world.claim(message)
    world.advance(CLAIM_TTL_MS)
    node, commit = world.node, world.store.commit

    def leaving_first(commits: Any) -> Any:
        world.store.detach(AttemptKey.parse(message["key"]), "worker/1")
        return commit(commits)

    world.store.commit = leaving_first  # type: ignore[method-assign]
    world.advance(1)
    node.try_turn()
    world.store.commit = commit  # type: ignore[method-assign]
    world.turn()
    assert of(world, e.StepAttemptFailed) == []
    yes(world, message)
    world.settle()
    assert world.result() == "yes"


def test_the_time_of_the_attempt_gives_it_up_and_its_late_answer_is_recorded() -> None:
    world = World(pressed)
    first = left(world, "pressed")
    world.advance(3_600_000)
    world.turn()
    second = leave_next(world)
    assert yes(world, first) is PostAnswer.SUPERSEDED
    assert yes(world, second) is PostAnswer.POSTED
    world.settle()
    assert world.result() == "yes"
    (refused,) = of(world, e.OutcomeRefused)
    assert (refused.step, refused.attempt) == (1, 1)


def test_heartbeats_by_token_keep_an_attempt_and_their_silence_ends_it() -> None:
    world = World(watched)
    message = left(world, "watched")
    key = AttemptKey.parse(message["key"])
    for minute in range(5):
        world.advance(50_000)
        world.turn()
        assert world.store.heartbeat(key, "worker/1", minute) is ClaimAnswer.GRANTED
    world.advance(60_000)
    world.turn()
    assert [event.failure.type for event in of(world, e.StepAttemptFailed)] == ["heartbeat_timeout"]
    second = world.pop()
    assert second
    claim = world.store.claim(AttemptKey.parse(second["key"]), "worker/2", ttl_ms=CLAIM_TTL_MS)
    assert claim.details == 4


def test_a_cancelled_run_tells_it_with_the_next_heartbeat() -> None:
    async def patient() -> Any:
        return await workflow.step("ask", cancellation="wait")

    world = World(patient)
    message = left(world, "patient")
    world.post(Kind.CANCEL, {"reason": "", "request_id": "c"})
    world.turn()
    key = AttemptKey.parse(message["key"])
    assert world.store.heartbeat(key, "worker/1", None) is ClaimAnswer.CANCELLED
    world.finish(
        message, {"kind": "cancelled", "failure": {"type": "StepCancelled", "message": ""}}
    )
    world.settle()
    assert world.status() == "cancelled"


def test_an_attempt_that_is_left_is_paused_like_one_that_runs() -> None:
    world = World(approved)
    message = left(world)
    world.post(Kind.DECISION, {"step": 1, "decision": "pause", "reason": "", "by": ""})
    world.turn()
    world.finish(message, {"kind": "failed", "failure": {"type": "No", "message": ""}})
    world.turn()
    assert world.pop() is None
    world.post(Kind.DECISION, {"step": 1, "decision": "unpause", "reason": "", "by": ""})
    world.turn()
    yes(world, leave_next(world))
    world.settle()
    assert world.result() == "yes"


def test_an_answer_to_a_run_that_has_ended_is_told_so() -> None:
    world = World(approved)
    message = left(world)
    world.post(Kind.TERMINATE, {"reason": "", "request_id": "t"})
    world.settle()
    assert world.status() == "terminated"
    assert yes(world, message) is PostAnswer.GONE
