"""Promise: what can happen to a step in the world can be made to happen to it in a test."""

from datetime import timedelta

import pytest

from orchestrator import ApplicationError, WorkflowFailed
from orchestrator.core.errors import UsageError
from orchestrator.core.events import OutcomeRefused, StepAttemptFailed
from orchestrator.core.limits import CLAIM_TTL_MS, RESEND_AFTER_MS
from orchestrator.testing import WorkflowEnvironment
from tests.testing import shop
from tests.testing.shop import Order

Env = WorkflowEnvironment
ORDER = Order(id="o")


def ms(since: timedelta) -> int:
    return round(since.total_seconds() * 1000)


def test_attempts_that_fail_are_followed_by_the_policys_after_its_back_off(
    workflow_env: Env,
) -> None:
    workflow_env.fail(shop.charge, ValueError("the bank sleeps"), times=2)
    before = workflow_env.now
    handle = workflow_env.start(shop.paid, ORDER)
    assert handle.result() == ["p-o", 500]
    assert [one.info.attempt for one in workflow_env.attempts(shop.charge)] == [1, 2, 3]
    assert [one.fault for one in workflow_env.attempts(shop.charge)] == [
        "the body raises",
        "the body raises",
        "",
    ]
    failures = [one.event for one in handle.history() if one.type == "StepAttemptFailed"]
    assert all(isinstance(one, StepAttemptFailed) for one in failures)
    assert len(failures) == 2
    assert workflow_env.now > before, "back-offs passed on the test's clock"
    assert len(shop.EFFECTS) == 1


def test_a_policy_that_is_used_up_fails_the_run_with_the_error_of_the_test(
    workflow_env: Env,
) -> None:
    workflow_env.fail(shop.charge, ApplicationError("no", type="Declined"), times=3)
    with pytest.raises(WorkflowFailed, match="Declined"):
        workflow_env.start(shop.paid, ORDER).result()
    assert shop.EFFECTS == []
    assert workflow_env.start(shop.paid, ORDER).result() == ["p-o", 500], "three times, no more"


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_worker_that_dies_is_noticed_and_the_step_attempted_again_under_the_same_key(
    workflow_env: Env, *, after_effect: bool
) -> None:
    workflow_env.lose(shop.charge, after_effect=after_effect)
    before = workflow_env.now
    handle = workflow_env.start(shop.paid, ORDER, id="order-1")
    assert handle.result() == ["p-o", 500]
    assert ["charge o order-1.1.1"] * (1 + after_effect) == shop.EFFECTS
    assert ms(workflow_env.now - before) >= CLAIM_TTL_MS
    (lost,) = [one.event for one in handle.history() if one.type == "StepAttemptFailed"]
    assert isinstance(lost, StepAttemptFailed)
    assert lost.kind == "lost"


def test_a_message_that_is_lost_is_sent_again(workflow_env: Env) -> None:
    workflow_env.lose_message(shop.charge)
    before = workflow_env.now
    handle = workflow_env.start(shop.paid, ORDER)
    assert handle.result() == ["p-o", 500]
    assert ms(workflow_env.now - before) == RESEND_AFTER_MS
    assert "StepResent" in [one.type for one in handle.history()]


def test_a_message_that_arrives_three_times_runs_the_body_once(workflow_env: Env) -> None:
    workflow_env.duplicate(shop.charge)
    handle = workflow_env.start(shop.paid, ORDER)
    assert handle.result() == ["p-o", 500]
    assert len(shop.EFFECTS) == len(workflow_env.attempts()) == 1
    assert not any(isinstance(one.event, OutcomeRefused) for one in handle.history())


def test_a_body_that_hangs_runs_into_its_time_out(workflow_env: Env) -> None:
    workflow_env.hang(shop.charge)
    before = workflow_env.now
    assert workflow_env.start(shop.bounded, 90).result() == "StepTimeout start_to_close_timeout"
    assert ms(workflow_env.now - before) == 90_000
    workflow_env.hang(shop.beats)
    with pytest.raises(WorkflowFailed, match="heartbeat_timeout"):
        workflow_env.start(shop.beating).result()


