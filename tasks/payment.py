"""Money: taken for an order, and given back."""

from sqlalchemy import Connection, insert, update

from tasks import faults, ledger
from tasks.app import app
from tasks.database import payments
from tasks.models import Order, Payment, Undone


@app.task(pydantic=True)
def charge(order: Order) -> Payment:
    """Take the order's total."""

    def capture(db: Connection, key: str) -> Payment:
        payment = Payment(id=ledger.short_id("pay", key), amount_cents=order.total_cents)
        db.execute(
            insert(payments).values(
                id=payment.id,
                effect_key=key,
                order_id=order.id,
                captured_cents=payment.amount_cents,
                refunded_cents=0,
            )
        )
        return payment

    with faults.around("charge", order.id):
        return ledger.do_once("charge", order.id, Payment, capture)


@app.task(pydantic=True)
def refund(order: Order) -> Undone:
    """Undo `charge`: give back what it took."""

    def give_back(db: Connection, key: str) -> None:
        taken = update(payments).where(payments.c.effect_key == key)
        db.execute(taken.values(refunded_cents=payments.c.captured_cents))

    with faults.around("refund", order.id):
        return ledger.undo_once("refund", order.id, undoes="charge", effect=give_back)
