"""Promise: the shipped order is tested in memory: days pass, people answer, it is undone."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from orchestrator import WorkflowFailed
from orchestrator.testing import WorkflowEnvironment, call
from sagas.app import orc
from sagas.order import Order, Status, process_order
from tasks import inventory, notification, payment, shipping

LARGE = Order(id="order-1", total=Decimal(6000))
SMALL = Order(id="order-2", total=Decimal(120))

RESULTS: dict[Any, Any] = {
    inventory.reserve: {"id": "rsv-1"},
    inventory.release: {"undone": True},
    payment.charge: {"id": "pay-1", "amount_cents": 600_000},
    payment.refund: {"undone": True},
    shipping.ship: {"id": "shp-1", "tracking": "trk-1"},
    shipping.cancel_shipment: {"undone": True},
    notification.notify: {"id": "msg-1"},
}


@pytest.fixture(params=[False, True], ids=["", "replayed all along"])
def env(request: pytest.FixtureRequest) -> Iterator[WorkflowEnvironment]:
    with WorkflowEnvironment(orc, replay_every_turn=request.param) as env:
        for task, result in RESULTS.items():
            env.mock(task, lambda *_, result=result: result)
        yield env


def test_a_large_order_is_approved_and_delivered_after_six_days(env: WorkflowEnvironment) -> None:
    handle = process_order.start(LARGE, id="order-1")
    env.skip(hours=23)
    assert handle.state()["status"] == "awaiting_approval"
    handle.signal("approve", {"approved": True, "by": "ana"})
    env.skip(days=6)
    assert handle.state()["status"] == "shipped"
    handle.signal("delivered", {"signed_by": "bo"})
    result = handle.result()
    assert (result.status, result.approved_by, result.signed_by) == (Status.COMPLETED, "ana", "bo")
    assert env.calls(shipping.ship) == [call(LARGE, "rsv-1")]
    assert [one.args[1] for one in env.calls(notification.notify)] == ["shipped", "completed"]


def test_a_delivery_that_nobody_reports_is_taken_as_done_after_seven_days(
    env: WorkflowEnvironment,
) -> None:
    before = env.now
    assert process_order.start(SMALL).result().status is Status.COMPLETED
    assert env.now - before == timedelta(days=7)


def test_an_order_that_nobody_approves_is_undone_in_reverse(env: WorkflowEnvironment) -> None:
    assert process_order.start(LARGE).result().status is Status.REJECTED
    names = [one.task.rpartition(".")[2] for one in env.attempts()]
    assert names == ["reserve", "charge", "refund", "release", "notify"]


def test_a_shipment_that_fails_for_good_is_undone_though_workers_die_on_the_way(
    env: WorkflowEnvironment,
) -> None:
    env.fail(shipping.ship, "no lorry", times=None)
    env.lose(payment.refund, times=2, after_effect=True)
    handle = process_order.start(SMALL)
    with pytest.raises(WorkflowFailed, match="no lorry"):
        handle.result()
    assert handle.state()["status"] == "failed"
    assert len(env.calls(payment.refund)) == 3
    assert len({one.info.idempotency_key for one in env.attempts(payment.refund)}) == 1
    assert env.calls(inventory.release) == [call(SMALL)]
