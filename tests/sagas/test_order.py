"""Promise: an order that does not end completed leaves nothing done, whatever stopped it and where.

What was done is undone in reverse, and what anybody reads of the order on the way is where it is.
"""

import pytest

from orchestrator.core.events import (
    CompensationStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunTerminated,
    SignalRefused,
    StepScheduled,
)
from tests.sagas.driver import OrderRun, fails, refuses

HOURS_MS = 3_600_000
ALL = ["reserve", "charge", "ship"]
ALL_UNDONE = ["cancel_shipment", "refund", "release"]


# --- the way through -----------------------------------------------------------------------------


def test_small_order_needs_no_approval_and_completes_when_delivered() -> None:
    run = OrderRun("120")
    assert run.status == "shipped"
    run.signal("delivered", signed_by="bo")
    ending = run.finish()
    assert isinstance(ending, RunCompleted)
    assert run.ordered == ALL
    assert run.news == ["shipped", "completed"]
    assert ending.result == {
        "order_id": "order-1",
        "total": "120",
        "status": "completed",
        "paid_cents": 12000,
        "refunded_cents": 0,
        "payment_id": "pay-1",
        "tracking": "trk-1",
        "approved_by": None,
        "signed_by": "bo",
        "reason": None,
        "notes": [],
    }


@pytest.mark.parametrize(
    ("holding", "status"),
    [
        ("reserve", "pending"),
        ("charge", "inventory_reserved"),
        ("ship", "payment_completed"),
    ],
)
def test_state_shows_how_far_the_order_is(holding: str, status: str) -> None:
    run = OrderRun(holding=(holding,))
    assert run.status == status
    run.release(holding)
    run.signal("delivered")
    run.finish()
    assert run.status == "completed"


def test_shipment_is_told_what_was_reserved() -> None:
    run = OrderRun()
    (step,) = [e for e in run.events(StepScheduled) if e.task == "tasks.shipping.ship"]
    assert step.args[1] == "rsv-1"


def test_delivery_that_nobody_reports_is_taken_as_done_after_seven_days() -> None:
    run = OrderRun()
    assert run.pass_time() == 7 * 24 * HOURS_MS
    assert isinstance(run.finish(), RunCompleted)
    assert run.status == "completed"
    assert "seven days" in (run.state.reason or "")


# --- approval ------------------------------------------------------------------------------------


def test_large_order_waits_for_a_person() -> None:
    run = OrderRun("5000.01", holding=("ship",))
    assert run.status == "awaiting_approval"
    assert run.timers_ms == [24 * HOURS_MS]
    run.signal("approve", approved=True, by="ana")
    assert run.status == "approved"
    assert run.timers_ms == []
    run.release("ship")
    run.signal("delivered")
    run.finish()
    assert run.state.approved_by == "ana"


def test_order_of_exactly_the_limit_needs_no_approval() -> None:
    run = OrderRun("5000")
    assert run.status == "shipped"


def test_refused_approval_rejects_the_order_and_undoes_it_in_reverse() -> None:
    run = OrderRun("9000")
    run.signal("approve", approved=False, by="ana", reason="too risky")
    assert isinstance(run.finish(), RunCompleted)
    assert run.ordered == ["reserve", "charge", "refund", "release"]
    assert run.status == "rejected"
    assert run.state.reason == "refused by ana: too risky"
    assert run.state.refunded_cents == run.state.paid_cents == 12000
    assert run.news == ["rejected"]


def test_approval_that_nobody_gives_within_a_day_is_a_refusal() -> None:
    run = OrderRun("9000")
    assert run.pass_time() == 24 * HOURS_MS
    run.finish()
    assert run.ordered == ["reserve", "charge", "refund", "release"]
    assert (run.status, run.state.reason) == ("rejected", "nobody approved within 24 hours")


def test_approval_that_does_not_validate_is_refused_and_the_next_one_counts() -> None:
    run = OrderRun("9000")
    run.signal("approve", approved="perhaps", by="ana")
    assert [event.signal for event in run.events(SignalRefused)] == ["approve"]
    assert run.status == "awaiting_approval"
    run.signal("approve", approved=True, by="bo")
    assert (run.status, run.state.approved_by) == ("shipped", "bo")


# --- failures ------------------------------------------------------------------------------------


def test_refused_payment_fails_the_order_and_releases_the_stock() -> None:
    run = OrderRun(given={"charge": refuses()})
    ending = run.finish()
    assert isinstance(ending, RunFailed)
    assert ending.failure.type == "Boom"
    assert run.ordered == ["reserve", "charge", "release"], "certainly not paid: no refund"
    assert run.status == "failed"
    assert "gave up" in (run.state.reason or "")
    assert run.news == ["failed"]


