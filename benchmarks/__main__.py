"""Command line of the benchmarks."""

import json

import click

from benchmarks.steps import StepsSettings, measure_steps


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


if __name__ == "__main__":
    main()
