"""A server and the processes of one benchmark, killed and replaced at will, seen from outside."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import redis
from celery import Celery

from benchmarks import takeover_app as measured
from benchmarks.processes import STOP_SECONDS_MAX
from orchestrator import Orchestrator, RunHandle
from orchestrator.embedded import EmbeddedServer
from orchestrator.store.keys import Keys

APP = "benchmarks.takeover_app"
PARTITIONS = 16
#: Longest wait for anything; a benchmark that needs it has failed.
WAIT_S_MAX = 120.0
_LOOK_S = 0.005

Process = subprocess.Popen[bytes]


def wait_for(look: Callable[[], bool], what: str, *, seconds: float = WAIT_S_MAX) -> float:
    """Wait until `look` is true; return that instant, of `time.time`.

    Raises:
        TimeoutError: It did not come true; `what` was waited for.
    """
    give_up_at = time.monotonic() + seconds
    while not look():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(_LOOK_S)
    return time.time()


class Crew:
    """Made by `crew_on_server`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis: Any = redis.Redis.from_url(url, protocol=2)
        self.keys = Keys("orc", PARTITIONS)
        self.processes: list[Process] = []
        self._orc = Orchestrator(Celery("client", broker=url, set_as_current=False))
        for name in measured.orc.registry:
            function = measured.orc.get_workflow(name).__wrapped__  # type: ignore[attr-defined]
            self._orc.workflow(name=name)(function)

    def start(self, workflow: str, *args: Any, id: str) -> RunHandle[Any]:
        """Start a run through the public interface."""
        return self._orc.get_workflow(workflow).start(*args, id=id)

    def spawn(self, *arguments: str) -> Process:
        """Start ``python -m`` with these arguments, in a process group of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**os.environ, "BENCHMARK_URL": self.url},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # Ours is for the figures alone.
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def orchestrator(self) -> Process:
        """Start an orchestrator; it owns nothing yet."""
        return self.spawn("celery", "--quiet", "-A", APP, "orchestrator", "--loglevel", "ERROR")

    def worker(self, *options: str) -> Process:
        """Start a worker, and wait until it takes messages."""
        ready = self.redis.llen(measured.READY)
        quiet = ["--loglevel", "CRITICAL", "--without-gossip", "--without-mingle"]
        name = ["-n", f"w{len(self.processes)}@benchmark"]
        process = self.spawn("celery", "--quiet", "-A", APP, "worker", *quiet, *name, *options)
        wait_for(lambda: self.redis.llen(measured.READY) > ready, "the worker is ready")
        return process

    def kill(self, process: Process) -> float:
        """SIGKILL to the whole group; return the instant before it."""
        at_s = time.time()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return at_s

    def end(self) -> None:
        """Kill whatever is left."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.kill(process)
        self._orc.close()
        self.redis.close()

    # --- seen from outside -----------------------------------------------------------------------

    def begun(self) -> list[dict[str, Any]]:
        """Return name, attempt and instant of every body that was entered."""
        return [json.loads(entry) for entry in self.redis.lrange(measured.BEGUN, 0, -1)]

    def seqs(self, handles: list[RunHandle[Any]]) -> list[int]:
        """Return the number of the last event of each run."""
        with self.redis.pipeline(transaction=False) as pipeline:
            for handle in handles:
                pipeline.hget(self.keys.row(handle.id), "seq")
            return [int(seq or 0) for seq in pipeline.execute()]

    def wait_for_moves(self, handles: list[RunHandle[Any]], since: list[int]) -> list[float]:
        """Wait until each run has got a further event; return when that was seen, by run."""
        seen = [0.0] * len(handles)

        def look() -> bool:
            now_s = time.time()
            for index, seq in enumerate(self.seqs(handles)):
                if not seen[index] and seq > since[index]:
                    seen[index] = now_s
            return all(seen)

        wait_for(look, "every run moves")
        return seen

    def owners(self) -> Counter[int]:
        """Return how many partitions each process id holds."""
        names = self.redis.mget([self.keys.lease(p) for p in range(PARTITIONS)])
        holders = [name.decode().rpartition("/")[0] for name in names if name]
        return Counter(int(holder.rsplit("-", 2)[1]) for holder in holders)

    def wait_for_owners(self, *processes: Process) -> float:
        """Wait until these, and no others, hold all partitions in equal shares."""

        def look() -> bool:
            owners = self.owners()
            shares = [owners[process.pid] for process in processes]
            return sum(shares) == PARTITIONS and max(shares) - min(shares) <= 1

        return wait_for(look, "the partitions are shared out")


@contextmanager
def crew_on_server(fsync: Literal["everysec", "always"] = "everysec") -> Iterator[Crew]:
    """Yield a crew on a fresh server; nothing of either outlives the block."""
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedServer(Path(directory), fsync=fsync) as server,
    ):
        crew = Crew(server.url)
        try:
            yield crew
        finally:
            crew.end()


def cpu_s_of(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb_of(pid: int) -> float:
    """Return the memory that a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def line(name: str, value: float, unit: str, **settings: object) -> dict[str, Any]:
    """Return one line of output; `value` keeps one decimal where it has any sense."""
    return {"name": name, "value": round(value, 2), "unit": unit, "settings": settings}
