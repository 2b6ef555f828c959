"""The shop's SQL database: its tables, and transactions on them.

SQLite in a file by default, PostgreSQL by ``SHOP_DATABASE_URL``.  Tables come into being on first
use, also when many processes use them first.

What holds in between any two transactions, and is for `tasks.audit` to check:

    A1  Per article: on hand + reserved (open) + shipped = initial.
    A2  A key in `effects` stands for one effect at most; a barred key for none.
    A3  What an order paid is captured minus refunded.

The tables of effects have no unique constraint on `effect_key`: the ledger alone prevents double
effects, and the audit can see when it did not.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    text,
)

URL_DEFAULT = "sqlite:///.orchestrator/shop.db"
#: How long a writer waits for another one on SQLite, where there is one writer at a time.
BUSY_TIMEOUT_MS = 30_000
#: What a new shop has on its shelves, pieces by article.
CATALOGUE = {"book": 100_000, "lamp": 100_000, "desk": 100_000}
#: The advisory lock under which PostgreSQL creates the tables; any number no one else uses.
_CREATION_LOCK = 0x5109

metadata = MetaData()

stock = Table(
    "stock",
    metadata,
    Column("sku", String(200), primary_key=True),
    Column("initial", BigInteger, nullable=False),
    Column("on_hand", BigInteger, CheckConstraint("on_hand >= 0"), nullable=False),
)
#: One row per line of the order; `status` is open, released or shipped.
reservations = Table(
    "reservations",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(40), nullable=False, index=True),
    Column("effect_key", String(500), nullable=False, index=True),
    Column("order_id", String(200), nullable=False, index=True),
    Column("line", Integer, nullable=False),
    Column("sku", String(200), nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("status", String(20), nullable=False),
)
payments = Table(
    "payments",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(40), nullable=False),
    Column("effect_key", String(500), nullable=False, index=True),
    Column("order_id", String(200), nullable=False, index=True),
    Column("captured_cents", BigInteger, nullable=False),
    Column("refunded_cents", BigInteger, nullable=False, default=0),
)
#: `status` is created or cancelled.
shipments = Table(
    "shipments",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(40), nullable=False),
    Column("effect_key", String(500), nullable=False, index=True),
    Column("order_id", String(200), nullable=False, index=True),
    Column("reservation_id", String(40), nullable=False),
    Column("tracking", String(40), nullable=False),
    Column("status", String(20), nullable=False),
)
notifications = Table(
    "notifications",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(40), nullable=False),
    Column("effect_key", String(500), nullable=False, index=True),
    Column("order_id", String(200), nullable=False, index=True),
    Column("kind", String(40), nullable=False),
    Column("recipient", String(400), nullable=False),
)
#: The ledger.  `status` is done, or barred for a step that was undone before it took effect.
effects = Table(
    "effects",
    metadata,
    Column("key", String(500), primary_key=True),
    Column("task", String(100), nullable=False),
    Column("order_id", String(200), nullable=False, index=True),
    Column("status", String(20), nullable=False),
    Column("undoes", String(500), unique=True),
    Column("result", JSON),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
#: See `tasks.faults`.  `order_id` is an order or "*"; `remaining` NULL never runs out.
switches = Table(
    "switches",
    metadata,
    Column("task", String(100), primary_key=True),
    Column("order_id", String(200), primary_key=True),
    Column("mode", String(20), nullable=False),
    Column("remaining", Integer),
    Column("seconds", Float, nullable=False, server_default=text("0")),
)

#: By URL and process: a connection must not cross a fork.
_engines: dict[tuple[str, int], Engine] = {}


def database_url() -> str:
    """Return where the shop keeps its data, as the environment says."""
    return os.environ.get("SHOP_DATABASE_URL") or URL_DEFAULT


def open_database(url: str | None = None) -> Engine:
    """Return this process's engine for `url` (default: the environment's), with its tables there.

    A plain ``postgresql://`` is read as psycopg 3.
    """
    url = url or database_url()
    place = (url, os.getpid())
    if place not in _engines:
        engine = _connectable(url)
        _create_tables(engine)
        _engines[place] = engine
    return _engines[place]


@contextmanager
def transaction(url: str | None = None) -> Iterator[Connection]:
    """Open a transaction: committed when the block ends, rolled back when it raises."""
    with open_database(url).begin() as db:
        yield db


def _connectable(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    # The pool asks whether a connection is alive before it lends it: the server may have restarted.
    engine = create_engine(parsed, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver begins transactions at the first write, after reads; `_begin_immediate` does it
    # instead, so that no transaction has to turn from reader into writer, which may not be waited
    # for.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_immediate(db: Connection) -> None:
    db.exec_driver_sql("BEGIN IMMEDIATE")


def _create_tables(engine: Engine) -> None:
    """Create what is missing, and fill the shelves of a new shop, in one transaction."""
    with engine.begin() as db:
        if db.dialect.name == "postgresql":
            # CREATE TABLE IF NOT EXISTS is not safe under concurrency there.
            db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CREATION_LOCK})
        is_new = not inspect(db).has_table(stock.name)
        metadata.create_all(db)
        if is_new:
            rows = [{"sku": sku, "initial": n, "on_hand": n} for sku, n in CATALOGUE.items()]
            db.execute(stock.insert(), rows)
