"""A program on a leash ends with its holder, whatever way that one goes, and takes all along."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

LEASH = [sys.executable, "-m", "orchestrator.cli.leash"]

GRANDCHILD = """
import signal, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
threading.Event().wait()
"""
#: Has a child that only SIGKILL ends, tells both process ids, and ends at SIGTERM with 3.
FAMILY = f"""
import os, signal, subprocess, sys, threading
signal.signal(signal.SIGTERM, lambda *a: os._exit(3))
child = subprocess.Popen([sys.executable, "-c", {GRANDCHILD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(os.getpid(), child.pid, flush=True)
threading.Event().wait()
"""
PROGRAM = [*LEASH, sys.executable, "-c", FAMILY]
#: How long the end of a process may take to show; only a failing test waits for so long.
END_S_MAX = 30.0


class Family:
    """The two processes that a leash holds; they can be watched after they have gone."""

    def __init__(self, holder: subprocess.Popen[str]) -> None:
        assert holder.stdout is not None
        self.parent, self.child = (int(word) for word in holder.stdout.readline().split())
        self._files = [os.pidfd_open(pid) for pid in (self.parent, self.child)]

    def has_ended(self) -> bool:
        """Return whether both end within ``END_S_MAX``."""
        return all(select.select([file], [], [], END_S_MAX)[0] for file in self._files)

    def close(self) -> None:
        """Stop watching; a process that is left is killed."""
        for file in self._files:
            if not select.select([file], [], [], 0)[0]:
                signal.pidfd_send_signal(file, signal.SIGKILL)
            os.close(file)


@pytest.fixture
def leash() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def family(leash: subprocess.Popen[str]) -> Iterator[Family]:
    family = Family(leash)
    yield family
    family.close()


def let_go(leash: subprocess.Popen[str]) -> None:
    assert leash.stdin is not None
    leash.stdin.close()


def test_letting_go_ends_the_program_and_what_it_started(
    leash: subprocess.Popen[str], family: Family
) -> None:
    let_go(leash)
    assert leash.wait() == 3
    assert family.has_ended()


def test_program_that_is_killed_leaves_nothing_behind(
    leash: subprocess.Popen[str], family: Family
) -> None:
    os.kill(family.parent, signal.SIGKILL)
    assert leash.wait() == 128 + signal.SIGKILL
    assert family.has_ended()


def test_signals_of_the_terminal_are_for_the_holder(
    leash: subprocess.Popen[str], family: Family
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        leash.send_signal(number)
    let_go(leash)
    assert leash.wait() == 3, "ended by its program, not by a signal"
    assert family.has_ended()


def test_holder_that_is_killed_lets_go() -> None:
    holder = (
        "import subprocess, threading;"
        f"p = subprocess.Popen({PROGRAM!r}, stdin=subprocess.PIPE);"
        "threading.Event().wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True
    ) as process:
        family = Family(process)
        process.kill()
        assert family.has_ended()
        family.close()
