"""``celery -A … workflow step``: one outstanding step in an operator's hands."""

import getpass
from collections.abc import Callable
from typing import Any

import click
from celery.bin.base import CeleryCommand

from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import worded
from orchestrator.client.step_handle import StepHandle


@click.group(name="step")
def step() -> None:
    """Pause, unpause or reset an outstanding step."""


def _about_a_step(function: Callable[..., None]) -> Callable[..., None]:
    """Add what all three take: the run, the step, the reason and the name."""
    for decorate in (
        click.option("--run", type=click.IntRange(1), help="Which run of the id; else the latest."),
        click.option("--by", default=getpass.getuser, show_default="you", help="Who decided."),
        click.option("--reason", default="", help="Goes into the history."),
        click.argument("number", metavar="STEP", type=click.IntRange(1)),
        click.argument("workflow_id", metavar="ID"),
    ):
        function = decorate(function)
    return function


def _handle(ctx: click.Context, workflow_id: str, run: int | None, number: int) -> StepHandle:
    return orchestrator_of(ctx.obj.app).run(workflow_id, run).step(number)


@step.command("pause", cls=CeleryCommand)
@_about_a_step
@click.pass_context
@worded
def pause(
    ctx: click.Context, *, workflow_id: str, run: int | None, number: int, **why: Any
) -> None:
    """Send no further attempt at STEP of run ID; one that runs goes on, and its outcome counts."""
    _handle(ctx, workflow_id, run, number).pause(**why)
    click.echo(f"{workflow_id} step {number}: pause")


@step.command("unpause", cls=CeleryCommand)
@_about_a_step
@click.pass_context
@worded
def unpause(
    ctx: click.Context, *, workflow_id: str, run: int | None, number: int, **why: Any
) -> None:
    """Send the next attempt at STEP of run ID at once, unless one runs."""
    _handle(ctx, workflow_id, run, number).unpause(**why)
    click.echo(f"{workflow_id} step {number}: unpause")


@step.command("reset", cls=CeleryCommand)
@_about_a_step
@click.pass_context
@worded
def reset(
    ctx: click.Context, *, workflow_id: str, run: int | None, number: int, **why: Any
) -> None:
    """Count the attempts at STEP of run ID from 1 again, and end its back-off."""
    _handle(ctx, workflow_id, run, number).reset(**why)
    click.echo(f"{workflow_id} step {number}: reset")
