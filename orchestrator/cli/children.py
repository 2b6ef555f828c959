"""Programs that run beside us: their lines under their name, restarted when they die.

K1  None outlives us, however we end: each runs on a leash.
K2  One that keeps dying right after its start is given up, and everything with it.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import click

#: A program that lived for so long had started well; its next death is the first again.
STARTED_WELL_S = 10.0
#: Deaths in a row before a program is given up.
DEATHS_MAX = 5
#: Pause before a restart; each further one in a row takes twice as long.
RESTART_PAUSE_S = 0.5
#: The leash kills after its own grace; this is for what comes then.
STOP_WAIT_S = 20.0


class Child:
    """One program.

    Args:
        name: Before each of its lines.
        colour: Of the name, on a terminal.
        program: With its arguments.
    """

    def __init__(self, name: str, colour: str, program: Sequence[str]) -> None:
        self.name = name
        self._colour = colour
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        self._deaths = 0
        self._started_at = 0.0
        self._restart_at = 0.0

    def start(self) -> None:
        """Start it."""
        leash = [sys.executable, "-m", "orchestrator.cli.leash"]
        self._process = subprocess.Popen(
            [*leash, *self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches us alone, and we stop everything in order.
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._started_at = time.monotonic()
        self._pump = threading.Thread(target=self._print_lines, args=(self._process,), daemon=True)
        self._pump.start()

    def watch(self) -> bool:
        """Restart it if it has died; return False where it is given up (K2)."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._restart_at:
                self.start()
            return True
        code = self._process.poll()
        if code is None:
            return True
        self._collect()
        self._deaths = 1 if now - self._started_at >= STARTED_WELL_S else self._deaths + 1
        if self._deaths >= DEATHS_MAX:
            self.say(f"ended with {code}, {self._deaths} times in a row: given up")
            return False
        pause_s = RESTART_PAUSE_S * 2 ** (self._deaths - 1)
        self._restart_at = now + pause_s
        self.say(f"ended with {code}; it starts again in {pause_s:g} s")
        return True

    def stop(self) -> None:
        """End it gracefully, or by force once its grace is over; wait until it has gone."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._collect()

    def say(self, text: str) -> None:
        """Print a line under its name."""
        click.echo(f"{click.style(f'{self.name:>12} |', fg=self._colour)} {text}")

    def _collect(self) -> None:
        process, pump = self._process, self._pump
        self._process = self._pump = None
        assert process is not None
        assert pump is not None
        process.wait()
        pump.join()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()

    def _print_lines(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.say(line.decode(errors="replace").rstrip())
