"""The stage of the tour: a Valkey with its data on disk, a worker, an orchestrator, a database.

S1  All of it lies below one directory, and a later tour goes on with what is there.
S2  Everything that was started ends with the stage; see K1 in `programs`.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from orchestrator.embedded import EmbeddedServer
from sagas.demo.programs import Program

T = TypeVar("T")

#: Below the current directory.
DIRECTORY = Path(".orchestrator/demo")
#: Bound of one wait: a lost worker or orchestrator, its replacement's start, and a slow machine.
WAIT_SECONDS_MAX = 45.0
#: How long workers and orchestrators get to stop by themselves.
STOP_SECONDS_MAX = 5.0
_LOOK_SECONDS = 0.05
#: Would send programs elsewhere than to the tour's own server.
_FOREIGN = ("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")


class Stuck(Exception):
    """Something the tour waits for does not happen, or a program ended by itself."""


class Stage:
    """Starts with ``with``; this process' environment then names the stage's server and database.

    Args:
        directory: Where data and logs lie.
    """

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory.resolve()
        self.database_path = self.directory / "shop.db"
        self.training_path = self.directory / "training"
        self.server = EmbeddedServer(self.directory / "valkey")
        self._programs: list[Program] = []
        self._started = 0

    @property
    def log_directory(self) -> Path:
        """Where the programs' output goes."""
        return self.directory / "logs"

    @property
    def environment(self) -> dict[str, str]:
        """What another terminal has to export to see this stage."""
        return {
            "CELERY_BROKER_URL": self.server.url,
            "SHOP_DATABASE_URL": f"sqlite:///{self.database_path}",
            "ORCHESTRATOR_BLOBS": str(self.directory / "blobs"),
            "TRAINING_STORE": str(self.training_path),
        }

    def __enter__(self) -> "Stage":
        # First of all: it refuses where another tour is at work in this directory.
        self.server.start()
        self.log_directory.mkdir(parents=True, exist_ok=True)
        for log in self.log_directory.glob("*.log"):
            log.unlink()
        for name in _FOREIGN:
            os.environ.pop(name, None)
        # Celery and the shop look them up when they connect, which neither has done yet.
        os.environ.update(self.environment)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.ask_to_stop()
            deadline = time.monotonic() + STOP_SECONDS_MAX
            for program in self._programs:
                program.wait_or_kill(deadline)
        finally:
            self.server.stop()

    def ask_to_stop(self) -> None:
        """Ask workers and orchestrators to stop, and do not wait for it."""
        for program in self._programs:
            program.ask_to_stop()

    def start_worker(self) -> Program:
        """Start a Celery worker with two processes."""
        options = ("--concurrency=2", "--without-gossip", "--without-mingle", "--loglevel=INFO")
        return self._start("worker", *options)

    def start_orchestrator(self) -> Program:
        """Start an orchestrator."""
        return self._start("orchestrator")

    def _start(self, name: str, *options: str) -> Program:
        self._started += 1
        program = Program(
            name,
            [sys.executable, "-m", "celery", "-A", "sagas", name, *options],
            {**os.environ, "PYTHONUNBUFFERED": "1"},
            self.log_directory / f"{self._started}-{name}.log",
        )
        self._programs.append(program)
        return program

    def kill(self, program: Program) -> int:
        """End a program, and all that it started, with SIGKILL; return its exit code."""
        self._programs.remove(program)
        return program.kill()

    def wait_until(self, what: str, look: Callable[[], T | None]) -> T:
        """Return the first true answer of `look`.

        Raises:
            Stuck: There was none in time, or a program ended by itself.
        """
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        pause = threading.Event()
        while not (answer := look()):
            for program in self._programs:
                if program.has_ended:
                    raise Stuck(f"the {program.name} ended by itself:\n{program.log_tail()}")
            if time.monotonic() > deadline:
                raise Stuck(
                    f"waited {WAIT_SECONDS_MAX:g} s for this: {what}; see {self.log_directory}"
                )
            pause.wait(_LOOK_SECONDS)
        return answer
