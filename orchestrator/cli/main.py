"""``orchestrator``: everything on one machine, and the guided tour."""

import sys
from importlib import import_module

import click

from orchestrator import __version__
from orchestrator.cli import dev as stack
from orchestrator.cli.errors import worded


@click.group()
@click.version_option(__version__, prog_name="orchestrator")
def main() -> None:
    """Durable workflows beside Celery workers."""


@main.command()
@click.option("-A", "--app", "app_name", required=True, help="The Celery app, as for celery -A.")
@click.option("-c", "--concurrency", default=2, show_default=True, type=click.IntRange(1))
@click.option("--orchestrators", default=1, show_default=True, type=click.IntRange(1))
@click.option("-l", "--loglevel", default="INFO", show_default=True)
@worded
def dev(*, app_name: str, concurrency: int, orchestrators: int, loglevel: str) -> None:
    """Run a worker, an orchestrator and, if none answers, a Valkey; until Ctrl-C."""
    stack.run(
        app_name, concurrency=concurrency, orchestrators=orchestrators, loglevel=loglevel.upper()
    )


@main.command()
@click.option("--keep", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
def demo(*, keep: bool) -> None:
    """Take the guided tour."""
    # Looked up here: the tour brings the whole engine along.
    sys.exit(import_module("orchestrator.cli.demo").run(*(["--keep"] if keep else [])))


if __name__ == "__main__":
    main()
