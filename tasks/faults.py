"""Switches that make a task fail, refuse, hang or crash: for demonstrations and tests.

A switch is a row of the table `switches`, so it can be set from outside with SQL.  It counts down
in a transaction of its own: "fail twice, then work" holds across processes and crashes.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import case, delete, or_, select, update

from orchestrator import ApplicationError
from tasks import database
from tasks.database import switches

#: `order_id` of a switch that is for every order.
EVERY_ORDER = "*"


class Mode(Enum):
    """What a switch does to the task that meets it."""

    FAIL = "fail"  #: an ordinary exception before the effect: worth another attempt
    REFUSE = "refuse"  #: a final no before the effect
    HANG = "hang"  #: waits `seconds` before the effect
    CRASH_BEFORE = "crash_before"  #: kills its own process before the effect
    CRASH_AFTER = "crash_after"  #: kills its own process once the effect is committed


class _Fault(NamedTuple):
    mode: Mode
    seconds: float


def set_switch(
    task: str,
    mode: Mode,
    *,
    order_id: str = EVERY_ORDER,
    remaining: int | None = 1,
    seconds: float = 0.0,
) -> None:
    """Set the switch of `task`, in place of an older one.

    Args:
        task: Name of the task's function, as in ``ship``.
        mode: See `Mode`.
        order_id: The order it is for; one for an order goes before one for every order.
        remaining: How often; None for always.
        seconds: How long ``hang`` waits.
    """
    row = {"task": task, "order_id": order_id, "mode": mode.value}
    with database.transaction() as db:
        db.execute(delete(switches).where(*_is(task, order_id)))
        db.execute(switches.insert().values(**row, remaining=remaining, seconds=seconds))


def clear_switches() -> None:
    """Remove all switches."""
    with database.transaction() as db:
        db.execute(delete(switches))


@contextmanager
def around(task: str, order_id: str) -> Iterator[None]:
    """Surround the effect of `task` with what its switch asks for, if there is one.

    Raises:
        RuntimeError: Mode ``fail``.
        ApplicationError: Mode ``refuse``; non-retryable, type ``Refused``.
    """
    fault = _take(task, order_id)
    if fault:
        _before(fault, task, order_id)
    yield
    if fault and fault.mode is Mode.CRASH_AFTER:
        _crash()


def _before(fault: _Fault, task: str, order_id: str) -> None:
    match fault.mode:
        case Mode.FAIL:
            raise RuntimeError(f"{task} of order {order_id} fails, as its switch says")
        case Mode.REFUSE:
            raise ApplicationError(
                f"{task} of order {order_id} is refused", type="Refused", non_retryable=True
            )
        case Mode.HANG:
            time.sleep(fault.seconds)  # noqa: TID251 - to hang is what was asked for
        case Mode.CRASH_BEFORE:
            _crash()
        case Mode.CRASH_AFTER:
            pass


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _take(task: str, order_id: str) -> _Fault | None:
    """Return the fault that is due, and count it down; committed before anything else happens."""
    is_live = or_(switches.c.remaining.is_(None), switches.c.remaining > 0)
    candidates = (
        select(switches)
        .where(switches.c.task == task, switches.c.order_id.in_([order_id, EVERY_ORDER]), is_live)
        .order_by(case((switches.c.order_id == EVERY_ORDER, 1), else_=0))
    )
    with database.transaction() as db:
        for row in db.execute(candidates).all():
            # The condition is checked again where it is written: another process may have taken
            # the last one meanwhile.  NULL - 1 is NULL.
            taken = db.execute(
                update(switches)
                .where(*_is(task, row.order_id), is_live)
                .values(remaining=switches.c.remaining - 1)
            )
            if taken.rowcount == 1:
                return _Fault(Mode(row.mode), row.seconds)
    return None


def _is(task: str, order_id: str) -> list[Any]:
    return [switches.c.task == task, switches.c.order_id == order_id]
