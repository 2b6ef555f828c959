"""One step in an operator's hands: paused, let go on, begun anew."""

import random
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import StepTimeout
from orchestrator.core.limits import CLAIM_TTL_MS, RESEND_AFTER_MS, RESEND_AFTER_MS_MAX
from orchestrator.core.retry import Retry
from orchestrator.store.ports import AttemptKey, ClaimAnswer, Kind
from tests.engine.world import World

TWICE = Retry(attempts=2, initial=timedelta(minutes=1))
HOUR_MS = 3_600_000


async def one() -> Any:
    return await workflow.step("job", retry=TWICE)


def world_with(*functions: Any) -> World:
    world = World(*functions)
    world.tasks["job"] = lambda: "done"
    return world


def started(world: World, name: str = "one") -> dict[str, Any]:
    world.start(name)
    world.turn()
    message = world.pop()
    assert message
    return message


def decide(world: World, decision: str, step: int = 1) -> None:
    world.post(Kind.DECISION, {"step": step, "decision": decision, "reason": "bank", "by": "ana"})
    world.turn()


def of(world: World, kind: type[e.Event]) -> list[Any]:
    return [event for event in world.events() if isinstance(event, kind)]


def fail(world: World, message: dict[str, Any]) -> None:
    assert world.claim(message) is ClaimAnswer.GRANTED
    world.finish(message, {"kind": "failed", "failure": {"type": "Down", "message": ""}})
    world.turn()


def test_an_attempt_that_nobody_has_claimed_is_taken_back_and_sent_again_when_let_go_on() -> None:
    world = world_with(one)
    message = started(world)
    decide(world, "pause")
    assert world.claim(message) is ClaimAnswer.REFUSED
    world.advance(HOUR_MS)
    world.settle()
    assert not world.ran
    assert "StepResent" not in world.names()
    decide(world, "unpause")
    world.settle()
    assert world.result() == "done"
    (paused,), (unpaused,) = of(world, e.StepPaused), of(world, e.StepUnpaused)
    assert (paused.step, paused.attempt, paused.reason, paused.by) == (1, 1, "bank", "ana")
    assert (unpaused.attempt, unpaused.by) == (1, "ana")
    assert world.claim(message) is ClaimAnswer.REFUSED
    world.check_chain()


def test_an_attempt_that_runs_goes_on_and_its_outcome_counts() -> None:
    world = world_with(one)
    message = started(world)
    world.claim(message)
    decide(world, "pause")
    world.finish(message, world.run_body(message))
    world.settle()
    assert world.result() == "done"


def test_an_attempt_that_fails_while_its_step_is_paused_is_followed_by_none() -> None:
    world = world_with(one)
    message = started(world)
    world.claim(message)
    decide(world, "pause")
    world.finish(message, {"kind": "failed", "failure": {"type": "Down", "message": ""}})
    world.turn()
    assert list(world.store._of("w").timers) == []
    world.advance(HOUR_MS)
    world.settle()
    assert not world.ran
    decide(world, "unpause")
    again = world.pop()
    assert again
    assert AttemptKey.parse(again["key"]).attempt == 2
    assert world.claim(again) is ClaimAnswer.GRANTED


def test_a_step_that_is_paused_between_two_attempts_rests_until_it_is_let_go_on() -> None:
    world = world_with(one)
    fail(world, started(world))
    decide(world, "pause")
    world.advance(HOUR_MS)
    world.settle()
    assert not world.ran
    decide(world, "unpause")
    assert world.names()[-2:] == ["StepUnpaused", "StepRetried"]
    world.settle()
    assert world.result() == "done"


def test_to_let_a_running_step_go_on_runs_nothing_twice_and_sends_nothing_again() -> None:
    world = world_with(one)
    message = started(world)
    world.claim(message, "a/1")
    decide(world, "pause")
    decide(world, "unpause")
    copy = world.pop()
    assert copy
    assert world.claim(copy, "b/1") is ClaimAnswer.REFUSED
    for _ in range(5):
        key = AttemptKey.parse(message["key"])
        world.store.renew({key: "a/"}, ttl_ms=2 * RESEND_AFTER_MS_MAX)
        world.advance(RESEND_AFTER_MS)
        world.turn()
    assert "StepResent" not in world.names()
    world.finish(message, world.run_body(message), "a/1")
    world.settle()
    assert (world.result(), len(world.ran)) == ("done", 1)


