"""The shop's books after a storm, read with SQL of our own.

Beside `tasks.audit`, which checks the shop against itself, these compare it with the histories:

B1  What is missing on the shelves, and what the till holds, is what the completed orders took.
B2  Every key in the ledger is that of a step in its order's history, of the same task.
B3  Every step that completed has its effect in the ledger, once.
B4  Tries at an effect are counted by a trigger, so that what was repeated and made no second
    effect can be told from what was never repeated.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.chaos.evidence import History
from tests.chaos.orders import OrderPlan

#: B4.  Fires before the primary key says that the effect was made already.
TRIGGER = """
CREATE TABLE IF NOT EXISTS storm_tries (key TEXT);
CREATE TRIGGER IF NOT EXISTS storm_counts_tries BEFORE INSERT ON effects WHEN NEW.status = 'done'
BEGIN INSERT INTO storm_tries VALUES (NEW.key); END;
"""


class Books:
    """The shop's SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def count_tries(self) -> None:
        """Put the trigger in place (B4)."""
        with closing(sqlite3.connect(self._path)) as db:
            db.executescript(TRIGGER)

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query, values).fetchall()

    def repeated(self) -> tuple[int, int]:
        """Return how many effects were made, and how many tries found theirs made already."""
        ((made,),) = self._rows("SELECT COUNT(*) FROM effects WHERE status = 'done'")
        ((tries,),) = self._rows("SELECT COUNT(*) FROM storm_tries")
        return int(made), int(tries) - int(made)

    def wrong_sums(self, plans: list[OrderPlan], statuses: Mapping[str, str]) -> Iterator[str]:
        """Yield where shelves or till differ from what the completed orders took (B1)."""
        completed = [plan for plan in plans if statuses.get(plan.id) == "completed"]
        sold = Counter(plan.sku for plan in completed)
        for sku, initial, on_hand in self._rows("SELECT sku, initial, on_hand FROM stock"):
            if initial - on_hand != sold[sku]:
                yield f"B1 {sku}: {initial} - {on_hand} on hand, but {sold[sku]} were sold"
        cents = sum(round(float(plan.total) * 100) for plan in completed)
        query = "SELECT COALESCE(SUM(captured_cents - refunded_cents), 0) FROM payments"
        ((held,),) = self._rows(query)
        if held != cents:
            yield f"B1 the till holds {held} cents; the completed orders come to {cents}"

    def wrong_keys(self, histories: Mapping[str, History]) -> Iterator[str]:
        """Yield effects without a step, and steps without their one effect (B2, B3)."""
        ledger = {
            key: (task, order_id, status)
            for key, task, order_id, status in self._rows(
                "SELECT key, task, order_id, status FROM effects"
            )
        }
        tasks = {
            f"{history.workflow_id}.{history.run}.{event['step']}": event["task"]
            for history in histories.values()
            for event in history.of_type("StepScheduled")
        }
        for key, (task, order_id, _) in ledger.items():
            ordered = tasks.get(key, "").rpartition(".")[2]
            if task.partition("-")[0] != ordered or not key.startswith(f"{order_id}."):
                yield f"B2 {order_id}: {task} under key {key}, where history has {ordered!r}"
        for history in histories.values():
            for event in history.of_type("StepCompleted"):
                key = f"{history.workflow_id}.{history.run}.{event['step']}"
                if ledger.get(key, ("", "", ""))[2] != "done":
                    yield f"B3 {key} completed, and the ledger has {ledger.get(key)}"