@pytest.mark.parametrize("kind", ["timed_out", "lost", "failed"])
def test_payment_of_unknown_outcome_is_refunded(kind: str) -> None:
    run = OrderRun(given={"charge": fails(kind)})
    assert isinstance(run.finish(), RunFailed)
    assert run.ordered == ["reserve", "charge", "refund", "release"]


def test_shipment_that_gives_up_undoes_everything_newest_first() -> None:
    run = OrderRun(given={"ship": fails()})
    assert isinstance(run.finish(), RunFailed)
    assert run.ordered == [*ALL, *ALL_UNDONE]
    assert (run.status, run.state.refunded_cents) == ("failed", 12000)


def test_order_that_is_being_undone_says_so_and_why() -> None:
    run = OrderRun(holding=("refund",), given={"ship": refuses()})
    assert run.status == "compensating"
    assert "ship" in (run.state.reason or "")
    assert run.state.refunded_cents == 0
    run.release("refund")
    run.finish()
    assert run.status == "failed"


def test_news_that_cannot_be_sent_fails_nothing() -> None:
    run = OrderRun(given={"notify": fails()})
    run.signal("delivered")
    assert isinstance(run.finish(), RunCompleted)
    assert run.status == "completed"
    assert run.state.notes == [
        "could not tell the customer 'shipped': Boom",
        "could not tell the customer 'completed': Boom",
    ]


# --- cancellation --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "undone"),
    [
        ("reserve", ["release"]),
        ("charge", ["refund", "release"]),
        ("ship", ALL_UNDONE),
        ("notify", ALL_UNDONE),
        ("", ALL_UNDONE),
    ],
)
def test_cancelled_order_is_undone_in_reverse_wherever_it_is(held: str, undone: list[str]) -> None:
    run = OrderRun(holding=(held,))
    run.signal("cancel", reason="changed my mind", by="bo")
    # The news of a shipment is no part of the saga: its end is not waited for.
    assert run.status == ("compensating" if held in ALL else "cancelled")
    run.release(held)
    assert isinstance(run.finish(), RunCompleted)
    assert run.ordered[-len(undone) :] == undone
    assert len(run.ordered) == 2 * len(undone)
    assert run.status == "cancelled"
    assert run.state.reason == "cancelled by bo: changed my mind"


def test_nothing_is_undone_while_a_cancelled_step_may_still_take_effect() -> None:
    run = OrderRun(holding=("charge",))
    run.signal("cancel")
    assert run.events(CompensationStarted) == []
    run.release("charge")
    assert run.ordered == ["reserve", "charge", "refund", "release"]
    run.finish()


def test_order_can_be_cancelled_while_it_waits_for_approval() -> None:
    run = OrderRun("9000")
    run.signal("cancel")
    assert isinstance(run.finish(), RunCompleted)
    assert run.ordered == ["reserve", "charge", "refund", "release"]
    assert (run.status, run.timers_ms) == ("cancelled", [])


def test_second_cancellation_changes_nothing() -> None:
    run = OrderRun(holding=("refund",))
    run.signal("cancel", reason="first")
    run.signal("cancel", reason="second")
    run.release("refund")
    run.finish()
    assert run.ordered == [*ALL, *ALL_UNDONE]
    assert run.state.reason == "cancelled by customer: first"
    assert run.state.notes == ["too late to cancel for customer: second"]


def test_cancellation_does_not_hide_the_failure_that_came_first() -> None:
    run = OrderRun(holding=("release",), given={"charge": refuses()})
    run.signal("cancel")
    run.release("release")
    assert isinstance(run.finish(), RunFailed)
    assert run.status == "failed"


def test_after_the_delivery_it_is_too_late_to_cancel() -> None:
    run = OrderRun()
    run.holding = {"notify"}
    run.signal("delivered")
    run.signal("cancel", reason="too big", by="bo")
    run.release("notify")
    assert isinstance(run.finish(), RunCompleted)
    assert run.ordered == ALL
    assert run.status == "completed"
    assert run.state.notes == ["too late to cancel for bo: too big"]


@pytest.mark.parametrize("held", ["reserve", "charge", "ship", ""])
def test_run_that_is_cancelled_from_outside_is_undone_too(held: str) -> None:
    run = OrderRun(holding=(held,))
    run.cancel()
    run.release(held)
    assert isinstance(run.finish(), RunCancelled)
    assert run.ordered[-1] == "release"
    assert run.status == "cancelled"


def test_terminated_run_is_undone_too() -> None:
    run = OrderRun()
    run.terminate()
    assert isinstance(run.finish(), RunTerminated)
    assert run.ordered == [*ALL, *ALL_UNDONE]


def test_cancellation_during_the_undoing_does_not_stop_it() -> None:
    run = OrderRun(holding=("refund",), given={"ship": refuses()})
    run.cancel()
    assert run.ordered == [*ALL, "refund"]
    run.release("refund")
    run.finish()
    assert run.ordered == [*ALL, "refund", "release"]
