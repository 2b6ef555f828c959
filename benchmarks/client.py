"""The client of one round, in a process of its own: starts everything, waits for everything.

    python -m benchmarks.client chain --workflows 500 --steps 5

Prints one JSON object: seconds from the first start to the last completion, and how many of them
went by until the last start was accepted.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import click

#: The first workflow waits for worker and orchestrator to come up.
WARM_UP_SECONDS_MAX = 60
ROUND_SECONDS_MAX = 600
WARM_UPS = 20

#: Starts one workflow of so many steps, under an id; returns what waits for its end, in seconds.
Start = Callable[[str, int], Callable[[float], object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round took."""

    seconds: float
    starting_seconds: float


def chain_starter() -> Start:
    """Return how a plain Celery chain is started and waited for."""
    from celery import chain

    from benchmarks.chain_app import nothing

    def start(_: str, steps: int) -> Callable[[float], object]:
        result = chain([nothing.si() for _ in range(steps)]).apply_async()
        return lambda seconds: result.get(timeout=seconds)

    return start


def orchestrator_starter() -> Start:
    """Return how a workflow is started and waited for."""
    from benchmarks.steps_app import steps as workflow

    def start(name: str, steps: int) -> Callable[[float], object]:
        handle = workflow.start(steps, id=name)
        return lambda seconds: handle.result(timeout=seconds)

    return start


def run_round(start: Start, *, workflows: int, steps: int) -> Round:
    """Warm both ends up, then time `workflows` of `steps` each."""
    for wait in [start(f"warm-up-{index}", steps) for index in range(WARM_UPS)]:
        wait(WARM_UP_SECONDS_MAX)
    began = time.perf_counter()
    waits = [start(f"round-{index}", steps) for index in range(workflows)]
    started = time.perf_counter()
    for wait in waits:
        wait(ROUND_SECONDS_MAX)
    ended = time.perf_counter()
    return Round(seconds=ended - began, starting_seconds=started - began)


@click.command()
@click.argument("side", type=click.Choice(["chain", "orchestrator"]))
@click.option("--workflows", type=int, required=True)
@click.option("--steps", type=int, required=True)
def main(side: str, workflows: int, steps: int) -> None:
    """Run one round and print what it took."""
    start = chain_starter() if side == "chain" else orchestrator_starter()
    click.echo(json.dumps(asdict(run_round(start, workflows=workflows, steps=steps))))


if __name__ == "__main__":
    main()
