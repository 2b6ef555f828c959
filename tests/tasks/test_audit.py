"""Promise: the audit names every way in which the books can be wrong."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from sqlalchemy import text

from tasks import database
from tasks.audit import audit
from tasks.inventory import release, reserve
from tasks.models import Order
from tasks.payment import charge, refund
from tasks.shipping import ship

ORDER = Order(id="o1", total=Decimal(10))


@pytest.fixture(autouse=True)
def _completed_order(shop_url: str) -> None:
    reservation = reserve(ORDER)
    charge(ORDER)
    ship(ORDER, reservation["id"])
    assert audit(statuses={"o1": "completed"}) == []


def tamper(statement: str) -> None:
    with database.transaction() as db:
        assert db.execute(text(statement)).rowcount == 1


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE stock SET on_hand = on_hand + 1 WHERE sku = 'book'", "A1 book"),
        (
            "INSERT INTO payments (id, effect_key, order_id, captured_cents, refunded_cents) "
            "SELECT id, effect_key, order_id, captured_cents, refunded_cents FROM payments",
            "payment made 2 times",
        ),
        (
            "INSERT INTO shipments (id, effect_key, order_id, reservation_id, tracking, status) "
            "SELECT id, effect_key, order_id, reservation_id, tracking, status FROM shipments",
            "shipment made 2 times",
        ),
        ("DELETE FROM effects WHERE task = 'charge'", "not in the ledger"),
        ("UPDATE effects SET status = 'barred' WHERE task = 'charge'", "which was barred"),
        ("UPDATE payments SET refunded_cents = captured_cents", "with 0 payments"),
        ("UPDATE shipments SET status = 'cancelled'", "with 0 shipments"),
        ("UPDATE reservations SET status = 'open'", "1 lines still reserved"),
    ],
)
def test_tampered_books_are_named(statement: str, found: str) -> None:
    tamper(statement)
    faults = audit(statuses={"o1": "completed"})
    assert any(found in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("step", "undo", "statement", "what"),
    [
        (charge, refund, "UPDATE payments SET refunded_cents = 0 WHERE order_id = 'o2'", "payment"),
        (
            reserve,
            release,
            "UPDATE reservations SET status = 'open' WHERE order_id = 'o2'",
            "reservation",
        ),
    ],
)
def test_undo_that_undid_nothing_is_named(
    step: Callable[[Order], object], undo: Callable[[Order], object], statement: str, what: str
) -> None:
    other = Order(id="o2", total=Decimal(10))
    step(other)
    undo(other)
    assert audit(statuses={"o2": "cancelled"}) == []
    tamper(statement)
    assert f"A2 order o2: {what} stands, though the ledger has it undone" in audit()


def test_unpaid_order_that_says_it_is_completed_is_named() -> None:
    faults = audit(statuses={"never-seen": "completed"})
    assert faults == [
        "A3 order never-seen is completed, with 0 payments (0 cents)",
        "order never-seen is completed, with 0 shipments",
    ]
