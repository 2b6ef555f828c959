"""Promise: effects happen once per key, undos once per step, and a barred step never (L1 to L3).

The labels are explained in `tasks.ledger`.  Everything here holds on every database.
"""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from orchestrator import ApplicationError
from tasks import database
from tasks.audit import audit
from tasks.inventory import release, reserve, restock
from tasks.models import Order, OrderLine
from tasks.notification import notify
from tasks.payment import charge, refund
from tasks.shipping import cancel_shipment, ship
from tests.tasks.conftest import AsStep

ORDER = Order(
    id="order-1",
    total=Decimal("120.50"),
    lines=(OrderLine(sku="lamp", quantity=2), OrderLine(sku="book", quantity=3)),
)
LAMPS = database.CATALOGUE["lamp"]


def on_hand(sku: str) -> int:
    with database.transaction() as db:
        query = select(database.stock.c.on_hand).where(database.stock.c.sku == sku)
        return int(db.execute(query).scalar_one())


def rows(table: str) -> list[dict[str, Any]]:
    with database.transaction() as db:
        return [dict(row) for row in db.execute(select(database.metadata.tables[table])).mappings()]


@pytest.fixture(autouse=True)
def _database(shop_url: str) -> None:
    """Every test here runs on both databases, and its books balance at the end."""


def test_repeated_key_returns_the_recorded_result_and_changes_nothing(as_step: AsStep) -> None:
    with as_step("k1"):
        first = reserve(ORDER)
    with as_step("k1"):
        again = reserve(ORDER)
    assert first == again
    assert on_hand("lamp") == LAMPS - 2
    assert len(rows("reservations")) == 2


def test_another_key_is_another_effect(as_step: AsStep) -> None:
    for key in ("k1", "k2"):
        with as_step(key):
            charge(ORDER)
    assert [row["captured_cents"] for row in rows("payments")] == [12050, 12050]


def test_plain_call_has_a_key_of_its_own_per_order_and_task() -> None:
    for _ in range(2):
        charge(ORDER)
        notify(ORDER, "shipped")
        notify(ORDER, "completed")
    assert len(rows("payments")) == 1
    assert [row["kind"] for row in rows("notifications")] == ["shipped", "completed"]


def test_task_takes_and_gives_plain_json_as_celery_sends_it() -> None:
    result = charge.run(ORDER.model_dump(mode="json"))
    assert result["amount_cents"] == 12050


def test_undo_reverts_the_step_once(as_step: AsStep) -> None:
    with as_step("k1"):
        reserve(ORDER)
    for _ in range(2):
        with as_step("u1", compensates="k1"):
            assert release(ORDER) == {"undone": True}
    assert on_hand("lamp") == LAMPS
    assert on_hand("book") == database.CATALOGUE["book"]
    assert {row["status"] for row in rows("reservations")} == {"released"}
    assert audit() == []


def test_undo_under_another_key_finds_the_first_undo(as_step: AsStep) -> None:
    with as_step("k1"):
        reserve(ORDER)
    for key in ("u1", "u2"):
        with as_step(key, compensates="k1"):
            assert release(ORDER) == {"undone": True}
    assert on_hand("lamp") == LAMPS
    assert audit() == []


def test_undo_of_a_step_that_never_took_effect_bars_it(as_step: AsStep) -> None:
    for _ in range(2):
        with as_step("u1", compensates="k1"):
            assert refund(ORDER) == {"undone": False}
    with as_step("k1"), pytest.raises(ApplicationError) as caught:
        charge(ORDER)
    assert (caught.value.type, caught.value.non_retryable) == ("StepUndone", True)
    assert rows("payments") == []
    assert audit() == []


def test_late_attempt_at_a_step_that_was_undone_is_refused(as_step: AsStep) -> None:
    with as_step("k1"):
        reserve(ORDER)
    with as_step("u1", compensates="k1"):
        release(ORDER)
    with as_step("k1"), pytest.raises(ApplicationError, match="undone"):
        reserve(ORDER)
    assert on_hand("lamp") == LAMPS
    assert audit() == []


def test_reservation_takes_all_lines_or_none(as_step: AsStep) -> None:
    restock("rare", 1)
    greedy = Order(
        id="order-1",
        total=Decimal(1),
        lines=(OrderLine(sku="lamp"), OrderLine(sku="rare", quantity=2)),
    )
    with as_step("k1"), pytest.raises(ApplicationError) as caught:
        reserve(greedy)
    assert (caught.value.type, caught.value.non_retryable) == ("OutOfStock", True)
    assert on_hand("lamp") == LAMPS
    assert rows("effects") == []
    restock("rare", 1)
    with as_step("k1"):
        reserve(greedy)
    assert on_hand("rare") == 0
    assert audit() == []


def test_two_lines_of_one_article_are_two_lines(as_step: AsStep) -> None:
    twice = Order(id="o", total=Decimal(1), lines=(OrderLine(sku="lamp"), OrderLine(sku="lamp")))
    with as_step("k1"):
        reserve(twice)
    assert on_hand("lamp") == LAMPS - 2
    assert audit() == []


def test_order_goes_through_and_back(as_step: AsStep) -> None:
    with as_step("k1"):
        reservation = reserve(ORDER)
    with as_step("k2"):
        charge(ORDER)
    with as_step("k3"):
        ship(ORDER, reservation["id"])
    assert audit(statuses={"order-1": "completed"}) == []
    assert len(audit(statuses={"order-1": "cancelled"})) == 2
    with as_step("u3", compensates="k3"):
        cancel_shipment(ORDER, reservation["id"])
    with as_step("u2", compensates="k2"):
        refund(ORDER)
    with as_step("u1", compensates="k1"):
        release(ORDER)
    assert audit(statuses={"order-1": "cancelled"}) == []
    assert on_hand("lamp") == LAMPS


def test_release_leaves_what_has_been_shipped_and_the_audit_says_so(as_step: AsStep) -> None:
    with as_step("k1"):
        reservation = reserve(ORDER)
    with as_step("k3"):
        ship(ORDER, reservation["id"])
    with as_step("u1", compensates="k1"):
        release(ORDER)
    assert on_hand("lamp") == LAMPS - 2
    assert {row["status"] for row in rows("reservations")} == {"shipped"}
    assert audit() == ["A2 order order-1: reservation stands, though the ledger has it undone"]


def test_nothing_is_shipped_that_is_not_reserved(as_step: AsStep) -> None:
    with as_step("k1"):
        reservation = reserve(ORDER)
    with as_step("u1", compensates="k1"):
        release(ORDER)
    with as_step("k3"), pytest.raises(ApplicationError) as caught:
        ship(ORDER, reservation["id"])
    assert caught.value.type == "NotReserved"
    assert rows("shipments") == []
