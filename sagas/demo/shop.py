"""The shop seen from outside: SQL on its database, and none of its code.

The file is opened for reading only.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

_MONEY = """
SELECT COALESCE(SUM(captured_cents), 0), COALESCE(SUM(refunded_cents), 0)
FROM payments WHERE order_id = ?
"""


class Money(NamedTuple):
    """What an order paid and got back, in cents."""

    captured_cents: int
    refunded_cents: int

    def __str__(self) -> str:
        return f"{coins(self.captured_cents)} paid, {coins(self.refunded_cents)} given back"


class Shop:
    """Answers about articles and orders, each a query of its own."""

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.as_uri()}?mode=ro"

    def on_hand(self, sku: str) -> int:
        """Return how many of an article lie on the shelf."""
        return int(self._one("SELECT on_hand FROM stock WHERE sku = ?", sku))

    def money(self, order_id: str) -> Money:
        """Return what the order paid and got back."""
        return Money(*self._row(_MONEY, order_id))

    def payments(self, order_id: str) -> int:
        """Return how often money was taken for the order."""
        return int(self._one("SELECT COUNT(*) FROM payments WHERE order_id = ?", order_id))

    def parcels(self, order_id: str) -> int:
        """Return how many parcels of the order are on their way."""
        query = "SELECT COUNT(*) FROM shipments WHERE order_id = ? AND status = 'created'"
        return int(self._one(query, order_id))

    def effects(self, order_id: str, task: str) -> int:
        """Return how many keys the ledger has for a task of the order."""
        query = "SELECT COUNT(*) FROM effects WHERE order_id = ? AND task = ? AND status = 'done'"
        return int(self._one(query, order_id, task))

    def has_met_switch(self, task: str, order_id: str) -> bool:
        """Return whether the task's body has come to its switch, and so is at work."""
        query = "SELECT remaining FROM switches WHERE task = ? AND order_id = ?"
        return bool(self._one(query, task, order_id) == 0)

    def _one(self, query: str, *values: str) -> Any:
        return self._row(query, *values)[0]

    def _row(self, query: str, *values: str) -> tuple[Any, ...]:
        with closing(sqlite3.connect(self._uri, uri=True, timeout=10)) as db:
            row: tuple[Any, ...] | None = db.execute(query, values).fetchone()
        assert row is not None, "asked for something that the tour put there itself"
        return row


def coins(cents: int) -> str:
    """Return cents as people write them."""
    return f"{cents // 100}.{cents % 100:02d}"
