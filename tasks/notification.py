"""Mail to customers; a row in `notifications` stands for a mail that went out."""

from sqlalchemy import Connection, insert

from tasks import faults, ledger
from tasks.app import app
from tasks.database import notifications
from tasks.models import Notification, Order


@app.task(pydantic=True)
def notify(order: Order, kind: str) -> Notification:
    """Tell the customer the news, ``shipped`` for instance."""

    def send(db: Connection, key: str) -> Notification:
        mail = Notification(id=ledger.short_id("msg", key))
        db.execute(
            insert(notifications).values(
                id=mail.id,
                effect_key=key,
                order_id=order.id,
                kind=kind,
                recipient=order.customer,
            )
        )
        return mail

    with faults.around("notify", order.id):
        # The kind is part of the name: a plain call has no other key than order and task.
        return ledger.do_once(f"notify-{kind}", order.id, Notification, send)
