"""Parcels: sent off with what was reserved, and called back."""

from sqlalchemy import Connection, insert, select, update

from orchestrator import ApplicationError
from tasks import faults, ledger
from tasks.app import app
from tasks.database import reservations, shipments
from tasks.models import Order, Shipment, Undone


@app.task(pydantic=True)
def ship(order: Order, reservation_id: str) -> Shipment:
    """Send off what the reservation holds.

    Raises:
        ApplicationError: The reservation holds nothing, type ``NotReserved``; non-retryable.
    """

    def send_off(db: Connection, key: str) -> Shipment:
        shipment = Shipment(id=ledger.short_id("shp", key), tracking=ledger.short_id("trk", key))
        held = (reservations.c.id == reservation_id) & (reservations.c.status == "open")
        if db.execute(update(reservations).where(held).values(status="shipped")).rowcount == 0:
            raise ApplicationError(
                f"reservation {reservation_id} of order {order.id} holds nothing",
                type="NotReserved",
                non_retryable=True,
            )
        db.execute(
            insert(shipments).values(
                id=shipment.id,
                effect_key=key,
                order_id=order.id,
                reservation_id=reservation_id,
                tracking=shipment.tracking,
                status="created",
            )
        )
        return shipment

    with faults.around("ship", order.id):
        return ledger.do_once("ship", order.id, Shipment, send_off)


@app.task(pydantic=True)
def cancel_shipment(order: Order, reservation_id: str) -> Undone:
    """Undo `ship`: the goods are reserved again, for `tasks.inventory.release` to put back."""

    def call_back(db: Connection, key: str) -> None:
        sent = (shipments.c.effect_key == key) & (shipments.c.status == "created")
        for row in db.execute(select(shipments).where(sent)).all():
            goods = update(reservations).where(
                reservations.c.id == row.reservation_id, reservations.c.status == "shipped"
            )
            db.execute(goods.values(status="open"))
        db.execute(update(shipments).where(sent).values(status="cancelled"))

    with faults.around("cancel_shipment", order.id):
        return ledger.undo_once("cancel_shipment", order.id, undoes="ship", effect=call_back)
