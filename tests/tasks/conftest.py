"""Databases for the shop's tasks: SQLite in a file, and PostgreSQL where its programs are found."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from orchestrator import step
from tasks import database

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
#: PostgreSQL refuses to run as root; its package brings this account.
ACCOUNT = "postgres"

AsStep = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of our own: in a new directory, on a free port of the loopback."""
    if not PROGRAMS:
        pytest.skip("no PostgreSQL programs in /usr/lib/postgresql")
    pytest.importorskip("psycopg", reason="no driver for PostgreSQL: extra 'postgres'")
    account = _account()
    with tempfile.TemporaryDirectory(prefix="shop-pg-") as folder:
        place = Path(folder)
        if account:
            os.chown(place, account, -1)
        _run([PROGRAMS[0] / "initdb", "-D", place / "data", "-U", "shop", "-A", "trust"], account)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # Tests end processes, never the machine: nothing has to reach the disk.
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place} "
            "-c fsync=off"
        )
        control: list[object] = [PROGRAMS[0] / "pg_ctl", "-D", place / "data", "-w"]
        _run([*control, "-l", place / "log", "-o", options, "start"], account)
        try:
            yield f"postgresql://shop@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"], account)


@pytest.fixture(params=["sqlite", "postgresql"])
def shop_url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of an empty shop, without tables; the environment names it too."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/shop.db"
        monkeypatch.setenv("SHOP_DATABASE_URL", url)
        yield url
    else:
        server: str = request.getfixturevalue("postgres_url")
        admin = database._connectable(server)
        with admin.begin() as db:
            db.exec_driver_sql("DROP SCHEMA public CASCADE")
            db.exec_driver_sql("CREATE SCHEMA public")
        admin.dispose()
        monkeypatch.setenv("SHOP_DATABASE_URL", server)
        yield server
    for engine in database._engines.values():
        engine.dispose()
    database._engines.clear()


@pytest.fixture
def as_step() -> AsStep:
    """What makes a block run as a step of a workflow, under the key it is given."""

    @contextmanager
    def running(key: str, *, compensates: str = "") -> Iterator[None]:
        info = step.StepInfo(
            workflow_id="order-1",
            workflow="order",
            run=1,
            step=1,
            attempt=1,
            idempotency_key=key,
            compensates=compensates,
        )
        with step.running(step.RunningStep(info, lambda _details: True)):
            yield

    return running


def _account() -> int | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ACCOUNT).pw_uid
    except KeyError:
        pytest.skip(f"PostgreSQL does not run as root, and there is no account {ACCOUNT!r}")


def _run(command: list[object], account: int | None) -> None:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} cannot be run")
    done = subprocess.run(
        [str(part) for part in command],
        user=account,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
