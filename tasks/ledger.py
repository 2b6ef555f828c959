"""Effects, each at most once.

The key of an effect is the idempotency key of the step, the same for every attempt; for a task that
is called as plain Celery task it is made of order and task.

    L1  An effect and its key are committed together, so a repeated key finds the recorded result.
    L2  An undo is committed with its own key and the key it undoes, so it happens once.
    L3  An undo of a step that never took effect bars the step's key: an attempt that comes later,
        from a worker that was paused, is refused and has no effect.

Two transactions with one key meet in the ledger's primary key: the second waits for the first.
"""

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator import ApplicationError, step
from tasks import database
from tasks.database import effects
from tasks.models import Undone

Result = TypeVar("Result", bound=BaseModel)


def do_once(
    task: str, order_id: str, kind: type[Result], effect: Callable[[Connection, str], Result]
) -> Result:
    """Carry out `effect` unless its key has been used; return its result, then or now.

    `effect` gets the transaction and the key.  When it raises, nothing is recorded.

    Raises:
        ApplicationError: The step has been undone; type ``StepUndone``, non-retryable (L3).
    """
    info = step.current()
    key = info.idempotency_key if info else _plain_key(order_id, task)
    with database.transaction() as db:
        if not _insert(db, key=key, task=task, order_id=order_id, status="done"):
            return kind.model_validate(_recorded_result(db, key))
        result = effect(db, key)
        row = update(effects).where(effects.c.key == key)
        db.execute(row.values(result=result.model_dump(mode="json")))
        return result


def undo_once(
    task: str, order_id: str, *, undoes: str, effect: Callable[[Connection, str], None]
) -> Undone:
    """Carry out `effect` if the step took effect and was not undone yet; else bar the step.

    Args:
        task: The compensation's own name.
        order_id: The order.
        undoes: Name of the task that is undone, for a plain Celery call.
        effect: Gets the transaction and the key of the step that is undone.
    """
    info = step.current()
    key = info.idempotency_key if info else _plain_key(order_id, task)
    undone_key = (info.compensates if info else "") or _plain_key(order_id, undoes)
    with database.transaction() as db:
        # First the step's own key: an attempt in mid-transaction is waited for here, and one that
        # has not begun meets the bar.
        barred = _insert(db, key=undone_key, task=undoes, order_id=order_id, status="barred")
        is_first = _insert(
            db, key=key, task=task, order_id=order_id, status="done", undoes=undone_key
        )
        if not is_first:
            return Undone.model_validate(_result_of_undo(db, undone_key))
        if not barred:
            effect(db, undone_key)
        result = Undone(undone=not barred)
        row = update(effects).where(effects.c.key == key)
        db.execute(row.values(result=result.model_dump(mode="json")))
        return result


def short_id(prefix: str, key: str) -> str:
    """Return an id for people, the same for every attempt."""
    return f"{prefix}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _plain_key(order_id: str, task: str) -> str:
    return f"{order_id}:{task}"


def _insert(db: Connection, **values: Any) -> bool:
    """Return whether the row is new; waits for a transaction that is writing the same key."""
    row: sqlite.Insert | postgresql.Insert
    row = postgresql.insert(effects) if db.dialect.name == "postgresql" else sqlite.insert(effects)
    row = row.values(**values).on_conflict_do_nothing()
    return db.execute(row.returning(effects.c.key)).first() is not None


def _recorded_result(db: Connection, key: str) -> Any:
    row = db.execute(select(effects).where(effects.c.key == key)).one()
    if db.execute(select(effects.c.key).where(effects.c.undoes == key)).first():
        raise ApplicationError(
            f"{row.task} of order {row.order_id} was undone; this attempt comes too late",
            type="StepUndone",
            non_retryable=True,
        )
    return row.result


def _result_of_undo(db: Connection, undone_key: str) -> Any:
    return db.execute(select(effects.c.result).where(effects.c.undoes == undone_key)).scalar_one()
