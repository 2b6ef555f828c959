"""Command line of the benchmarks."""

import json

import click

from benchmarks.history import HistorySettings, measure_history
from benchmarks.idle import IdleSettings, measure_idle
from benchmarks.renewals import RenewalsSettings, measure_renewals
from benchmarks.signals import SignalsSettings, measure_signals
from benchmarks.steps import StepsSettings, measure_steps
from benchmarks.takeover import TakeoverSettings, measure_takeover
from benchmarks.training import TrainingSettings, measure_training
from orchestrator.core import limits


@click.group()
def main() -> None:
    """Measure the orchestrator against plain Celery on this machine."""


@main.command()
@click.option("--workflows", default=500, show_default=True, help="Started at once by one client.")
@click.option("--steps", default=5, show_default=True, help="No-op steps in each, one by one.")
@click.option("--concurrency", default=2, show_default=True, help="Prefork children of the worker.")
@click.option("--orchestrators", default=1, show_default=True, help="Orchestrator processes.")
@click.option("--rounds", default=3, show_default=True, help="Of both sides, taking turns.")
@click.option(
    "--fsync", type=click.Choice(["everysec", "always"]), default="everysec", show_default=True
)
@click.option("--side", type=click.Choice(["both", "chain", "orchestrator"]), default="both")
def steps(**options: int | str) -> None:
    """Time workflows of no-op steps, and plain Celery chains of as many tasks."""
    for line in measure_steps(StepsSettings(**options)):  # type: ignore[arg-type]
        click.echo(json.dumps(line))


@main.command()
@click.option("--repeats", default=8, show_default=True, help="Of each kind of end.")
@click.option("--runs", default=48, show_default=True, help="That move all the time.")
@click.option("--steps", default=4, show_default=True, help="Running in the worker that is killed.")
@click.option("--seed", default=1, show_default=True, help="Of the moments of the kills.")
def takeover(**options: int) -> None:
    """Time how long work rests after kills and stops of workers and orchestrators."""
    for line in measure_takeover(TakeoverSettings(**options)):
        click.echo(json.dumps(line))


@main.command()
@click.option("--seconds", default=40.0, show_default=True, help="Of each strain.")
@click.option("--strain", "strains", multiple=True, help="Only these; else all.")
def renewals(seconds: float, strains: tuple[str, ...]) -> None:
    """Measure what renewing leases and claims costs, and how late it comes under strain."""
    for line in measure_renewals(RenewalsSettings(seconds=seconds, strains=strains)):
        click.echo(json.dumps(line))


@main.command()
@click.option("--runs", multiple=True, type=int, default=(0, 1_000, 10_000, 20_000))
@click.option("--cache", "caches", multiple=True, type=int, default=(limits.RUN_CACHE_MAX, 100))
@click.option("--seconds", default=30.0, show_default=True, help="Of rest.")
def idle(runs: tuple[int, ...], caches: tuple[int, ...], seconds: float) -> None:
    """Measure what an orchestrator costs that only keeps open runs."""
    for line in measure_idle(IdleSettings(runs=runs, caches=caches, seconds=seconds)):
        click.echo(json.dumps(line))


@main.command()
@click.option("--events", default=49_990, show_default=True, help="In the history.")
def history(**options: int) -> None:
    """Measure what a long history costs: taking over, replaying, showing, exporting."""
    for line in measure_history(HistorySettings(**options)):
        click.echo(json.dumps(line))


@main.command()
@click.option("--rate", default=1_000, show_default=True, help="Signals a second, of all senders.")
@click.option("--seconds", default=30.0, show_default=True, help="Of sending.")
@click.option("--senders", default=4, show_default=True, help="Threads, each with its client.")
@click.option("--per-run", default=500, show_default=True, help="Signals in each run of the chain.")
@click.option("--take", type=click.Choice(["awaiting", "handling"]), default="awaiting")
def signals(**options: float | str) -> None:
    """Send numbered signals to a run that continues as new, and look for lost ones."""
    for line in measure_signals(SignalsSettings(**options)):  # type: ignore[arg-type]
        click.echo(json.dumps(line))


@main.command()
@click.option("--epochs", default=40, show_default=True, help="Of each run.")
@click.option(
    "--rounds", default=3, show_default=True, help="Of each way of putting them in tasks."
)
@click.option("--megabytes", default=100, show_default=True, help="Of the state that is saved.")
@click.option("--saves", default=5, show_default=True, help="Of that state, either way.")
def training(**options: int) -> None:
    """Measure what an epoch costs beyond its compute, and how long a save keeps it waiting."""
    for line in measure_training(TrainingSettings(**options)):  # type: ignore[arg-type]
        click.echo(json.dumps(line))


if __name__ == "__main__":
    main()