def test_the_time_of_the_whole_step_goes_on_while_it_is_paused() -> None:
    async def hurried() -> Any:
        try:
            await workflow.step("job", schedule_to_close=timedelta(minutes=5))
        except StepTimeout as error:
            return error.failure.type

    world = world_with(hurried)
    message = started(world, "hurried")
    decide(world, "pause")
    world.advance(300_000)
    world.settle()
    assert world.status() == "completed"
    assert world.result() == "schedule_to_close_timeout"
    assert world.claim(message) is ClaimAnswer.REFUSED


def test_the_time_in_the_queue_ends_with_a_pause_and_begins_anew_after_it() -> None:
    async def queued() -> Any:
        return await workflow.step("job", schedule_to_start=timedelta(minutes=5))

    world = world_with(queued)
    started(world, "queued")
    decide(world, "pause")
    world.advance(HOUR_MS)
    world.turn()
    assert world.status() == "running"
    decide(world, "unpause")
    assert world.pop()
    world.advance(300_000)
    world.turn()
    assert world.status() == "failed"


def test_a_paused_step_that_its_workflow_no_longer_wants_is_cancelled() -> None:
    world = world_with(one)
    started(world)
    decide(world, "pause")
    world.post(Kind.CANCEL, {"reason": "", "request_id": "c"})
    world.settle()
    assert (world.status(), world.ran) == ("cancelled", [])


def test_a_worker_that_dies_with_a_paused_step_is_followed_by_nobody_yet() -> None:
    world = world_with(one)
    world.claim(started(world))
    decide(world, "pause")
    world.advance(CLAIM_TTL_MS + 1)
    world.turn()
    world.advance(HOUR_MS)
    world.settle()
    assert ([event.kind for event in of(world, e.StepAttemptFailed)], world.ran) == (["lost"], [])
    decide(world, "unpause")
    world.settle()
    assert world.result() == "done"


def test_a_reset_ends_the_back_off_and_gives_all_attempts_again() -> None:
    world = world_with(one)
    fail(world, started(world))
    decide(world, "reset")
    for number in (2, 3):
        message = world.pop()
        assert message
        # Names of attempts are never used twice.
        assert AttemptKey.parse(message["key"]).attempt == number
        fail(world, message)
        world.advance(HOUR_MS)
        world.turn()
    assert world.status() == "failed"
    assert [event.attempt for event in of(world, e.StepReset)] == [2]
    assert of(world, e.StepFailed)[0].attempt == 3


def test_a_reset_of_a_running_step_counts_its_attempt_as_the_first() -> None:
    world = world_with(one)
    fail(world, started(world))
    world.advance(HOUR_MS)
    world.turn()
    second = world.pop()
    assert second
    world.claim(second)
    decide(world, "reset")
    world.finish(second, {"kind": "failed", "failure": {"type": "Down", "message": ""}})
    world.turn()
    world.advance(HOUR_MS)
    world.settle()
    assert world.result() == "done"


def test_the_wait_after_a_reset_is_a_first_wait() -> None:
    async def patient() -> Any:
        growing = Retry(attempts=9, initial=timedelta(seconds=10), interval_max=timedelta(hours=9))
        return await workflow.step("job", retry=growing)

    world = world_with(patient)
    message: dict[str, Any] | None = started(world, "patient")
    for _ in range(6):
        assert message
        fail(world, message)
        world.advance(9 * HOUR_MS)
        world.turn()
        message = world.pop()
    assert message
    world.rng.random = lambda: 0.999  # type: ignore[method-assign]
    decide(world, "reset")
    fail(world, message)
    last = of(world, e.StepAttemptFailed)[-1]
    assert last.retry_at_ms - last.at_ms == 9_990


def test_a_reset_leaves_a_paused_step_paused() -> None:
    world = world_with(one)
    fail(world, started(world))
    decide(world, "pause")
    decide(world, "reset")
    world.advance(HOUR_MS)
    world.settle()
    assert not world.ran
    decide(world, "unpause")
    world.settle()
    assert world.result() == "done"


