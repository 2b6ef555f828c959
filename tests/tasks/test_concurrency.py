"""Promise: what holds for one process holds for many at once, from the first use on.

Method: processes wait for a line on their standard input, get it at the same time, and then use a
database in which there is not even a table.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text

from tasks import database, faults
from tasks.audit import audit
from tasks.faults import Mode, set_switch

PROCESSES = 4
START = """
import sys
from decimal import Decimal
from orchestrator import ApplicationError
from tasks.inventory import release, reserve
from tasks.models import Order, OrderLine
from tasks.payment import charge, refund
number = int(sys.argv[1])
order = Order(id="order-1", total=Decimal(10), lines=(OrderLine(sku="book"), OrderLine(sku="lamp")))
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _database(shop_url: str) -> None:
    """Every test here runs on both databases."""


def race(body: str) -> list[str]:
    """Run `body` in all processes at once; return what each printed last."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", START + body, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = []
        for process in started:
            out, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            answers.append(out.strip())
        return answers
    finally:
        for process in started:
            process.kill()
            process.wait()


def count(table: str) -> int:
    with database.transaction() as db:
        counted = select(func.count()).select_from(database.metadata.tables[table])
        return int(db.execute(counted).scalar_one())


def test_copies_of_one_step_have_one_effect_and_one_answer() -> None:
    answers = race("print(reserve(order)['id'])")
    assert len(set(answers)) == 1
    assert count("reservations") == 2
    assert count("stock") == len(database.CATALOGUE), "the shelves were filled once"
    assert audit() == []


def test_many_orders_at_once_keep_the_stock_whole() -> None:
    race(
        "for turn in range(10):\n"
        "    other = order.model_copy(update={'id': f'order-{number}-{turn}'})\n"
        "    reserve(other)\n"
        "    if turn % 2: release(other)\n"
    )
    assert count("reservations") == PROCESSES * 10 * 2
    assert audit() == []
    with database.transaction() as db:
        books = select(database.stock.c.on_hand).where(database.stock.c.sku == "book")
        on_hand = db.execute(books).scalar_one()
    assert on_hand == database.CATALOGUE["book"] - PROCESSES * 5


def test_undo_that_races_its_step_leaves_nothing_behind() -> None:
    answers = race(
        "for turn in range(10):\n"
        "    one = order.model_copy(update={'id': f'order-{turn}'})\n"
        "    try: (refund if number % 2 else charge)(one)\n"
        "    except ApplicationError as late: assert late.type == 'StepUndone'\n"
    )
    assert len(answers) == PROCESSES
    statuses = {f"order-{turn}": "cancelled" for turn in range(10)}
    assert audit(statuses=statuses) == []


def test_switch_that_counts_two_trips_two_processes() -> None:
    set_switch("charge", Mode.REFUSE, remaining=2)
    answers = race(
        "try: charge(order); print('paid')\nexcept ApplicationError as no: print(no.type)\n"
    )
    assert sorted(answers) == ["Refused"] * 2 + ["paid"] * (PROCESSES - 2)
    assert faults._take("charge", "order-1") is None


# SQLite lets the second one read only once the first has committed.
@pytest.mark.parametrize("shop_url", ["postgresql"], indirect=True)
def test_last_trip_of_a_switch_is_taken_once() -> None:
    """One process has read the switch and waits to count it down; the other has just done so."""
    set_switch("charge", Mode.FAIL, remaining=1)
    waiting = text("SELECT COUNT(*) FROM pg_locks WHERE NOT granted")
    with ThreadPoolExecutor() as pool, database.transaction() as db:
        assert db.execute(text("UPDATE switches SET remaining = 0")).rowcount == 1
        second = pool.submit(faults._take, "charge", "order-1")
        with database.transaction() as other:
            while not other.execute(waiting).scalar_one():
                assert not second.done()
        db.commit()
        assert second.result() is None
