"""How long work rests after a death, on real processes: each figure a distribution over repeats.

- ``worker_killed``: from SIGKILL of a worker (all its processes) to its running steps being entered
  on another one, under the default retry policy.
- ``only_orchestrator_killed``: from the start of another orchestrator, right after the SIGKILL of
  the only one, to every run having moved.
- ``one_of_two_killed``: from the SIGKILL to every run of its partitions having moved.
- ``one_of_two_stopped``: from SIGTERM to the other holding all partitions (``held``), to the
  stopped process's end (``ended``), and to every run having moved after both (``moved``).
- ``idle_one_stopped``: the same where no run moves, so that both rest in their reads.

The phase of the renewals at the kill is drawn anew for each repeat.
"""

import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.crew import Crew, crew_on_server, line, wait_for
from benchmarks.steps import server_version, surroundings
from orchestrator import RunHandle
from orchestrator.core import limits

#: Longest time drawn between readiness and kill: one whole interval of renewals.
_PHASE_S = limits.LEASE_TTL_MS / 1000
_TICK_MS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeoverSettings:
    """What is measured: `runs` tick over all partitions, `steps` hold in the worker."""

    repeats: int = 8
    runs: int = 48
    steps: int = 4
    seed: int = 1


def measure_takeover(settings: TakeoverSettings) -> Iterator[dict[str, Any]]:
    """Yield lines: name, value (the median over all samples), unit, settings with the rest."""
    for measure in _MEASURES:
        with crew_on_server() as crew:
            server = surroundings(server_version(crew.url))
            rng = random.Random(settings.seed)  # noqa: S311 - moments of kills
            samples = measure(crew, settings, rng)
        for name, values in samples.items():
            yield line(
                f"takeover.{name}",
                statistics.median(values),
                "s",
                **server,
                min=round(min(values), 2),
                p90=round(sorted(values)[int(0.9 * (len(values) - 1) + 0.5)], 2),
                max=round(max(values), 2),
                samples=len(values),
                lease_ttl_ms=limits.LEASE_TTL_MS,
                claim_ttl_ms=limits.CLAIM_TTL_MS,
            )


def _say(name: str, repeat: int, **values: float) -> None:
    told = ", ".join(f"{key} {value:.2f} s" for key, value in values.items())
    print(f"{name} {repeat + 1}: {told}", file=sys.stderr)


def _worker_killed(
    crew: Crew, settings: TakeoverSettings, rng: random.Random
) -> dict[str, list[float]]:
    crew.wait_for_owners(crew.orchestrator())
    victim = crew.worker("-c", str(settings.steps))
    rests: list[float] = []
    for repeat in range(settings.repeats):
        names = [f"held-{repeat}-{n}" for n in range(settings.steps)]
        for name in names:
            crew.start("holding", name, id=name)
        _entered(crew, names, attempt=1)
        heir = crew.worker("-c", str(settings.steps))
        time.sleep(rng.uniform(0, _PHASE_S))
        killed_at = crew.kill(victim)
        again = [at_s - killed_at for at_s in _entered(crew, names, attempt=2)]
        _say("worker killed", repeat, first=min(again), last=max(again))
        rests += again
        victim = heir
    return {"worker_killed": rests}


def _entered(crew: Crew, names: list[str], *, attempt: int) -> list[float]:
    """Wait until that attempt of every step was entered; return when."""
    instants: dict[str, float] = {}

    def look() -> bool:
        for entry in crew.begun():
            if entry["name"] in names and entry["attempt"] == attempt:
                instants[entry["name"]] = entry["at_s"]
        return len(instants) == len(names)

    wait_for(look, f"attempt {attempt} of each step")
    return list(instants.values())


def _ticking(crew: Crew, settings: TakeoverSettings) -> list[RunHandle[Any]]:
    """Start the runs that tick, and wait until each has moved."""
    handles = [crew.start("ticking", _TICK_MS, id=f"tick-{n}") for n in range(settings.runs)]
    crew.wait_for_moves(handles, [1] * len(handles))
    return handles


def _only_killed(
    crew: Crew, settings: TakeoverSettings, rng: random.Random
) -> dict[str, list[float]]:
    only = crew.orchestrator()
    handles = _ticking(crew, settings)
    rests: list[float] = []
    for repeat in range(settings.repeats):
        crew.wait_for_owners(only)
        time.sleep(rng.uniform(0, _PHASE_S))
        crew.kill(only)
        since = crew.seqs(handles)
        started_at = time.time()
        only = crew.orchestrator()
        moved = [at_s - started_at for at_s in crew.wait_for_moves(handles, since)]
        _say("only orchestrator killed", repeat, first=min(moved), last=max(moved))
        rests.append(max(moved))
    return {"only_orchestrator_killed": rests}


def _one_of_two_killed(
    crew: Crew, settings: TakeoverSettings, rng: random.Random
) -> dict[str, list[float]]:
    victim, other = crew.orchestrator(), crew.orchestrator()
    handles = _ticking(crew, settings)
    rests: list[float] = []
    for repeat in range(settings.repeats):
        crew.wait_for_owners(victim, other)
        time.sleep(rng.uniform(0, _PHASE_S))
        killed_at = crew.kill(victim)
        moved = crew.wait_for_moves(handles, crew.seqs(handles))
        rests.append(max(moved) - killed_at)
        _say("one of two killed", repeat, last=rests[-1])
        victim, other = other, crew.orchestrator()
    return {"one_of_two_killed": rests}


def _one_of_two_stopped(
    crew: Crew, settings: TakeoverSettings, rng: random.Random
) -> dict[str, list[float]]:
    victim, other = crew.orchestrator(), crew.orchestrator()
    handles = _ticking(crew, settings)
    ended, held, moved = [], [], []
    for repeat in range(settings.repeats):
        crew.wait_for_owners(victim, other)
        time.sleep(rng.uniform(0, _PHASE_S))
        stopped_at = time.time()
        victim.terminate()
        held.append(crew.wait_for_owners(other) - stopped_at)
        victim.wait()
        ended.append(time.time() - stopped_at)
        since = crew.seqs(handles)
        moved.append(max(crew.wait_for_moves(handles, since)) - stopped_at)
        _say("one of two stopped", repeat, held=held[-1], ended=ended[-1], moved=moved[-1])
        victim, other = other, crew.orchestrator()
    return {
        "one_of_two_stopped.held": held,
        "one_of_two_stopped.ended": ended,
        "one_of_two_stopped.moved": moved,
    }


def _idle_one_stopped(
    crew: Crew, settings: TakeoverSettings, rng: random.Random
) -> dict[str, list[float]]:
    victim, other = crew.orchestrator(), crew.orchestrator()
    held, ended = [], []
    for repeat in range(2 * settings.repeats):
        crew.wait_for_owners(victim, other)
        time.sleep(rng.uniform(0, 1))
        stopped_at = time.time()
        victim.terminate()
        held.append(crew.wait_for_owners(other) - stopped_at)
        victim.wait()
        ended.append(time.time() - stopped_at)
        _say("idle one stopped", repeat, held=held[-1], ended=ended[-1])
        victim, other = other, crew.orchestrator()
    return {"idle_one_stopped.held": held, "idle_one_stopped.ended": ended}


_MEASURES = (
    _worker_killed,
    _only_killed,
    _one_of_two_killed,
    _one_of_two_stopped,
    _idle_one_stopped,
)
