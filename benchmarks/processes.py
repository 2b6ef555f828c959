"""Processes of one round: they start together and are gone when the round is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

STOP_SECONDS_MAX = 20


@contextmanager
def running(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run each of `commands` (arguments of ``python -m``) until the block ends.

    Each leads a process group of its own, so that a worker's children end with it.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command],
                    env={**os.environ, **environment},
                    stdout=sys.stderr,  # Ours is for the figures alone.
                    start_new_session=True,
                )
            )
        yield processes
    finally:
        for process in reversed(processes):
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process: politely, then with its whole group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS_MAX)
    # The group may be gone with its leader.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
