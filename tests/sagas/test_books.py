"""Promise: however an order ends, the shop's books say the same as the order.

Method: the workflow is driven by hand, but its steps are the real tasks, on a SQLite file, each
under the key of its step.  A step that fails for certain, and one that took effect but whose answer
was lost, are told to the workflow as what they are.
"""

from pathlib import Path
from typing import Any

import pytest

from orchestrator import ApplicationError, step
from orchestrator.core.events import Input, StepCompleted, StepFailed, StepScheduled
from orchestrator.core.failure import failure_of
from orchestrator.core.values import Json
from tasks import database
from tasks.app import app
from tasks.audit import audit
from tests.sagas.driver import OrderRun, fails

NAMES = ["reserve", "release", "charge", "refund", "ship", "cancel_shipment", "notify"]


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SHOP_DATABASE_URL", f"sqlite:///{tmp_path}/shop.db")
    yield
    for engine in database._engines.values():
        engine.dispose()
    database._engines.clear()


def carry_out(scheduled: StepScheduled, at_ms: int) -> Input:
    """Run the task as its worker would, and return its outcome."""
    undone = scheduled.compensates
    info = step.StepInfo(
        workflow_id="order-1",
        workflow="order",
        run=1,
        step=scheduled.step,
        attempt=1,
        idempotency_key=f"order-1.1.{scheduled.step}",
        compensates=f"order-1.1.{undone}" if undone else "",
    )
    assert isinstance(scheduled.args, list)
    with step.running(step.RunningStep(info, lambda _details: True)):
        try:
            result: Json = app.tasks[scheduled.task].run(*scheduled.args)
        except ApplicationError as error:
            return StepFailed(
                at_ms=at_ms,
                step=scheduled.step,
                attempt=1,
                kind="failed",
                failure=failure_of(error),
                may_have_run=False,
            )
    return StepCompleted(at_ms=at_ms, step=scheduled.step, attempt=1, result=result)


def loses_its_answer(scheduled: StepScheduled, at_ms: int) -> Input:
    """Carry the step out, and let the worker die before it can say so."""
    carry_out(scheduled, at_ms)
    return fails("lost")(scheduled, at_ms)


REAL = dict.fromkeys(NAMES, carry_out)


def balance(run: OrderRun) -> None:
    run.finish()
    assert audit(statuses={"order-1": run.status}) == []


def test_completed_order_is_paid_and_shipped_once() -> None:
    run = OrderRun(given=dict(REAL))
    run.signal("delivered")
    assert run.status == "completed"
    assert run.state.paid_cents == 12000
    balance(run)


@pytest.mark.parametrize("step_name", ["reserve", "charge", "ship"])
def test_order_whose_step_never_ran_leaves_nothing_done(step_name: str) -> None:
    run = OrderRun(given={**REAL, step_name: fails("lost")})
    assert run.status == "failed"
    balance(run)


@pytest.mark.parametrize("step_name", ["reserve", "charge", "ship"])
def test_order_whose_step_ran_but_lost_its_answer_leaves_nothing_done(step_name: str) -> None:
    run = OrderRun(given={**REAL, step_name: loses_its_answer})
    assert run.status == "failed"
    balance(run)


def test_step_that_comes_late_after_it_was_undone_has_no_effect() -> None:
    late: list[StepScheduled] = []

    def is_paused(scheduled: StepScheduled, at_ms: int) -> Input:
        late.append(scheduled)
        return fails("lost")(scheduled, at_ms)

    run = OrderRun(given={**REAL, "charge": is_paused})
    balance(run)
    outcome = carry_out(late[0], run.at_ms)
    assert isinstance(outcome, StepFailed)
    assert outcome.failure.type == "StepUndone"
    assert audit(statuses={"order-1": "failed"}) == []


def test_order_that_cannot_be_filled_fails_without_a_trace() -> None:
    with database.transaction() as db:
        db.execute(database.stock.update().values(on_hand=0, initial=0))
    run = OrderRun(given=dict(REAL))
    assert run.status == "failed"
    assert "fewer than 1 of book" in (run.state.reason or "")
    assert run.ordered == ["reserve"]
    balance(run)


def test_order_cancelled_on_its_way_is_called_back() -> None:
    run = OrderRun(given=dict(REAL))
    run.signal("cancel")
    assert run.status == "cancelled"
    balance(run)
