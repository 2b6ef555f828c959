"""A real process of the stack: started in a group of its own, killed, paused, stopped, read.

P1  Nothing outlives the test process: the kernel kills each child with the thread that started
    it, so a thread that lives as long as the stack starts them all; the rest of a group is killed
    by `end`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.acceptance.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
#: Seconds until a program that was asked to stop has ended.  Now and then a child of a prefork
#: worker of Celery 5.7 waits for thirty, for its parent to count its last results (billiard.pool,
#: ``_ensure_messages_consumed``): once in some forty stops under load, with plain tasks too.
END_S_MAX = 60.0

#: Asks the kernel to kill this process with its parent, and becomes the program.  A parent that
#: died before the request is found out by the new parent's id.
_LEASHED = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Child:
    """One program and all that it forks.

    Args:
        name: For its log and for messages.
        command: With its arguments.
        environment: The whole of it.
        directory: Where its log goes.
        cwd: Where it runs.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        *,
        cwd: Path = ROOT,
    ) -> None:
        self.name = name
        self.log_path = directory / f"{name}.log"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LEASHED, str(os.getpid()), *command],
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the program, and of its group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the program itself lives."""
        return self._process.poll() is None

    def log(self) -> str:
        """Return what it wrote so far."""
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text: str) -> "Child":
        """Wait until it has written `text`, and return this object."""

        def look() -> bool:
            if text in self.log():
                return True
            assert self.is_running, f"{self.name} ended:\n{self.log()[-4000:]}"
            return False

        eventually(look, f"{text!r} in the log of {self.name}")
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the program and everything it forked, at once."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP to the whole group; back when it stands still."""
        os.killpg(self.pid, signal.SIGSTOP)
        eventually(lambda: _state_of(self.pid) == "T", f"{self.name} stands still")

    def resume(self) -> None:
        """SIGCONT to the whole group."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM to the program; wait for its end and return its exit code."""
        self._process.terminate()
        return self._process.wait(timeout=END_S_MAX)

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        return self._process.wait(timeout=END_S_MAX)

    def end(self) -> None:
        """Kill what is left of the group, and see it gone."""
        if _is_group_alive(self.pid):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        eventually(lambda: not _is_group_alive(self.pid), f"the group of {self.name} is gone")


def _state_of(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def _is_group_alive(group: int) -> bool:
    """Return whether a process of the group lives; those that only wait to be collected do not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if int(of_group) == group and state != "Z":
            return True
    return False


def processes_with(mark: str) -> list[int]:
    """Return the live processes, of whatever group, whose environment has `mark` in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_marked = mark.encode() in (path / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked, or is nobody's we started
        if is_marked and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found
