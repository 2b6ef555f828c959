"""What a history near the bound costs: to take over, to replay, to show, to export, to fork.

A run takes signals until its history has so many events.  Each command is a process of its own;
its time includes the start of the interpreter (`history.idle` is that of listing one run), and its
memory is the most it held.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from redis import Redis

from benchmarks.crew import Crew, Process, crew_on_server, line, rss_mb_of, wait_for
from benchmarks.signals import APP, client_of
from benchmarks.signals_app import nothing_taken
from benchmarks.steps import server_version, surroundings
from orchestrator import RunHandle

_ID = "long"
_SENDERS = 4
_FILL_S_MAX = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySettings:
    """How many events the history has."""

    events: int = 49_990


def measure_history(settings: HistorySettings) -> Iterator[dict[str, Any]]:
    """Yield lines, two for each command: seconds, and MB at most."""
    with crew_on_server() as crew, tempfile.TemporaryDirectory() as folder:
        said = {**asdict(settings), **surroundings(server_version(crew.url))}
        first = orchestrator(crew)
        client = client_of(crew.url)
        try:
            handle = client.get_workflow("awaiting").start(nothing_taken(), 10**9, id=_ID)
            yield line("history.filling", fill(crew, handle, settings), "s", **said)
            yield line("history.orchestrator_rss", rss_mb_of(first.pid), "MB", **said)
            crew.kill(first)
            # Leases of the one that was killed are waited for, and not counted.
            time.sleep(7)
            began = time.time()
            second = orchestrator(crew)
            handle.signal("number", ["s", 0])
            moved = crew.wait_for_moves([handle], [settings.events])[0]
            yield line("history.taken_over", moved - began, "s", **said)
            yield line("history.taken_over_rss", rss_mb_of(second.pid), "MB", **said)
            for name, command in {
                "idle": ["list", "--limit", "1"],
                "list": ["list"],
                "describe": ["describe", _ID],
                "show": ["show", _ID],
                "show_json": ["show", _ID, "--json"],
                "replay": ["replay", _ID],
                "export": ["export", _ID, "-o", folder],
            }.items():
                seconds, megabytes = run(crew, command)
                yield line(f"history.{name}", seconds, "s", **said, peak_mb=round(megabytes))
            yield from forked(crew, client.run("fork"), settings, said)
            yield line("history.forked_rss", rss_mb_of(second.pid), "MB", **said)
        finally:
            client.close()


def forked(
    crew: Crew, fork: RunHandle[Any], settings: HistorySettings, said: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield how long it takes until a fork has the whole history, and one command of the server."""
    with closing(Redis.from_url(crew.url)) as server:
        server.config_set("slowlog-log-slower-than", 1_000)
        server.slowlog_reset()
        began = time.monotonic()
        seconds, megabytes = run(crew, ["fork", _ID, fork.id, "--event-id", str(settings.events)])
        yield line("history.fork", seconds, "s", **said, peak_mb=round(megabytes))
        wait_for(lambda: fork.describe().seq > settings.events, "it is copied", seconds=_FILL_S_MAX)
        yield line("history.forked", time.monotonic() - began, "s", **said)
        longest_us = max(entry["duration"] for entry in server.slowlog_get(100))
        yield line("history.forked_blocked_server", longest_us / 1000, "ms", **said)


def orchestrator(crew: Crew) -> Process:
    """Start an orchestrator, and wait until it owns all."""
    process = crew.spawn("celery", "--quiet", "-A", APP, "orchestrator", "--loglevel", "ERROR")
    crew.wait_for_owners(process)
    return process


def fill(crew: Crew, handle: RunHandle[Any], settings: HistorySettings) -> float:
    """Send as many signals as the history has room for; return the seconds until all are in."""
    began = time.monotonic()
    count = settings.events - 1
    with ThreadPoolExecutor(_SENDERS) as threads:
        shares = [count // _SENDERS + (index < count % _SENDERS) for index in range(_SENDERS)]
        for sending in [threads.submit(_send, crew.url, handle.id, share) for share in shares]:
            sending.result()
    wait_for(
        lambda: crew.seqs([handle])[0] == settings.events, "all is history", seconds=_FILL_S_MAX
    )
    return time.monotonic() - began


def _send(url: str, id: str, count: int) -> None:
    client = client_of(url)
    try:
        handle = client.run(id)
        for number in range(count):
            handle.signal("number", ["s", number])
    finally:
        client.close()


def run(crew: Crew, command: Sequence[str]) -> tuple[float, float]:
    """Run ``workflow …``; return the seconds it took, and the MB it held at most.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    whole = [sys.executable, "-m", "celery", "--quiet", "-A", APP, "workflow", *command]
    began = time.monotonic()
    process = subprocess.Popen(
        whole, env={**os.environ, "BENCHMARK_URL": crew.url}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, whole)
    return time.monotonic() - began, usage.ru_maxrss / 1000
