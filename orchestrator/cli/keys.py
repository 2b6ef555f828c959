"""``celery -A … workflow shred`` and ``rotate-keys``: what is done to the keys of payloads."""

import click
from celery.bin.base import CeleryCommand

from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import worded
from orchestrator.cli.options import id_argument, run_option


@click.command("shred", cls=CeleryCommand)
@id_argument
@run_option
@click.confirmation_option(prompt="Its payloads will be unreadable for good. Go on?")
@click.pass_context
@worded
def shred(ctx: click.Context, *, workflow_id: str, run: int | None) -> None:
    """Make the payloads of an ended run unreadable; its history verifies as before."""
    done = orchestrator_of(ctx.obj.app).shred(workflow_id, run)
    click.echo(
        f"{workflow_id} run {done.key.run}: "
        + ("shredded" if done.was_readable else "was shredded before")
        + f", {done.blobs} blobs deleted"
    )


@click.command("rotate-keys", cls=CeleryCommand)
@click.pass_context
@worded
def rotate_keys(ctx: click.Context) -> None:
    """Wrap all data keys under the current master key; payloads are left as they are."""
    rotated, known = orchestrator_of(ctx.obj.app).rotate_keys()
    click.echo(f"{rotated} of {known} data keys wrapped anew")
