"""``celery -A … workflow export`` and ``replay``: histories out of the store, and against code.

Exit codes of ``replay``: 0 where the code fits every history, 1 where it does not fit one (or one
could not be read), 2 where the command line or the configuration is wrong.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from celery.bin.base import CeleryCommand
from rich.table import Table

from orchestrator.app import Orchestrator
from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import EXIT_NO, EXIT_WRONG, Refusal, worded
from orchestrator.cli.options import json_flag, run_option
from orchestrator.cli.shown import cell, shown, shown_page
from orchestrator.client.history_file import SUFFIX
from orchestrator.replaying.replayer import Replayer, jobs_default
from orchestrator.replaying.results import ReplayReport, ReplayStatus
from orchestrator.replaying.words import in_words

#: An exported history is what it is, byte by byte: what payloads hold, a terminal would obey.
_NOT_FOR_TERMINALS = "a history is not for a terminal: name a file with -o, or send it down a pipe"
_COLOURS = {ReplayStatus.FITS: "green"}


@click.command("export", cls=CeleryCommand)
@click.argument("workflow_id", metavar="ID", required=False)
@run_option
@click.option("--open", "only_open", is_flag=True, help="Every open run, into the folder -o.")
@click.option("--type", "type_", help="With --open: runs of this workflow only.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File or folder; else standard output.",
)
@click.pass_context
@worded
def export(
    ctx: click.Context,
    *,
    workflow_id: str | None,
    run: int | None,
    only_open: bool,
    type_: str | None,
    output: Path | None,
) -> None:
    """Write the history of run ID as JSON Lines, for `replay` and for auditors.

    The payloads are in it: replay needs them.  Treat the file like the data of the runs.
    """
    if only_open == (workflow_id is not None):
        raise click.UsageError("name one run by its ID, or all open ones by --open")
    if type_ is not None and not only_open:
        raise click.UsageError("--type goes with --open")
    if run is not None and only_open:
        raise click.UsageError("--run goes with an ID")
    orchestrator = orchestrator_of(ctx.obj.app)
    try:
        if workflow_id is None:
            _export_open(ctx, orchestrator, type_, output)
        elif output is None:
            if _is_terminal():
                raise Refusal(_NOT_FOR_TERMINALS, EXIT_WRONG)
            orchestrator.run(workflow_id, run).export_lines(sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
        else:
            click.echo(orchestrator.run(workflow_id, run).export(output))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Refusal(f"cannot write {error.filename or output}: {reason}", EXIT_WRONG) from error


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _export_open(
    ctx: click.Context, orchestrator: Orchestrator, type_: str | None, output: Path | None
) -> None:
    if output is None:
        raise click.UsageError("--open needs a folder: -o FOLDER")
    done = orchestrator.export_open(output, type=type_)
    click.echo(f"{len(done.files)} histories in {output}")
    if done.waiting:
        click.echo(f"{len(done.waiting)} runs have not begun yet, and have no history")
    for workflow_id, reason in done.failed.items():
        click.echo(shown(f"{workflow_id}: not exported: {reason}"), err=True)
    if done.failed:
        ctx.exit(EXIT_NO)


@click.command("replay", cls=CeleryCommand)
@click.argument("sources", metavar="[PATH | ID]…", nargs=-1)
@click.option("--open", "only_open", is_flag=True, help="Every open run of the store.")
@click.option("--type", "type_", help="With --open: runs of this workflow only.")
@click.option("--run", type=click.IntRange(1), help="With one ID: which run of it.")
@click.option(
    "--jobs", type=click.IntRange(1), help="Processes.  [default: one for each processor]"
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first that does not fit.")
@json_flag
@click.pass_context
@worded
def replay(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    sources: Sequence[str],
    only_open: bool,
    type_: str | None,
    run: int | None,
    jobs: int | None,
    fail_fast: bool,
    as_json: bool,
) -> None:
    """Replay histories against the code of this app, as it is now.

    A PATH is a file of `workflow export`, or a folder of them: no server is needed.  Anything that
    is no path is the ID of a run in the store.

    Exit code: 0 if the code fits all of them, 1 if not, 2 if the command is wrong.
    """
    if only_open == bool(sources):
        raise click.UsageError("name files, folders or ids, or all open runs by --open")
    if type_ is not None and not only_open:
        raise click.UsageError("--type goes with --open")
    if run is not None and len(sources) != 1:
        raise click.UsageError("--run goes with one ID")
    orchestrator = orchestrator_of(ctx.obj.app)
    replayer = Replayer(orchestrator, jobs=jobs or jobs_default(), fail_fast=fail_fast)
    if only_open:
        report = replayer.replay_open(type_)
    else:
        with tempfile.TemporaryDirectory(prefix="orchestrator-replay-") as folder:
            paths = [_path(orchestrator, source, run, Path(folder)) for source in sources]
            report = replayer.replay(paths).from_store(folder)
    _print(report, as_json=as_json, may_be_empty=only_open)
    # No open run is nothing to be afraid of.
    if report.unfit:
        ctx.exit(EXIT_NO)


def _path(orchestrator: Orchestrator, source: str, run: int | None, folder: Path) -> Path:
    path = Path(source)
    if path.exists():
        return path
    if source.endswith((SUFFIX, "/")) or source.startswith(("/", "./", "../")):
        raise Refusal(f"{source}: no such file or folder", EXIT_WRONG)
    return orchestrator.run(source, run).export(folder)


def _print(report: ReplayReport, *, as_json: bool, may_be_empty: bool) -> None:
    if as_json:
        tables.print_json(
            {
                "fits": not report.unfit,
                "is_cut_short": report.is_cut_short,
                "results": [result.as_json() for result in report.results],
            }
        )
        return
    if not report.results and may_be_empty:
        click.echo("no open run has a history")
        return
    tables.console().print(_table(report))
    for result in report.unfit:
        click.echo()
        click.echo(shown_page(in_words(result)))
    fitting = len(report.results) - len(report.unfit)
    cut = "; stopped at the first that does not fit" if report.is_cut_short else ""
    click.echo(f"\n{fitting} of {len(report.results)} fit{cut}")


def _table(report: ReplayReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("RESULT", "WORKFLOW", "ID", "RUN", "EVENTS", "FUNCTION", "SOURCE"):
        table.add_column(column, justify="right" if column in ("RUN", "EVENTS") else "left")
    changed = {True: "changed", False: "same", None: "-"}
    for result in report.results:
        table.add_row(
            cell(result.status.value, style=_COLOURS.get(result.status, "bold red")),
            cell(result.workflow),
            cell(result.workflow_id or "-"),
            str(result.run or "-"),
            str(result.events or "-"),
            changed[result.is_code_changed],
            cell(Path(result.source).name),
        )
    return table
