"""Stock: put aside for an order, and put back."""

from sqlalchemy import Connection, insert, select, update

from orchestrator import ApplicationError
from tasks import database, faults, ledger
from tasks.app import app
from tasks.database import reservations, stock
from tasks.models import Order, Reservation, Undone


@app.task(pydantic=True)
def reserve(order: Order) -> Reservation:
    """Put all lines of the order aside, or none.

    Raises:
        ApplicationError: Not enough on hand, type ``OutOfStock``; non-retryable.
    """

    def put_aside(db: Connection, key: str) -> Reservation:
        reservation = Reservation(id=ledger.short_id("rsv", key))
        # In one order for everybody, so that two reservations cannot wait for each other.
        for number, line in sorted(enumerate(order.lines, 1), key=lambda entry: entry[1].sku):
            taken = db.execute(
                update(stock)
                .where(stock.c.sku == line.sku, stock.c.on_hand >= line.quantity)
                .values(on_hand=stock.c.on_hand - line.quantity)
            )
            if taken.rowcount == 0:
                raise ApplicationError(
                    f"fewer than {line.quantity} of {line.sku} are on hand",
                    type="OutOfStock",
                    non_retryable=True,
                )
            db.execute(
                insert(reservations).values(
                    id=reservation.id,
                    effect_key=key,
                    order_id=order.id,
                    line=number,
                    sku=line.sku,
                    quantity=line.quantity,
                    status="open",
                )
            )
        return reservation

    with faults.around("reserve", order.id):
        return ledger.do_once("reserve", order.id, Reservation, put_aside)


@app.task(pydantic=True)
def release(order: Order) -> Undone:
    """Undo `reserve`: put back what it put aside."""

    def put_back(db: Connection, key: str) -> None:
        is_open = (reservations.c.effect_key == key) & (reservations.c.status == "open")
        lines = select(reservations).where(is_open).order_by(reservations.c.sku)
        for row in db.execute(lines).all():
            back = stock.c.on_hand + row.quantity
            db.execute(update(stock).where(stock.c.sku == row.sku).values(on_hand=back))
        db.execute(update(reservations).where(is_open).values(status="released"))

    with faults.around("release", order.id):
        return ledger.undo_once("release", order.id, undoes="reserve", effect=put_back)


def restock(sku: str, quantity: int) -> None:
    """Put `quantity` more of an article on the shelves; a new article comes into being."""
    with database.transaction() as db:
        more = {
            "initial": stock.c.initial + quantity,
            "on_hand": stock.c.on_hand + quantity,
        }
        if db.execute(update(stock).where(stock.c.sku == sku).values(more)).rowcount == 0:
            db.execute(insert(stock).values(sku=sku, initial=quantity, on_hand=quantity))
