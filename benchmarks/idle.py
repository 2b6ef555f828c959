"""What an orchestrator costs that has nothing to do but to keep open runs.

- ``idle.cpu``, ``idle.rss``: one orchestrator, after it has taken over so many open runs, each
  waiting for a signal or for a timer far away; and ``idle.calls``: what it asks of the server.
- ``idle.rss_started``: the same for the orchestrator that started them, whose cache is full.
- ``idle.ready``: from its start to the orchestrator holding all partitions, over so many open runs.
- ``idle.due``: as many timers that fall due at once: until all have fired, and how late the latest
  renewal of a lease came meanwhile.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.crew import (
    PARTITIONS,
    Crew,
    Process,
    cpu_s_of,
    crew_on_server,
    line,
    rss_mb_of,
    wait_for,
)
from benchmarks.steps import server_version, surroundings
from orchestrator.core import limits

#: A timer that is not due while anybody measures.
_FAR_AWAY_S = 30 * 86_400.0
_STARTED_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleSettings:
    """What is measured; `caches` are sizes of the run cache."""

    runs: tuple[int, ...] = (0, 1_000, 10_000, 20_000)
    caches: tuple[int, ...] = (limits.RUN_CACHE_MAX, 100)
    seconds: float = 30.0


def measure_idle(settings: IdleSettings) -> Iterator[dict[str, Any]]:
    """Yield lines: name, value, unit, settings."""
    for runs in settings.runs:
        for cache in settings.caches:
            yield from _keep_open(runs, cache, settings)
    for runs in settings.runs:
        if runs:
            yield from _due_at_once(runs)


def _keep_open(runs: int, cache: int, settings: IdleSettings) -> Iterator[dict[str, Any]]:
    with crew_on_server() as crew:
        server = surroundings(server_version(crew.url))
        about: dict[str, Any] = {"open_runs": runs, "run_cache_max": cache, **server}
        starter = _orchestrator(crew, cache)
        crew.wait_for_owners(starter)
        for n in range(runs):
            if n % 2:
                crew.start("waiting", id=f"open-{n}")
            else:
                crew.start("sleeping", _FAR_AWAY_S, id=f"open-{n}")
        wait_for(lambda: _settled(crew, runs), "all runs wait", seconds=_STARTED_WITHIN_S)
        yield line("idle.rss_started", rss_mb_of(starter.pid), "MB", **about)
        starter.terminate()
        starter.wait()
        began_s = time.time()
        heir = _orchestrator(crew, cache)
        yield line("idle.ready", crew.wait_for_owners(heir) - began_s, "s", **about)
        yield from _rest(crew, heir, settings.seconds, about)


def _orchestrator(crew: Crew, cache: int) -> Process:
    return crew.spawn("benchmarks.small_cache", str(cache))


def _settled(crew: Crew, runs: int) -> bool:
    """Return whether nothing lies in an inbox, and as many runs are open."""
    with crew.redis.pipeline(transaction=False) as pipeline:
        for partition in range(PARTITIONS):
            pipeline.xlen(crew.keys.inbox(partition))
            pipeline.zcard(crew.keys.open(partition))
        replies = pipeline.execute()
    return [sum(replies[::2]), sum(replies[1::2])] == [0, runs]


def _rest(
    crew: Crew, process: Process, seconds: float, about: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    crew.redis.config_resetstat()
    began_s, used_s = time.monotonic(), cpu_s_of(process.pid)
    time.sleep(seconds)
    lasted_s = time.monotonic() - began_s
    used_s = cpu_s_of(process.pid) - used_s
    calls = crew.redis.info("commandstats")
    asked = sum(stats["calls"] for stats in calls.values())
    yield line("idle.cpu", 100 * used_s / lasted_s, "% of a core", seconds=seconds, **about)
    yield line("idle.calls", asked / lasted_s, "commands/s, scripts' own included", **about)
    yield line("idle.rss", rss_mb_of(process.pid), "MB", **about)


def _due_at_once(runs: int) -> Iterator[dict[str, Any]]:
    """Let as many sleeps fall due while there is no orchestrator; then start one."""
    with crew_on_server() as crew:
        about = {"timers": runs, **surroundings(server_version(crew.url))}
        starter = _orchestrator(crew, limits.RUN_CACHE_MAX)
        for n in range(runs):
            crew.start("sleeping", _FAR_AWAY_S, id=f"due-{n}")
        wait_for(lambda: _settled(crew, runs), "all runs sleep", seconds=_STARTED_WITHIN_S)
        starter.terminate()
        starter.wait()
        _make_due(crew)
        heir = _orchestrator(crew, limits.RUN_CACHE_MAX)
        crew.wait_for_owners(heir)
        began_s, shortest_ms = time.time(), float(limits.LEASE_TTL_MS)
        rss_mb = 0.0

        def look() -> bool:
            nonlocal shortest_ms, rss_mb
            left = [crew.redis.pttl(crew.keys.lease(p)) for p in range(PARTITIONS)]
            shortest_ms = min(shortest_ms, *left)
            rss_mb = max(rss_mb, rss_mb_of(heir.pid))
            return _settled(crew, 0)

        took_s = wait_for(look, "all timers fire", seconds=_STARTED_WITHIN_S) - began_s
        yield line("idle.due", took_s, "s until all had fired", **about)
        yield line("idle.due.lease_left", shortest_ms, "ms, the least a lease had left", **about)
        yield line("idle.due.rss", rss_mb, "MB", **about)


def _make_due(crew: Crew) -> None:
    """Move every timer to the past: what a long absence of all orchestrators amounts to."""
    for partition in range(PARTITIONS):
        key = crew.keys.timers(partition)
        members = crew.redis.zrange(key, 0, -1)
        if members:
            crew.redis.zadd(key, dict.fromkeys(members, 1))
