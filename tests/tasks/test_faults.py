"""Promise: a switch does what it says, as often as it says, whatever dies in between."""

import signal
import subprocess
import sys
from decimal import Decimal

import pytest
from sqlalchemy import select, text

from orchestrator import ApplicationError
from tasks import database, faults
from tasks.audit import audit
from tasks.faults import Mode, set_switch
from tasks.models import Order
from tasks.payment import charge

ORDER = Order(id="order-1", total=Decimal(10))
CHARGE_ELSEWHERE = """
from decimal import Decimal
from tasks.models import Order
from tasks.payment import charge
charge(Order(id="order-1", total=Decimal(10)))
"""


@pytest.fixture(autouse=True)
def _database(shop_url: str) -> None:
    """Every test here runs on both databases."""


def payments() -> int:
    with database.transaction() as db:
        return len(db.execute(select(database.payments)).all())


def charge_elsewhere() -> int:
    return subprocess.run([sys.executable, "-c", CHARGE_ELSEWHERE], check=False).returncode


def test_task_fails_twice_and_then_works() -> None:
    set_switch("charge", Mode.FAIL, remaining=2)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="fails, as its switch says"):
            charge(ORDER)
        assert payments() == 0
    charge(ORDER)
    assert payments() == 1


def test_switch_without_count_never_runs_out() -> None:
    set_switch("charge", Mode.REFUSE, remaining=None)
    for _ in range(3):
        with pytest.raises(ApplicationError) as caught:
            charge(ORDER)
        assert (caught.value.type, caught.value.non_retryable) == ("Refused", True)
    faults.clear_switches()
    charge(ORDER)


def test_switch_of_one_order_leaves_the_others_alone() -> None:
    set_switch("charge", Mode.FAIL, order_id="order-2")
    charge(ORDER)
    with pytest.raises(RuntimeError):
        charge(Order(id="order-2", total=Decimal(10)))


def test_switch_of_an_order_goes_before_the_one_for_all() -> None:
    set_switch("charge", Mode.FAIL, remaining=None)
    set_switch("charge", Mode.REFUSE, order_id="order-1")
    with pytest.raises(ApplicationError):
        charge(ORDER)
    with pytest.raises(RuntimeError):
        charge(ORDER)


def test_switch_can_be_set_with_sql() -> None:
    with database.transaction() as db:
        db.execute(
            text(
                "INSERT INTO switches (task, order_id, mode, remaining)"
                " VALUES ('charge', '*', 'fail', 1)"
            )
        )
    with pytest.raises(RuntimeError):
        charge(ORDER)


def test_hang_waits_before_the_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[float, int]] = []
    monkeypatch.setattr(
        "tasks.faults.time.sleep", lambda seconds: waited.append((seconds, payments()))
    )
    set_switch("charge", Mode.HANG, seconds=3600)
    charge(ORDER)
    assert waited == [(3600.0, 0)]
    assert payments() == 1


def test_crash_before_the_effect_leaves_none_and_is_counted() -> None:
    set_switch("charge", Mode.CRASH_BEFORE)
    assert charge_elsewhere() == -signal.SIGKILL
    assert payments() == 0
    assert charge_elsewhere() == 0
    assert payments() == 1
    assert audit() == []


def test_crash_after_the_effect_leaves_it_and_the_next_attempt_finds_it() -> None:
    set_switch("charge", Mode.CRASH_AFTER)
    assert charge_elsewhere() == -signal.SIGKILL
    assert payments() == 1
    assert charge_elsewhere() == 0
    assert payments() == 1
    assert audit() == []
