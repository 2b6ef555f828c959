"""Promise: the outsider who judges a storm sees what is wrong; each kind of it is shown here."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.connect import connect
from orchestrator.store.keys import Keys
from tests.chaos.books import Books
from tests.chaos.disturbance import Disturbances
from tests.chaos.evidence import History, leftovers, read_histories, rejected_signals
from tests.servers import valkey_server, valkey_url

__all__ = ["valkey_server", "valkey_url"]

KEYS = Keys("orc", 16)
EVENTS: list[dict[str, Any]] = [
    {"type": "RunStarted"},
    {"type": "StepScheduled", "step": 1, "task": "tasks.payment.charge"},
    {"type": "StepCompleted", "step": 1},
    {"type": "RunCompleted"},
]


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Any]:
    with connect(valkey_url) as client:
        yield client


def write(redis: Any, workflow_id: str = "w", run: int = 1) -> None:
    """Write a history as the engine would, with a chain worked out here."""
    head = hashlib.sha256(f"orc:1:{workflow_id}:{run}".encode()).hexdigest()
    for seq, event in enumerate(EVENTS, 1):
        data = json.dumps(event).encode()
        head = hashlib.sha256(bytes.fromhex(head) + data).hexdigest()
        redis.xadd(KEYS.log(workflow_id, run), {"event": data, "head": head}, id=f"{seq}-0")
    row = {"run": run, "seq": len(EVENTS), "head": head, "status": "completed"}
    redis.hset(KEYS.row(workflow_id), mapping=row)


def faults_of(redis: Any) -> list[str]:
    faults: list[str] = []
    read_histories(redis, faults)
    return faults


def test_a_history_that_holds_is_read_as_it_lies(redis: Any) -> None:
    write(redis)
    faults: list[str] = []
    history = read_histories(redis, faults)["w"]
    assert faults == []
    assert (history.status, history.events) == ("completed", EVENTS)
    assert len(history.of_type("StepScheduled", "StepCompleted")) == 2


def change_an_event(redis: Any) -> None:
    entries = redis.xrange(KEYS.log("w", 1))
    redis.delete(KEYS.log("w", 1))
    for entry, fields in entries:
        fields[b"event"] = fields[b"event"].replace(b"tasks.payment.charge", b"tasks.payment.gift")
        redis.xadd(KEYS.log("w", 1), fields, id=entry)


DAMAGES: list[Callable[[Any], object]] = [
    change_an_event,
    lambda redis: redis.xdel(KEYS.log("w", 1), "2-0"),
    lambda redis: redis.hset(KEYS.row("w"), "head", "0" * 64),
    lambda redis: redis.hset(KEYS.row("w"), "status", "failed"),
    lambda redis: redis.rename(KEYS.log("w", 1), KEYS.log("w", 2)),
    lambda redis: write(redis, "w", 2),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_history_that_was_tampered_with_is_seen(
    redis: Any, damage: Callable[[Any], None]
) -> None:
    write(redis)
    assert faults_of(redis) == []
    damage(redis)
    assert faults_of(redis)


def test_whatever_still_waits_is_seen(redis: Any) -> None:
    write(redis)
    assert leftovers(redis) == []
    redis.xadd(KEYS.inbox(3), {"kind": "signal"})
    redis.zadd(KEYS.timers(3), {"sleep:w.1.1": 1})
    redis.zadd(KEYS.claims(3), {"w.1.1.1": 1})
    redis.hset(KEYS.steps("w", 1), "1.attempt", "1")
    redis.xadd(KEYS.door, {"workflow": "w"})
    redis.lpush("celery", "message")
    assert len(leftovers(redis)) == 6


def test_signals_no_run_could_take_are_found_by_either_name(redis: Any) -> None:
    redis.xadd(KEYS.rejected, {"door": "5-0", "reason": "no run has this id"})
    redis.xadd(KEYS.rejected, {"signal_id": "said-1", "reason": "the run has ended"})
    assert rejected_signals(redis) == {"door:5-0", "said-1"}


# --- books ---------------------------------------------------------------------------------------


def books_with(path: Path, *rows: tuple[str, str, str, str]) -> Books:
    """Return books whose ledger has these keys, tasks, orders and statuses."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE effects (key PRIMARY KEY, task, order_id, status)")
        db.commit()
        Books(path).count_tries()
        for row in rows:
            db.execute("INSERT INTO effects VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
        db.commit()
    return Books(path)


HISTORY = {"w": History(workflow_id="w", run=1, events=EVENTS, heads=[])}


def test_an_effect_that_was_tried_again_is_counted_and_no_fault(tmp_path: Path) -> None:
    done = ("w.1.1", "charge", "w", "done")
    books = books_with(tmp_path / "shop.db", done, done, done)
    assert books.repeated() == (1, 2)
    assert list(books.wrong_keys(HISTORY)) == []


@pytest.mark.parametrize(
    "row",
    [
        ("w.1.1~2", "charge", "w", "done"),
        ("w.1.1", "refund", "w", "done"),
        ("w.1.1", "charge", "v", "done"),
        ("w.1.1", "charge", "w", "barred"),
    ],
)
def test_an_effect_without_its_step_is_seen(tmp_path: Path, row: tuple[str, str, str, str]) -> None:
    assert list(books_with(tmp_path / "shop.db", row).wrong_keys(HISTORY))


# --- disturbances --------------------------------------------------------------------------------


def test_time_in_which_several_things_were_the_matter_counts_once() -> None:
    now = [100.0]
    disturbances = Disturbances(lambda: now[0])
    disturbances.begin("server")
    now[0] = 102.0
    disturbances.begin("orchestrator 1", 7.0)
    now[0] = 103.0
    disturbances.end("server", 4.0)
    disturbances.end("orchestrator 1")
    assert disturbances.seconds(90.0, 101.0) == 1.0
    assert disturbances.seconds(100.0, 200.0) == 9.0
    assert disturbances.seconds(100.0, 200.0, but="orchestrator 1") == 7.0
    now[0] = 120.0
    disturbances.begin("orchestrator 1")
    assert disturbances.seconds(100.0, 130.0) == 19.0
    assert disturbances.seconds(110.0, 120.0) == 0.0
    disturbances.add_standstill(112.0, 115.0)
    assert disturbances.seconds(110.0, 120.0) == 3.0