def test_a_body_that_hangs_for_a_week_keeps_its_claim(workflow_env: Env) -> None:
    workflow_env.hang(shop.charge)
    handle = workflow_env.start(shop.paid, ORDER)
    workflow_env.skip(days=7)
    assert [one.type for one in handle.history()] == ["RunStarted", "StepScheduled"]
    handle.cancel("enough")
    with pytest.raises(WorkflowFailed, match="cancelled"):
        handle.result()


def test_held_attempts_end_as_the_test_says(workflow_env: Env) -> None:
    hold = workflow_env.hold(shop.charge)
    runs = [workflow_env.start(shop.paid, Order(id=str(n)), id=f"r{n}") for n in range(4)]
    assert [one.info.workflow_id for one in hold.attempts] == [f"r{n}" for n in range(4)]
    hold.complete(shop.Payment(id="by hand"))
    assert runs[0].result() == ["by hand", 0]
    hold.fail(KeyError("gone"))
    assert [one.type for one in runs[1].history()][-1] == "StepAttemptFailed"
    hold.lose()
    hold.release()
    assert [run.result() for run in runs[1:]] == [["p-1", 500], ["p-2", 500], ["p-3", 500]]
    assert [one.info.attempt for one in workflow_env.attempts(shop.charge)] == [1] * 4 + [2] * 2
    with pytest.raises(UsageError, match=r"no attempt at tests.testing.shop.charge waits"):
        hold.complete()


def test_a_held_attempt_can_beat_and_its_details_reach_the_next_one(workflow_env: Env) -> None:
    hold = workflow_env.hold(shop.charge)
    handle = workflow_env.start(shop.paid, ORDER)
    hold.heartbeat({"page": 7})
    hold.lose()
    workflow_env.skip(minutes=1)
    (second,) = hold.attempts
    assert (second.info.attempt, second.info.details) == (2, {"page": 7})
    hold.complete({"id": "late", "cents": 1})
    assert handle.result() == ["late", 1]


def test_a_body_learns_by_its_heartbeat_that_it_is_no_longer_wanted(workflow_env: Env) -> None:
    def body() -> None:
        shop.orc.run("b").cancel("enough")
        return shop.beats.run()  # type: ignore[no-any-return]

    workflow_env.mock(shop.beats, body)
    handle = workflow_env.start(shop.beating, id="b")
    with pytest.raises(WorkflowFailed, match="cancelled"):
        handle.result()
    assert shop.EFFECTS == ["stopped"]


def test_a_held_attempt_that_is_cancelled_waits_no_longer(workflow_env: Env) -> None:
    hold = workflow_env.hold(shop.charge)
    handle = workflow_env.start(shop.paid, ORDER)
    workflow_env.settle()
    handle.cancel("enough")
    assert hold.attempts == []
    assert handle.status() == "cancelled"


def test_celerys_own_retry_sets_the_next_attempt_by_its_countdown(workflow_env: Env) -> None:
    before = workflow_env.now
    with pytest.raises(WorkflowFailed, match="KeyError"):
        workflow_env.start(shop.single, shop.asks_again.name).result()
    assert workflow_env.now - before == timedelta(hours=1)


def test_a_local_step_dies_with_its_orchestrator_and_is_attempted_again(
    workflow_env: Env,
) -> None:
    hold = workflow_env.hold(shop.local_half)
    handle = workflow_env.start(shop.halved, 8)
    assert len(hold.attempts) == 1
    workflow_env.crash()
    hold.release()
    assert handle.result() == 4
    assert [one.info.attempt for one in workflow_env.attempts(shop.local_half)] == [1, 2]


def test_a_body_cannot_wait_for_the_world_it_runs_in(workflow_env: Env) -> None:
    asked: list[str] = []

    def body(order_id: str) -> str:
        for ask in (workflow_env.skip, workflow_env.run("s").result):
            try:
                ask()
            except UsageError as error:
                asked.append(str(error))
        return order_id

    workflow_env.mock(shop.ship, body)
    workflow_env.start(shop.shipped, "o", id="s").result()
    assert len(asked) == 2


def test_numbers_of_times_that_make_no_sense_are_refused(workflow_env: Env) -> None:
    with pytest.raises(UsageError, match="times is 0; at least 1, or None for all"):
        workflow_env.fail(shop.charge, times=0)
    with pytest.raises(UsageError, match="without a time zone"):
        WorkflowEnvironment(shop.orc, start_time=workflow_env.now.replace(tzinfo=None))