@pytest.mark.parametrize(
    ("decisions", "reason"),
    [
        (("unpause",), "step 1 is not paused"),
        (("pause", "pause"), "step 1 is paused already"),
    ],
)
def test_a_decision_that_makes_no_sense_is_recorded_with_the_reason(
    decisions: tuple[str, ...], reason: str
) -> None:
    world = world_with(one)
    started(world)
    for decision in decisions:
        decide(world, decision)
    assert [event.reason for event in of(world, e.RequestRejected)] == [reason]


def test_a_step_that_is_not_there_or_over_cannot_be_paused() -> None:
    async def waiting() -> Any:
        await workflow.step("job")
        return await workflow.signal("go")

    world = world_with(waiting)
    world.start("waiting")
    world.settle()
    for step in (1, 7):
        decide(world, "pause", step)
    found = [event.reason for event in of(world, e.RequestRejected)]
    assert found == ["pause: step 1 is not outstanding", "pause: step 7 is not outstanding"]


def test_a_parked_step_is_decided_about_as_parked_steps_are() -> None:
    async def driven() -> Any:
        async with workflow.saga() as saga:
            saga.commit()
            return await saga.step("job", retry=Retry(attempts=1))

    world = world_with(driven)
    fail(world, started(world, "driven"))
    assert world.status() == "parked"
    decide(world, "pause")
    assert "step 1 is parked" in of(world, e.RequestRejected)[0].reason
    decide(world, "retry")
    world.settle()
    assert world.result() == "done"


def test_a_pause_and_its_end_in_one_turn_leave_the_attempt_as_it_was() -> None:
    world = world_with(one)
    message = started(world)
    for decision in ("pause", "unpause"):
        body = {"step": 1, "decision": decision, "reason": "", "by": ""}
        world.post(Kind.DECISION, body)  # type: ignore[arg-type]
    world.turn()
    assert world.claim(message) is ClaimAnswer.GRANTED


def test_a_pause_that_is_read_together_with_the_end_of_the_back_off_comes_first() -> None:
    world = world_with(one)
    fail(world, started(world))
    world.advance(HOUR_MS)
    decide(world, "pause")
    world.settle()
    assert not world.ran
    assert "StepRetried" not in world.names()


def test_a_pause_that_is_read_together_with_a_message_taken_for_lost_comes_first() -> None:
    world = world_with(one)
    started(world)
    world.advance(RESEND_AFTER_MS)
    decide(world, "pause")
    assert world.pop() is None
    assert "StepResent" not in world.names()


@pytest.mark.parametrize("seed", range(30))
def test_kills_and_decisions_at_any_moment_lose_no_step_and_use_no_attempt_twice(seed: int) -> None:
    chance = random.Random(seed)
    world = world_with(one)
    world.start("one")
    tokens: dict[str, str] = {}
    for turn in range(60):
        what = chance.choice(("decide", "decide", "kill", "work", "claim", "clock", "turn"))
        if what == "decide":
            decision = chance.choice(("pause", "unpause", "reset"))
            body = {"step": 1, "decision": decision, "reason": "", "by": ""}
            world.post(Kind.DECISION, body)  # type: ignore[arg-type]
        elif what == "kill":
            world.restart()
        elif what == "claim" and (message := world.pop()):
            if world.claim(message, f"w/{turn}") is ClaimAnswer.GRANTED:
                # Two claims of one attempt would be two bodies under one name.
                assert message["key"] not in tokens
                tokens[message["key"]] = f"w/{turn}"
        elif what == "work" and tokens and chance.random() < 0.4:
            key, token = tokens.popitem()
            failed = {"kind": "failed", "failure": {"type": "Down", "message": ""}}
            world.store.post_outcome(AttemptKey.parse(key), token, failed)  # type: ignore[arg-type]
            tokens[key] = token
        elif what == "clock":
            world.advance(chance.choice((1_000, CLAIM_TTL_MS, 60_000)))
        world.nodes[0].try_turn()
    for _ in range(6):
        world.post(Kind.DECISION, {"step": 1, "decision": "unpause", "reason": "", "by": ""})
        world.advance(HOUR_MS)
        world.settle()
    assert world.status() in ("completed", "failed")
    world.check_chain()
