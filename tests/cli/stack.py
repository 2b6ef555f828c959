"""Commands as real processes."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APP = "tests.cli.shop_app"
CELERY = [sys.executable, "-m", "celery", "-A", APP]


def needs_entry_points() -> None:
    """Skip where the package is not installed: ``celery orchestrator`` is an entry point of it."""
    names = {each.name for each in entry_points(group="celery.commands")}
    if not {"orchestrator", "workflow"} <= names:
        pytest.skip("the package is not installed, so that celery does not know its commands")


def environment(broker: str) -> dict[str, str]:
    """Return the variables of a process whose app has this broker."""
    return {
        **os.environ,
        "SHOP_BROKER": broker,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }


def run(*words: str, broker: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run ``celery -A … WORDS`` to its end."""
    return subprocess.run(
        [*CELERY, *words],
        env=environment(broker),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


class Running:
    """A process whose lines can be waited for; they come on standard output and error alike."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []

    def wait_for(self, pattern: str) -> str:
        """Return the next line that has `pattern`; fail with all lines where none comes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"no {pattern!r} in:\n{''.join(self.lines)}")

    def rest(self) -> str:
        """Wait for the end of the output and return what is left of it."""
        assert self.process.stdout is not None
        return self.process.stdout.read()


@contextmanager
def running(program: list[str], *, broker: str, cwd: Path) -> Iterator[Running]:
    """Run `program` for the time of the block; it is killed at its end, if it still runs."""
    with subprocess.Popen(
        program,
        env=environment(broker),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()
