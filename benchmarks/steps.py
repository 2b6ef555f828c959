"""How much a durable step costs, against a task of a plain Celery chain.

Both sides get the same Valkey build with the same fsync setting, on a fresh directory, and the same
worker settings.  They take turns, and change the order from round to round, so that a machine that
slows down does not favour one.  The figures are medians over the rounds.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import redis

from benchmarks.processes import running
from orchestrator.embedded import EmbeddedServer

APPS = {"chain": "benchmarks.chain_app", "orchestrator": "benchmarks.steps_app"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsSettings:
    """What is measured; `fsync` is the server's appendfsync."""

    workflows: int = 500
    steps: int = 5
    concurrency: int = 2
    orchestrators: int = 1
    rounds: int = 3
    fsync: Literal["everysec", "always"] = "everysec"
    side: str = "both"


def measure_steps(settings: StepsSettings) -> Iterator[dict[str, Any]]:
    """Yield one line per side: name, value, unit, settings, ratio.

    The ratio is orchestrator by chain, of the medians; None where only one side was measured.
    """
    sides = list(APPS) if settings.side == "both" else [settings.side]
    steps = settings.workflows * settings.steps
    rates: dict[str, list[float]] = {side: [] for side in sides}
    server = ""
    for index in range(settings.rounds):
        for side in sides if index % 2 == 0 else reversed(sides):
            seconds, server = run_side(side, settings)
            rates[side].append(steps / seconds)
            print(f"round {index + 1}, {side}: {seconds:.2f} s", file=sys.stderr)
    medians = {side: statistics.median(rates[side]) for side in sides}
    ratio = medians["orchestrator"] / medians["chain"] if len(sides) > 1 else None
    for side in sides:
        yield {
            "name": f"steps.{side}",
            "value": round(medians[side], 1),
            "unit": "steps/s",
            "settings": {
                **asdict(settings),
                **surroundings(server),
                "rounds_steps_per_s": [round(rate, 1) for rate in rates[side]],
            },
            "ratio": round(ratio, 3) if ratio is not None else None,
        }


def run_side(side: str, settings: StepsSettings) -> tuple[float, str]:
    """Run one round of a side on a server of its own; return seconds, and the server's version."""
    app = APPS[side]
    celery = ["celery", "--quiet", "-A", app]
    quietly = ["--loglevel", "WARNING"]
    pool = ["--pool", "prefork", "--concurrency", str(settings.concurrency)]
    commands = [[*celery, "worker", *pool, *quietly]]
    if side == "orchestrator":
        commands += [[*celery, "orchestrator", *quietly]] * settings.orchestrators
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedServer(Path(directory), fsync=settings.fsync) as server,
    ):
        environment = {"BENCHMARK_URL": server.url}
        with running(commands, environment):
            return run_client(side, settings, environment), server_version(server.url)


def run_client(side: str, settings: StepsSettings, environment: dict[str, str]) -> float:
    """Run the client of a round; return the seconds it measured."""
    client = [sys.executable, "-m", "benchmarks.client", side]
    client += ["--workflows", str(settings.workflows), "--steps", str(settings.steps)]
    run = subprocess.run(
        client, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(json.loads(run.stdout)["seconds"])


def server_version(url: str) -> str:
    """Return the server's name and version, as it says itself."""
    with redis.Redis.from_url(url, protocol=2) as client:
        info = client.info("server")
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version', info['redis_version'])}"


def surroundings(server: str) -> dict[str, str | int]:
    """Return what else a figure depends on."""
    return {
        "server": server,
        "python": platform.python_version(),
        "celery": version("celery"),
        "redis_py": version("redis"),
        "cpus": os.cpu_count() or 0,
        "pool": "prefork",
    }
