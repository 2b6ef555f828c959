"""``celery -A … workflow drain``: which versions and patches open runs still need."""

from collections.abc import Sequence

import click
from celery.bin.base import CeleryCommand
from rich.table import Table

from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import EXIT_NO, worded
from orchestrator.cli.options import json_flag
from orchestrator.cli.shown import cell, shown
from orchestrator.client.draining import Drain, PatchUse, VersionUse


@click.command("drain", cls=CeleryCommand)
@click.option("--type", "type_", help="Runs of this workflow only.")
@click.option(
    "--patch", "patches", multiple=True, help="Tell of this patch too if no open run has it."
)
@json_flag
@click.pass_context
@worded
def drain(ctx: click.Context, *, type_: str | None, patches: Sequence[str], as_json: bool) -> None:
    """Tell which old code open runs still need: versions of workflows, and branches of patches.

    The histories of all open runs are read; none of their code is run.  Of a version that is not
    needed the function may be removed.  Of a patch that says so the old branch may be deleted,
    with deprecate_patch in the place of patched; or that call as well.

    Exit code: 0, or 1 if a history could not be read: then nothing of its type may be removed.
    """
    found = orchestrator_of(ctx.obj.app).drain(type=type_, patches=patches)
    if as_json:
        tables.print_json(found.as_json())
    else:
        _print(found)
    if found.failed:
        ctx.exit(EXIT_NO)


def _print(found: Drain) -> None:
    console = tables.console()
    console.print(_versions_table(found.versions))
    if found.patches:
        console.print()
        console.print(_patches_table(found.patches))
    for name, count in found.waiting.items():
        click.echo(f"{shown(name)}: {count} runs have not begun yet")
    for workflow_id, reason in found.failed.items():
        click.echo(shown(f"{workflow_id}: its history cannot be read: {reason}"), err=True)


def _versions_table(uses: Sequence[VersionUse]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("WORKFLOW", "VERSION", "OPEN RUNS", "ITS CODE"):
        table.add_column(name, justify="right" if name == "OPEN RUNS" else "left", overflow="fold")
    for use in uses:
        version = use.version or "(none)"
        table.add_row(
            cell(use.workflow),
            cell(f"{version}, default" if use.is_default else version),
            str(use.runs),
            _said_of(use),
        )
    return table


def _said_of(use: VersionUse) -> str:
    if not use.is_here:
        return "is not here, and these runs are blocked" if use.runs else "is not here"
    if use.is_default:
        return "is what new runs begin with"
    return "may be removed" if use.may_be_removed else "is needed"


def _patches_table(uses: Sequence[PatchUse]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("WORKFLOW", "PATCH", "ON NEW", "ON BOTH", "UNKNOWN", "OLD BRANCH", "THE CALL"):
        is_number = name in ("ON NEW", "ON BOTH", "UNKNOWN")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for use in uses:
        table.add_row(
            cell(use.workflow),
            cell(use.patch),
            str(use.marked - use.late),
            str(use.late),
            str(use.unmarked),
            "may be deleted" if use.may_delete_old_branch else "may be needed",
            "may be removed" if use.may_remove_call else "is needed",
        )
    return table
