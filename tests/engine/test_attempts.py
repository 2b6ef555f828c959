"""Attempts that get lost, hang, come late or are not wanted any more (P2, P5)."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import StepCancelled, StepError, StepLost, StepTimeout
from orchestrator.core.limits import CLAIM_TTL_MS, RESEND_AFTER_MS
from orchestrator.core.retry import Retry
from orchestrator.store.ports import ClaimAnswer, Kind, PostAnswer
from tests.engine.world import World

ONCE = Retry(attempts=1)
AT_ONCE = Retry(attempts=3, initial=timedelta(0))


async def one() -> Any:
    return await workflow.step("job", retry=AT_ONCE)


def world_with(*functions: Any) -> World:
    world = World(*functions)
    world.tasks["job"] = lambda: "done"
    return world


def started(world: World, name: str = "one") -> dict[str, Any]:
    """Start the run and return the message of its first step."""
    world.start(name)
    world.turn()
    message = world.pop()
    assert message
    return message


def test_a_message_lost_by_the_broker_is_sent_again_as_the_same_attempt() -> None:
    world = world_with(one)
    lost = started(world)
    world.advance(RESEND_AFTER_MS - 1)
    world.turn()
    assert world.pop() is None
    world.advance(1)
    world.turn()
    again = world.pop()
    assert again == lost
    world.advance(2 * RESEND_AFTER_MS)
    world.settle()
    assert world.status() == "completed"
    assert [event.resend for event in world.events() if isinstance(event, e.StepResent)] == [1, 2]


def test_a_doubled_message_runs_its_body_once() -> None:
    world = world_with(one)
    message = started(world)
    assert world.claim(message, "a/1") is ClaimAnswer.GRANTED
    assert world.claim(message, "b/1") is ClaimAnswer.REFUSED
    world.finish(message, world.run_body(message), "a/1")
    assert world.claim(message, "b/1") is ClaimAnswer.REFUSED
    world.settle()
    assert world.claim(message, "b/1") is ClaimAnswer.REFUSED
    assert len(world.ran) == 1


def test_a_killed_workers_step_is_attempted_elsewhere_with_the_same_key() -> None:
    world = world_with(one)
    message = started(world)
    world.claim(message)
    world.advance(CLAIM_TTL_MS)
    world.settle()
    world.advance(1)
    world.settle()
    assert world.status() == "completed"
    failed = [event for event in world.events() if isinstance(event, e.StepAttemptFailed)]
    assert [(event.attempt, event.kind) for event in failed] == [(1, "lost")]
    assert failed[0].may_have_run
    assert world.ran[0][2] == message["idempotency_key"]


def test_a_step_that_kills_every_worker_ends_after_its_attempts() -> None:
    world = world_with(one)
    message: dict[str, Any] | None = started(world)
    for _ in range(3):
        assert message
        world.claim(message)
        world.advance(CLAIM_TTL_MS)
        world.turn()
        world.advance(1)
        world.turn()
        message = world.pop()
    assert world.status() == "failed"
    (failed,) = [event for event in world.events() if isinstance(event, e.StepFailed)]
    assert (failed.kind, failed.attempt) == ("lost", 3)


def test_a_paused_worker_that_wakes_too_late_is_refused_and_recorded() -> None:
    world = world_with(one)
    message = started(world)
    world.claim(message, "paused/1")
    world.advance(CLAIM_TTL_MS)
    world.turn()
    world.advance(1)
    world.turn()
    late = world.finish(message, {"kind": "completed", "result": "late"}, "paused/1")
    assert late is PostAnswer.SUPERSEDED
    world.settle()
    assert world.result() == "done"
    (refused,) = [event for event in world.events() if isinstance(event, e.OutcomeRefused)]
    assert (refused.step, refused.attempt, refused.kind) == (1, 1, "completed")


def test_an_outcome_posted_just_before_the_claim_is_given_up_counts() -> None:
    world = world_with(one)
    message = started(world)
    world.claim(message)
    world.advance(CLAIM_TTL_MS)
    # The owner has seen the expired claim; the outcome arrives before its commit.
    node, commit = world.node, world.store.commit

    def commit_late(commits: Any) -> Any:
        world.store.commit = commit  # type: ignore[method-assign]
        world.finish(message, {"kind": "completed", "result": "in time"})
        return commit(commits)

    world.store.commit = commit_late  # type: ignore[method-assign]
    node.turn()
    world.settle()
    assert world.result() == "in time"
    assert not [event for event in world.events() if isinstance(event, e.StepAttemptFailed)]


def test_an_acknowledged_outcome_is_never_overtaken_by_a_time_out() -> None:
    async def limited() -> Any:
        return await workflow.step("job", start_to_close=timedelta(seconds=5), retry=ONCE)

    world = world_with(limited)
    message = started(world, "limited")
    world.claim(message)
    world.advance(5_000)
    commit = world.store.commit

    def commit_late(commits: Any) -> Any:
        world.store.commit = commit  # type: ignore[method-assign]
        answer = world.finish(message, {"kind": "completed", "result": "in time"})
        assert answer is PostAnswer.POSTED
        return commit(commits)

    world.store.commit = commit_late  # type: ignore[method-assign]
    world.settle()
    assert world.status() == "completed"
    assert world.result() == "in time"


TIMEOUTS: dict[str, dict[str, Any]] = {
    "schedule_to_start": {"schedule_to_start": timedelta(seconds=5)},
    "start_to_close": {"start_to_close": timedelta(seconds=5)},
    "schedule_to_close": {"schedule_to_close": timedelta(seconds=5)},
    "heartbeat": {"heartbeat": timedelta(seconds=5)},
}


@pytest.mark.parametrize("kind", TIMEOUTS)
def test_each_of_the_four_time_outs_ends_a_step(kind: str) -> None:
    async def limited() -> str:
        try:
            await workflow.step("job", retry=ONCE, **TIMEOUTS[kind])
        except StepTimeout as error:
            return error.type
        return "in time"

    world = world_with(limited)
    message = started(world, "limited")
    if kind != "schedule_to_start":
        world.claim(message)
    world.advance(4_999)
    world.turn()
    assert world.status() == "running"
    world.advance(1)
    world.turn()
    assert world.result() == f"{kind}_timeout"
    (failed,) = [event for event in world.events() if isinstance(event, e.StepFailed)]
    assert failed.may_have_run == (kind != "schedule_to_start")
    assert world.claim(message) is ClaimAnswer.REFUSED


def test_a_heartbeat_moves_its_time_out_and_its_details_reach_the_next_attempt() -> None:
    from orchestrator.store.ports import AttemptKey

    async def beating() -> Any:
        return await workflow.step("job", retry=AT_ONCE, heartbeat=timedelta(seconds=5))

    world = world_with(beating)
    message = started(world, "beating")
    world.claim(message)
    world.advance(4_000)
    world.store.heartbeat(AttemptKey.parse(message["key"]), "worker/1", {"row": 7})
    world.store.renew({AttemptKey.parse(message["key"]): "worker/1"}, ttl_ms=60_000)
    world.advance(4_000)
    world.turn()
    assert world.status() == "running"
    assert not [x for x in world.events() if isinstance(x, e.StepAttemptFailed)]
    world.advance(1_000)
    world.turn()
    world.advance(1)
    world.turn()
    second = world.pop()
    assert second
    key = AttemptKey.parse(second["key"])
    assert key.attempt == 2
    assert world.store.claim(key, "b/1", ttl_ms=1000).details == {"row": 7}


def test_schedule_to_close_counts_all_attempts() -> None:
    async def limited() -> str:
        retry = Retry(attempts=None, initial=timedelta(seconds=2), factor=1)
        try:
            await workflow.step("job", retry=retry, schedule_to_close=timedelta(seconds=60))
        except StepError as error:
            return error.type
        return "in time"

    world = world_with(limited)

    @world.task
    def job() -> None:
        raise OSError("again")

    world.start("limited")
    for _ in range(70):
        world.settle()
        world.advance(1_000)
    assert world.status() == "completed"
    assert world.result() in ("OSError", "schedule_to_close_timeout")
    assert 20 < len(world.ran) < 200


def test_a_step_that_nobody_claimed_is_cancelled_at_once() -> None:
    async def cancelling() -> str:
        import asyncio

        task = asyncio.create_task(workflow.step("job"))
        await workflow.signal("stop")
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "finished"

    world = world_with(cancelling)
    message = started(world, "cancelling")
    world.signal("stop")
    world.turn()
    assert world.claim(message) is ClaimAnswer.REFUSED
    assert world.result() == "cancelled"


async def impatient() -> str:
    """Stop waiting for a step, and see what becomes of it."""
    try:
        async with workflow.saga() as saga:
            await saga.step("job", undo="undo_job", start_to_close=timedelta(hours=1))
    except StepError as error:
        return type(error).__name__
    return "finished"


def test_a_running_step_learns_of_its_cancellation_with_the_next_renewal() -> None:
    from orchestrator.store.ports import AttemptKey

    world = world_with(impatient)
    world.tasks["undo_job"] = lambda: None
    message = started(world, "impatient")
    world.claim(message)
    world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c"})
    world.turn()
    key = AttemptKey.parse(message["key"])
    renewed = world.store.renew({key: "worker"}, ttl_ms=1000)
    assert renewed[key] is ClaimAnswer.CANCELLED
    # The saga undoes nothing while the step may still take effect.
    assert world.pop() is None
    world.finish(message, {"kind": "cancelled", "failure": {"type": "x", "message": "stopped"}})
    world.turn()
    undo = world.pop()
    assert undo
    assert (undo["task"], undo["compensates"]) == ("undo_job", message["idempotency_key"])


def test_a_cancelled_step_whose_worker_died_is_not_attempted_again() -> None:
    world = world_with(impatient)
    world.tasks["undo_job"] = lambda: None
    message = started(world, "impatient")
    world.claim(message)
    world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c"})
    world.turn()
    world.advance(CLAIM_TTL_MS)
    world.settle()
    assert [task for task, _, _ in world.ran] == ["undo_job"]
    assert world.status() == "cancelled"


def test_every_kind_of_end_reaches_the_code_as_its_own_exception() -> None:
    async def kinds() -> str:
        try:
            await workflow.step("job", retry=ONCE)
        except StepLost:
            return "lost"
        except StepCancelled:
            return "cancelled"
        except StepTimeout:
            return "timed_out"
        except StepError:
            return "failed"
        return "completed"

    for kind in ("failed", "timed_out", "lost", "cancelled"):
        world = world_with(kinds)
        message = started(world, "kinds")
        world.claim(message)
        world.finish(message, {"kind": kind, "failure": {"type": "T", "message": "m"}})
        world.turn()
        assert world.result() == kind


def test_an_unreadable_outcome_fails_the_attempt_and_not_the_engine() -> None:
    world = world_with(one)
    message = started(world)
    world.claim(message)
    world.finish(message, {"kind": "nonsense", "failure": {"type": "T", "message": "m"}})
    world.settle()
    world.advance(1)
    world.settle()
    assert world.status() == "completed"
    (failed,) = [event for event in world.events() if isinstance(event, e.StepAttemptFailed)]
    assert failed.failure.type == "UnreadableOutcome"


async def local_job() -> Any:
    return await workflow.step("job", local=True, retry=AT_ONCE)


def test_a_local_step_runs_in_the_orchestrator_and_is_recorded_like_any_other() -> None:
    world = world_with(local_job)
    world.start("local_job")
    world.turn()
    assert world.pop() is None
    ((outgoing, done),) = world.node.local.waiting
    assert outgoing.task == "job"
    done({"kind": "completed", "result": "here"})
    world.node.local_steps.close()
    world.settle()
    assert world.result() == "here"


def test_a_local_step_of_a_dead_orchestrator_is_attempted_by_the_next_owner() -> None:
    world = world_with(local_job)
    world.start("local_job")
    world.turn()
    world.restart()
    world.turn()
    world.advance(1)
    world.turn()
    ((outgoing, done),) = world.node.local.waiting
    assert outgoing.key.attempt == 2
    done({"kind": "completed", "result": "there"})
    world.node.local_steps.close()
    world.settle()
    assert world.result() == "there"


def test_a_local_step_of_a_run_that_its_own_commit_ends_never_runs() -> None:
    world = world_with(local_job)
    world.start("local_job")
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "t"})
    world.settle()
    assert world.names() == ["RunStarted", "StepScheduled", "TerminateRequested", "RunTerminated"]
    assert not world.node.local.waiting


def test_a_paused_worker_that_wakes_after_the_step_is_settled_is_recorded_too() -> None:
    async def two() -> Any:
        first = await workflow.step("job", retry=AT_ONCE)
        await workflow.signal("go")
        return first

    world = world_with(two)
    message = started(world, "two")
    world.claim(message, "paused/1")
    world.advance(CLAIM_TTL_MS)
    world.turn()
    world.advance(1)
    world.settle()
    late = world.finish(message, {"kind": "completed", "result": "late"}, "paused/1")
    assert late is PostAnswer.SUPERSEDED
    world.settle()
    (refused,) = [event for event in world.events() if isinstance(event, e.OutcomeRefused)]
    assert (refused.attempt, refused.reason) == (1, "the step is no longer outstanding")
    world.signal("go")
    world.settle()
    assert world.result() == "done"
    gone = world.finish(message, {"kind": "completed", "result": "late"}, "paused/1")
    assert gone is PostAnswer.GONE
