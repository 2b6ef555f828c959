"""What bounds leases and claims from below: what renewing costs, and how late it comes.

- ``renewals.cost``: processor time of one renewal, for an orchestrator's leases and for a worker's
  claims: the client's, in a pipeline, and the server's.  A lifetime costs three of them.
- ``renewals.late``: how much later than planned a renewal reaches the server, under strain.  A live
  owner loses what it renews when this exceeds two thirds of the lifetime.

The instants are the server's: the expiry that a renewal writes, less the lifetime.
"""

import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.crew import PARTITIONS, Crew, Process, crew_on_server, line, wait_for
from benchmarks.steps import server_version, surroundings
from orchestrator.core import limits
from orchestrator.store.connect import connect
from orchestrator.store.ports import AttemptKey, ClaimAnswer
from orchestrator.store.redis import RedisStore

_LOOK_S = 0.02
_STEPS = 4
#: Runs that together want more of an orchestrator than its thread can give.
_LOADING_RUNS, _LOADING_PAUSE_MS = 300, 10
_BUSY = "while True: pass"
#: Writes and flushes as fast as the disk can.
_FLUSHING = """
import os, sys
block = b"x" * (1 << 24)
with open(sys.argv[1], "wb") as file:
    while True:
        file.seek(0)
        for _ in range(4):
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
"""
#: Stops groups of processes again and again: seconds to stand still, seconds between, their ids.
_PAUSING = """
import os, signal, sys, time
still_s, between_s, *groups = map(float, sys.argv[1:])
while True:
    time.sleep(between_s)
    for number, rest_s in ((signal.SIGSTOP, still_s), (signal.SIGCONT, 0)):
        for group in groups:
            os.killpg(int(group), number)
        time.sleep(rest_s)
"""
#: Between two pauses, in which processes stand still as in a live migration or a debugger.
_PAUSE_EVERY_S = 8.0
#: Lifetimes to compare, at three renewals each.
_TTLS_MS = (1_500, 3_000, 4_500, 6_000, 9_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalsSettings:
    """What is measured; each strain lasts `seconds`, `strains` names some of them or is empty."""

    seconds: float = 40.0
    strains: tuple[str, ...] = ()


def measure_renewals(settings: RenewalsSettings) -> Iterator[dict[str, Any]]:
    """Yield lines: name, value, unit, settings."""
    yield from _costs()
    for name, strain in _STRAINS.items():
        if not settings.strains or name in settings.strains:
            yield from _lateness(name, strain, settings)


# --- what a renewal costs -------------------------------------------------------------------------


def _costs() -> Iterator[dict[str, Any]]:
    with crew_on_server() as crew:
        store = RedisStore(connect(crew.url), partitions=PARTITIONS).open()
        tokens = {partition: secrets.token_hex(8) for partition in range(PARTITIONS)}
        for partition, token in tokens.items():
            assert store.grant_lease(partition, "benchmark", token, ttl_ms=600_000)
        ttl_ms = limits.LEASE_TTL_MS
        yield _cost(crew, "leases", PARTITIONS, partial(store.renew_leases, tokens, ttl_ms=ttl_ms))
        for count in (1, 10, 100, 1000):
            claims = {
                AttemptKey(workflow_id=f"cost-{n}", run=1, step=1, attempt=1): "benchmark"
                for n in range(count)
            }
            for key in claims:
                row = {"1.attempt": 1, "1.state": "claimed", "1.claim": "benchmark/1"}
                crew.redis.hset(crew.keys.steps(key.workflow_id, 1), mapping=row)
            assert set(store.renew(claims, ttl_ms=ttl_ms).values()) == {ClaimAnswer.GRANTED}
            yield _cost(crew, "claims", count, partial(store.renew, claims, ttl_ms=ttl_ms))


def _cost(crew: Crew, what: str, count: int, renew: Callable[[], object]) -> dict[str, Any]:
    renew()
    crew.redis.config_resetstat()
    took_ms = []
    for _ in range(50):
        began = time.process_time()
        renew()
        took_ms.append((time.process_time() - began) * 1000)
    scripts = crew.redis.info("commandstats")["cmdstat_evalsha"]
    return line(
        f"renewals.cost.{what}",
        statistics.median(took_ms),
        "ms of the client's processor per renewal",
        count=count,
        server_ms=round(scripts["usec"] / 1000 / 50, 3),
        **surroundings(server_version(crew.url)),
    )


# --- how late renewals come -----------------------------------------------------------------------


@dataclass(slots=True)
class _Watch:
    """The instants of renewals of each holder, as the server has them."""

    ttl_ms: int
    last: dict[tuple[str, str], int] = field(default_factory=dict)
    gaps_ms: list[int] = field(default_factory=list)

    def see(self, thing: str, holder: str, expiry_ms: int) -> None:
        """Note that `holder` has `thing` until `expiry_ms`."""
        at_ms, before = expiry_ms - self.ttl_ms, self.last.get((thing, holder))
        self.last[thing, holder] = at_ms
        if before is not None and at_ms > before:
            self.gaps_ms.append(at_ms - before)


def _look(crew: Crew, leases: _Watch, claims: _Watch) -> None:
    with crew.redis.pipeline(transaction=False) as pipeline:
        for partition in range(PARTITIONS):
            pipeline.get(crew.keys.lease(partition))
            pipeline.execute_command("PEXPIRETIME", crew.keys.lease(partition))
            pipeline.zrange(crew.keys.claims(partition), 0, -1, withscores=True)
        replies = pipeline.execute()
    for partition in range(PARTITIONS):
        token, expiry_ms, found = replies[3 * partition : 3 * partition + 3]
        if token and expiry_ms > 0:
            leases.see(str(partition), token.decode(), expiry_ms)
        for member, at_ms in found:
            claims.see(member.decode(), "", int(at_ms))


def _lateness(name: str, strain: "Strain", settings: RenewalsSettings) -> Iterator[dict[str, Any]]:
    leases, claims = _Watch(limits.LEASE_TTL_MS), _Watch(limits.CLAIM_TTL_MS)
    with crew_on_server("always" if name == "disk" else "everysec") as crew:
        server = surroundings(server_version(crew.url))
        _watch_under(strain, crew, (leases, claims), settings.seconds)
        lost = {
            "leases": len(leases.last) - PARTITIONS,
            "claims": len(crew.begun()) - _STEPS,
        }
    for what, watch in (("leases", leases), ("claims", claims)):
        every_ms = limits.renew_interval_ms(watch.ttl_ms)
        late = sorted(max(0, gap - every_ms) for gap in watch.gaps_ms)
        print(f"{name}, {what}: {len(late)} renewals, worst {late[-1]} ms", file=sys.stderr)
        yield line(
            f"renewals.late.{what}.{name}",
            late[-1],
            "ms later than planned, the worst",
            median=late[len(late) // 2],
            p99=late[int(0.99 * (len(late) - 1))],
            renewals=len(late),
            lost=lost[what],
            too_late_by_ttl_ms={ttl_ms: _too_late(late, ttl_ms) for ttl_ms in _TTLS_MS},
            ttl_ms=watch.ttl_ms,
            seconds=settings.seconds,
            **server,
        )


def _watch_under(
    strain: "Strain", crew: Crew, watches: tuple[_Watch, _Watch], seconds: float
) -> None:
    """Let two orchestrators and a worker own things under strain, and watch them renew."""
    crew.wait_for_owners(crew.orchestrator(), crew.orchestrator())
    crew.worker("-c", str(_STEPS))
    for n in range(_STEPS):
        crew.start("holding", f"held-{n}", id=f"held-{n}")
    wait_for(lambda: len(crew.begun()) == _STEPS, "all steps hold")
    with strain(crew, list(crew.processes)):
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            _look(crew, *watches)
            time.sleep(_LOOK_S)


def _too_late(late_ms: list[int], ttl_ms: int) -> int:
    """Return how many of these renewals would have met an expired lease of that lifetime."""
    return sum(each > ttl_ms - limits.renew_interval_ms(ttl_ms) for each in late_ms)


#: Puts a machine, or the owners on it, under strain while its context lasts.
Strain = Callable[[Crew, list[Process]], AbstractContextManager[None]]


@contextmanager
def _calm(crew: Crew, owners: list[Process]) -> Iterator[None]:
    yield


def _busy(per_core: int) -> Strain:
    @contextmanager
    def strain(crew: Crew, owners: list[Process]) -> Iterator[None]:
        with ExitStack() as stack:
            for _ in range(per_core * (os.cpu_count() or 1)):
                stack.enter_context(_running([sys.executable, "-c", _BUSY]))
            yield

    return strain


@contextmanager
def _loaded(crew: Crew, owners: list[Process]) -> Iterator[None]:
    for n in range(_LOADING_RUNS):
        crew.start("ticking", _LOADING_PAUSE_MS, id=f"load-{n}")
    yield


@contextmanager
def _loaded_and_busy(crew: Crew, owners: list[Process]) -> Iterator[None]:
    with _loaded(crew, owners), _busy(4)(crew, owners):
        yield


@contextmanager
def _disk(crew: Crew, owners: list[Process]) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        for n in range(4):
            stack.enter_context(_running([sys.executable, "-c", _FLUSHING, f"{directory}/{n}"]))
        with _loaded(crew, owners):
            yield


def _paused(pause_s: float) -> Strain:
    @contextmanager
    def strain(crew: Crew, owners: list[Process]) -> Iterator[None]:
        pids = [str(process.pid) for process in owners]
        command = [sys.executable, "-c", _PAUSING, str(pause_s), str(_PAUSE_EVERY_S), *pids]
        try:
            with _running(command):
                yield
        finally:
            for process in owners:
                os.killpg(process.pid, signal.SIGCONT)

    return strain


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


_STRAINS: dict[str, Strain] = {
    "calm": _calm,
    "busy_4_per_core": _busy(4),
    "busy_16_per_core": _busy(16),
    "loaded": _loaded,
    "loaded_and_busy_4_per_core": _loaded_and_busy,
    "disk": _disk,
    "paused_3_s": _paused(3.0),
    "paused_5_s": _paused(5.0),
}
