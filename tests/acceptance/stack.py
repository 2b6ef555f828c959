"""A whole stack for a test: Valkey, workers, orchestrators, a client, and an outsider's eyes.

The processes are real, and so is what kills them.  The client uses the public interface, on a
Celery app of its own, as a web application next to the workers would.
"""

import os
import secrets
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from celery import Celery

from orchestrator import Orchestrator, RunHandle
from orchestrator.core import events as e
from orchestrator.core.events import Event
from orchestrator.core.replay import replay
from orchestrator.embedded import EmbeddedServer
from orchestrator.store.connect import connect
from orchestrator.store.keys import Keys
from tests.acceptance import app as tested
from tests.acceptance.child import ROOT, Child
from tests.acceptance.waiting import WAIT_S, eventually

APP = "tests.acceptance.app"
SHOP = "SHOP_DATABASE_URL"
#: Another server's program than the packaged Valkey: a redis-server, say.
SERVER = "ACCEPTANCE_SERVER"
PARTITIONS = 16
_CELERY = [sys.executable, "-m", "celery", "-A"]
_WORKER = ["worker", "-l", "INFO", "--without-gossip", "--without-mingle"]


class Stack:
    """Use it with ``with``: Valkey runs from the start, everything else when it is asked for.

    Args:
        directory: Where data and logs lie.
        fsync: Of the server; see `EmbeddedServer`.
        app: What workers and orchestrators run, as ``celery -A`` names it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        fsync: Literal["everysec", "always"] = "everysec",
        app: str = APP,
    ) -> None:
        self.directory = directory
        self._celery = [*_CELERY, app]
        binary = os.environ.get(SERVER) or None
        self.server = EmbeddedServer(directory / "server", fsync=fsync, binary=binary)
        self.children: list[Child] = []
        self.environment: dict[str, str] = {}
        self._spawner = ThreadPoolExecutor(1)  # see child.P1

    def __enter__(self) -> "Stack":
        self.server.start()
        self.environment = {
            "CELERY_BROKER_URL": self.server.url,
            SHOP: f"sqlite:///{self.directory}/shop.db",
            "ORCHESTRATOR_BLOBS": str(self.directory / "blobs"),
            tested.PLACE: str(self.directory),
        }
        with sqlite3.connect(self.directory / "effects.db") as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(tested.TABLES)
        db.close()
        # The one thing that the test process itself looks up: where to set the shop's switches.
        self._outer = os.environ.get(SHOP)
        os.environ[SHOP] = self.environment[SHOP]
        self.redis: Any = connect(self.server.url)
        self.keys = Keys("orc", PARTITIONS)
        self.orc = client_of(self.server.url)
        self.celery = self.orc.app
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for child in self.children:
            child.end()
        self._spawner.shutdown()
        self.redis.close()
        self.server.stop()
        if self._outer is None:
            del os.environ[SHOP]
        else:
            os.environ[SHOP] = self._outer

    # --- processes -------------------------------------------------------------------------------

    def spawn(self, name: str, command: Sequence[str], **environment: str) -> Child:
        """Start a program; it is ended with the stack."""
        whole = {**os.environ, **self.environment, **environment}
        return self._spawner.submit(self._spawn, name, command, whole).result()

    def _spawn(self, name: str, command: Sequence[str], environment: dict[str, str]) -> Child:
        numbered = f"{len(self.children):02}-{name}"
        child = Child(numbered, command, environment, self.directory)
        self.children.append(child)
        return child

    def worker(self, *options: str, queue: str = "celery", **environment: str) -> Child:
        """Start a worker; not ready yet."""
        name = secrets.token_hex(4)
        chosen = ["-n", f"{name}@acceptance", "-Q", queue, *(options or ("-c", "2"))]
        return self.spawn(f"worker-{queue}", [*self._celery, *_WORKER, *chosen], **environment)

    def ready_worker(self, *options: str, queue: str = "celery") -> Child:
        """Start a worker, and wait until it takes messages."""
        return self.worker(*options, queue=queue).wait_for_log(" ready.")

    def orchestrator(self, **environment: str) -> Child:
        """Start an orchestrator; it owns nothing yet."""
        return self.spawn("orchestrator", [*self._celery, "orchestrator"], **environment)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``celery -A … workflow`` and wait for its end."""
        return subprocess.run(
            [*self._celery, "workflow", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=2 * WAIT_S,
            check=False,
        )

    # --- runs ------------------------------------------------------------------------------------

    def start(self, workflow: str, *args: Any, id: str) -> RunHandle[Any]:
        """Start a run through the public interface."""
        return self.orc.get_workflow(workflow).start(*args, id=id)

    def wait_for_event(
        self, handle: RunHandle[Any], kind: type[Event], /, **parts: object
    ) -> list[Event]:
        """Wait until the run's history has such an event, and return all of these."""
        return eventually(
            lambda: events_of(handle, kind, **parts),
            f"{kind.__name__} {parts} in the history of {handle.id}",
        )

    def wait_for_published(self, handle: RunHandle[Any], **parts: object) -> None:
        """Wait until the run's published state has these values."""

        def look() -> bool:
            state = handle.state() or {}
            return all(state.get(name) == value for name, value in parts.items())

        eventually(look, f"{handle.id} publishes {parts}")

    def wait_for_steps(self, handle: RunHandle[Any], count: int) -> None:
        """Wait until so many steps of the run have completed."""

        def look() -> bool:
            return len(events_of(handle, e.StepCompleted)) >= count

        eventually(look, f"{count} steps of {handle.id}")

    def wait_for_end(self, handle: RunHandle[Any]) -> str:
        """Wait until the run has ended, however; return its status."""
        eventually(lambda: handle.describe().is_closed, f"{handle.id} ends")
        return handle.status()

    def check_history(self, handle: RunHandle[Any]) -> list[Event]:
        """Check that a history holds: its chain, its numbers, its replay; and return its events."""
        assert handle.verify(), handle.verify()
        history = handle.history()
        assert [each.seq for each in history] == list(range(1, len(history) + 1))
        events = [each.event for each in history]
        definition = self.orc.registry[handle.describe().type]
        replayed = replay(definition, handle.id, handle.describe().run, events)
        assert replayed.pending == []
        replayed.execution.close()
        return events

    def owners(self) -> Counter[str]:
        """Return how many partitions each live lease holder owns."""
        names = (self.redis.get(self.keys.lease(p)) for p in range(PARTITIONS))
        return Counter(name.decode().rpartition("/")[0] for name in names if name)

    def owner_name(self, orchestrator: Child) -> str:
        """Return the name under which an orchestrator holds leases, or "" if it holds none."""
        names = [name for name in self.owners() if f"-{orchestrator.pid}-" in name]
        return names[0] if names else ""

    def wait_for_owners(self, *orchestrators: Child) -> None:
        """Wait until these, and no others, own all partitions, in equal shares."""

        def look() -> bool:
            owners = self.owners()
            names = [self.owner_name(each) for each in orchestrators]
            shares = [owners[name] for name in names]
            return sum(shares) == PARTITIONS and max(shares) - min(shares) <= 1

        eventually(look, f"partitions shared by {[each.name for each in orchestrators]}")

    # --- what bodies did -------------------------------------------------------------------------

    def begun(self, name: str) -> list[tuple[str, int, int]]:
        """Return key, attempt and pid of every body that was entered, oldest first."""
        with tested.database(str(self.directory)) as db:
            query = "SELECT key, attempt, pid FROM begun WHERE name = ? ORDER BY rowid"
            return db.execute(query, (name,)).fetchall()

    def effects(self, name: str) -> list[tuple[str, int]]:
        """Return key and attempt of every effect under this name."""
        with tested.database(str(self.directory)) as db:
            query = "SELECT key, attempt FROM effects WHERE name = ? ORDER BY rowid"
            return db.execute(query, (name,)).fetchall()

    def wait_for_body(self, name: str, attempt: int = 1) -> int:
        """Wait until that attempt's body is entered; return its pid."""

        def look() -> list[int]:
            return [pid for _, at, pid in self.begun(name) if at == attempt]

        return eventually(look, f"attempt {attempt} of {name} begins")[0]

    def open_gate(self, name: str, attempt: int = 1) -> None:
        """Let that attempt's body, which holds, go on."""
        tested.gate(name, attempt, str(self.directory)).touch()


def client_of(url: str) -> Orchestrator:
    """Return a client of the tested app's workflows, as a program beside it would make one."""
    orc = Orchestrator(Celery("client", broker=url, set_as_current=False))
    for name, definition in tested.orc.registry.items():
        function = tested.orc.get_workflow(name).__wrapped__  # type: ignore[attr-defined]
        orc.workflow(name=name, signals=definition.signals)(function)
    return orc


def events_of(handle: RunHandle[Any], kind: type[Event], /, **parts: object) -> list[Event]:
    """Return the events of a kind whose fields have these values."""
    return [
        each.event
        for each in handle.history()
        if isinstance(each.event, kind)
        and all(getattr(each.event, name) == value for name, value in parts.items())
    ]


#: A scenario: what one test does to a stack, beside others.
Scenario = Callable[[Stack], None]
