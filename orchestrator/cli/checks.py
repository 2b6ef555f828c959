"""``celery -A … workflow check``: what is wrong in the source of workflows.

Exit codes: 0 where nothing is found, 1 where something is, 2 where the command line or the
configuration is wrong.
"""

from collections.abc import Sequence
from pathlib import Path

import click
from celery.bin.base import CeleryCommand

from orchestrator.checking.checker import check as find
from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import EXIT_NO, worded
from orchestrator.cli.options import json_flag


@click.command("check", cls=CeleryCommand)
@click.argument("paths", metavar="[PATH]…", nargs=-1, type=click.Path(path_type=Path))
@json_flag
@click.pass_context
@worded
def check(ctx: click.Context, *, paths: Sequence[Path], as_json: bool) -> None:
    """Look in the workflows of this app, and in what they call, for what replay cannot repeat.

    With PATHs, report what lies in these files and folders only.  Nothing is run, and no server is
    needed.  A comment on the line silences a finding: # orc: ignore[ORC101] and the reason.

    Exit code: 0 if nothing is found, 1 if something is, 2 if the command is wrong.
    """
    workflows = orchestrator_of(ctx.obj.app).registry
    findings = find(workflows, paths)
    if as_json:
        tables.print_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            click.echo(str(finding))
        count = f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"
        found = count if findings else "nothing found"
        click.echo(f"{found} in {len(workflows)} workflows and what they call", err=True)
    if findings:
        ctx.exit(EXIT_NO)
