"""An order: reserve, take payment, ask a person if it is large, ship, wait for the delivery.

What was done is undone in reverse when a step gives up, a person refuses, or somebody cancels
before the parcel has arrived.

Run     python -m sagas order --total 120 --fail ship
Signal  celery -A sagas workflow signal order-42 approve '{"approved": true, "by": "ana"}'
Test    tests/sagas

Replayed from the top whenever the orchestrator needs it: side effects live in `tasks`, not here.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta

from orchestrator import ApplicationError, Retry, StepError, workflow
from sagas.app import orc
from sagas.order_state import Approval, CancelOrder, Delivered, OrderState, Status
from tasks.inventory import release, reserve
from tasks.models import Order, OrderLine
from tasks.notification import notify
from tasks.payment import charge, refund
from tasks.shipping import cancel_shipment, ship

__all__ = [
    "Approval",
    "CancelOrder",
    "Delivered",
    "Order",
    "OrderLine",
    "OrderState",
    "Status",
    "process_order",
]

#: A larger total needs a person's approval.
APPROVAL_ABOVE = 5000
APPROVAL_TIMEOUT = timedelta(hours=24)
DELIVERY_TIMEOUT = timedelta(days=7)
#: One attempt at a step; a worker that hangs longer is given up, and the step attempted elsewhere.
ATTEMPT_TIMEOUT = timedelta(seconds=30)
#: News is worth a few attempts, and stale after a while.
NEWS_RETRY = Retry(attempts=3)
NEWS_TIMEOUT = timedelta(minutes=5)

SIGNALS = {"approve": Approval, "cancel": CancelOrder, "delivered": Delivered}


@orc.workflow(name="order", signals=SIGNALS)
async def process_order(order: Order) -> OrderState:
    """Return how the order ended: completed, rejected or cancelled.

    Raises:
        StepError: A step gave up; what was done is undone, the published status is ``failed``.
    """
    state = workflow.publish(OrderState(order_id=order.id, total=order.total))
    try:
        async with workflow.saga() as saga:
            with showing_compensation(state):
                await unless_cancelled(fulfil(order, saga, state), state)
    except ApplicationError as no:  # "rejected" or "cancelled": endings like any other
        await close(order, state, Status(no.type))
    except asyncio.CancelledError:
        await close(order, state, Status.CANCELLED)
        raise
    except StepError:
        await close(order, state, Status.FAILED)
        raise
    else:
        await close(order, state, Status.COMPLETED)
    return state


async def fulfil(order: Order, saga: workflow.Saga, state: OrderState) -> None:
    """Take the order from its arrival to its delivery, and show in `state` how far it is."""
    reservation = await saga.step(reserve, order, undo=release, start_to_close=ATTEMPT_TIMEOUT)
    state.status = Status.INVENTORY_RESERVED

    payment = await saga.step(charge, order, undo=refund, start_to_close=ATTEMPT_TIMEOUT)
    state.status = Status.PAYMENT_COMPLETED
    state.payment_id, state.paid_cents = payment.id, payment.amount_cents

    if order.total > APPROVAL_ABOVE:
        state.status = Status.AWAITING_APPROVAL
        state.approved_by = await approver()
        state.status = Status.APPROVED

    shipment = await saga.step(
        ship, order, reservation.id, undo=cancel_shipment, start_to_close=ATTEMPT_TIMEOUT
    )
    state.status, state.tracking = Status.SHIPPED, shipment.tracking
    await tell_customer(order, state)

    try:
        delivery = await workflow.signal("delivered", Delivered, timeout=DELIVERY_TIMEOUT)
        state.signed_by = delivery.signed_by
    except TimeoutError:
        state.reason = "no notice of delivery within seven days: taken as delivered"


async def approver() -> str:
    """Return who approved the order.

    Raises:
        ApplicationError: Refused, or not decided in time; type ``rejected``.
    """
    try:
        approval: Approval = await workflow.signal("approve", Approval, timeout=APPROVAL_TIMEOUT)
    except TimeoutError:
        raise ApplicationError("nobody approved within 24 hours", type="rejected") from None
    if not approval.approved:
        raise ApplicationError(f"refused by {approval.by}: {approval.reason}", type="rejected")
    return approval.by


async def unless_cancelled(work: Coroutine[object, object, None], state: OrderState) -> None:
    """Carry out `work`; a ``cancel`` signal that arrives meanwhile ends it.

    Raises:
        ApplicationError: The order was cancelled by signal; type ``cancelled``.
    """
    task = asyncio.create_task(work)
    requests: list[CancelOrder] = []

    @workflow.on_signal("cancel", CancelOrder)
    def cancel(request: CancelOrder) -> None:
        if task.cancel():
            requests.append(request)
        else:
            state.notes.append(f"too late to cancel for {request.by}: {request.reason}")

    try:
        await task
    except asyncio.CancelledError:
        if not requests:  # The run itself is being cancelled.
            raise
        by, reason = requests[0].by, requests[0].reason
        raise ApplicationError(f"cancelled by {by}: {reason}", type="cancelled") from None


@contextmanager
def showing_compensation(state: OrderState) -> Iterator[None]:
    """Show that the order is being undone, and why, from the moment that something stops it."""
    try:
        yield
    except (ApplicationError, StepError, asyncio.CancelledError) as error:
        state.status = Status.COMPENSATING
        state.reason = str(error) or "the run was cancelled"
        raise


async def close(order: Order, state: OrderState, status: Status) -> None:
    """Show how the order ended, and tell the customer."""
    state.status = status
    if status is not Status.COMPLETED:
        state.refunded_cents = state.paid_cents
    await tell_customer(order, state)


async def tell_customer(order: Order, state: OrderState) -> None:
    """Send news of the order's status; news that cannot be sent is noted, and fails nothing."""
    news = state.status.value
    try:
        await workflow.step(
            notify,
            order,
            news,
            retry=NEWS_RETRY,
            start_to_close=ATTEMPT_TIMEOUT,
            schedule_to_close=NEWS_TIMEOUT,
        )
    except StepError as error:
        state.notes.append(f"could not tell the customer {news!r}: {error.type}")
