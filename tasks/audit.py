"""Does the shop's database add up?  Asks with SQL, from outside, and trusts no code of the tasks.

Run    python -m tasks.audit [database URL]

The labels A1 to A3 are explained in `tasks.database`.
"""

import sys
from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, text

from tasks import database

_STOCK = """
SELECT s.sku, s.on_hand, s.initial, COALESCE(SUM(r.quantity), 0) AS held
FROM stock s LEFT JOIN reservations r ON r.sku = s.sku AND r.status IN ('open', 'shipped')
GROUP BY s.sku, s.on_hand, s.initial
HAVING s.on_hand + COALESCE(SUM(r.quantity), 0) <> s.initial
ORDER BY s.sku
"""

#: Every effect under its key.  A reservation has a row per line, but one id.
_MADE = """
SELECT 'reservation' AS what, effect_key, order_id, COUNT(*) AS times
  FROM reservations GROUP BY effect_key, order_id, sku, line
UNION ALL
SELECT 'payment', effect_key, order_id, COUNT(*) FROM payments GROUP BY effect_key, order_id
UNION ALL
SELECT 'shipment', effect_key, order_id, COUNT(*) FROM shipments GROUP BY effect_key, order_id
UNION ALL
SELECT 'notification', effect_key, order_id, COUNT(*)
  FROM notifications GROUP BY effect_key, order_id
"""

_EFFECTS = f"""
SELECT m.what, m.effect_key, m.order_id, m.times, e.status
FROM ({_MADE}) AS m LEFT JOIN effects e ON e.key = m.effect_key
WHERE m.times > 1 OR e.status IS NULL OR e.status <> 'done'
ORDER BY m.effect_key
"""  # noqa: S608 - put together from constants

_UNDONE = """
SELECT 'reservation' AS what, r.order_id FROM reservations r
  JOIN effects u ON u.undoes = r.effect_key WHERE r.status <> 'released'
UNION
SELECT 'payment', p.order_id FROM payments p
  JOIN effects u ON u.undoes = p.effect_key WHERE p.refunded_cents <> p.captured_cents
UNION
SELECT 'shipment', s.order_id FROM shipments s
  JOIN effects u ON u.undoes = s.effect_key WHERE s.status <> 'cancelled'
ORDER BY 1, 2
"""

_ORDER = """
SELECT
  (SELECT COUNT(*) FROM reservations WHERE order_id = :id AND status = 'open') AS reserved,
  (SELECT COUNT(*) FROM payments
    WHERE order_id = :id AND captured_cents > refunded_cents) AS payments,
  (SELECT COALESCE(SUM(captured_cents - refunded_cents), 0) FROM payments
    WHERE order_id = :id) AS paid_cents,
  (SELECT COUNT(*) FROM shipments WHERE order_id = :id AND status = 'created') AS shipments
"""


def audit(database_url: str | None = None, statuses: Mapping[str, str] | None = None) -> list[str]:
    """Return what is wrong with the shop's data, in words; [] when all of it adds up.

    Args:
        database_url: The shop's database; None for the environment's.
        statuses: Final status by order id, as the orders published it.  An order that is
            ``completed`` must be paid and shipped exactly once; one with any other status must
            have its money back, nothing reserved and nothing under way.
    """
    with database.transaction(database_url) as db:
        faults = [*_wrong_stock(db), *_wrong_effects(db), *_wrong_undos(db)]
        for order_id, status in (statuses or {}).items():
            faults += _wrong_order(db, order_id, status)
        return faults


def _wrong_stock(db: Connection) -> Iterator[str]:
    for row in db.execute(text(_STOCK)):
        yield (
            f"A1 {row.sku}: on hand {row.on_hand} + reserved and shipped {row.held} "
            f"is not the initial {row.initial}"
        )


def _wrong_effects(db: Connection) -> Iterator[str]:
    for row in db.execute(text(_EFFECTS)):
        if row.times > 1:
            yield f"A2 order {row.order_id}: {row.what} made {row.times} times by {row.effect_key}"
        if row.status is None:
            yield f"A2 order {row.order_id}: {row.what} by {row.effect_key}, not in the ledger"
        elif row.status != "done":
            yield f"A2 order {row.order_id}: {row.what} by {row.effect_key}, which was barred"


def _wrong_undos(db: Connection) -> Iterator[str]:
    for row in db.execute(text(_UNDONE)):
        yield f"A2 order {row.order_id}: {row.what} stands, though the ledger has it undone"


def _wrong_order(db: Connection, order_id: str, status: str) -> Iterator[str]:
    found = db.execute(text(_ORDER), {"id": order_id}).one()
    is_kept = status == "completed"
    if found.payments != is_kept:
        yield (
            f"A3 order {order_id} is {status}, with {found.payments} payments "
            f"({found.paid_cents} cents)"
        )
    if found.shipments != is_kept:
        yield f"order {order_id} is {status}, with {found.shipments} shipments"
    if found.reserved:
        yield f"order {order_id} is {status}, with {found.reserved} lines still reserved"


def main(arguments: list[str]) -> int:
    """Print what is wrong; return the exit status: 0 for nothing."""
    faults = audit(arguments[0] if arguments else None)
    sys.stdout.writelines(f"{fault}\n" for fault in faults or ["the books balance"])
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
