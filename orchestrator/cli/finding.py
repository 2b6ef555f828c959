"""``celery -A … workflow list, count, describe, reindex``: finding runs, and what they are."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import click
from celery.bin.base import CeleryCommand

from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import EXIT_NO, worded
from orchestrator.cli.options import id_argument, json_flag, run_option
from orchestrator.cli.pending_tables import around_json, pending_json, print_pending
from orchestrator.cli.scanning import scan
from orchestrator.cli.shown import shown
from orchestrator.cli.surroundings import look_around
from orchestrator.cli.unknown_names import warn_of_unknown
from orchestrator.client.listing import LIST_LIMIT, Where
from orchestrator.client.summary import RunSummary
from orchestrator.core.values import Json

_FILTER_HELP = (
    "Such as \"WorkflowType = 'order' AND customer = 'ana' AND total > 100\"; names of runs are "
    "WorkflowId, WorkflowType, WorkflowVersion, Run, ExecutionStatus, StartTime, CloseTime and "
    "HistoryLength, every other name is a search attribute."
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which runs: filter, open, closed, type and status."""
    for option in (
        click.option("--status", help="Runs of this status only."),
        click.option("--type", "type_", help="Runs of this workflow only."),
        click.option("--closed", "only_closed", is_flag=True, help="Ended runs only."),
        click.option("--open", "only_open", is_flag=True, help="Open runs only."),
        click.option("--filter", "filter_", default="", help=_FILTER_HELP),
    ):
        command = option(command)
    return command


def where_of(*, only_open: bool, only_closed: bool, type_: str | None, status: str | None) -> Where:
    """Return the keywords that the options say."""
    if only_open and only_closed:
        raise click.UsageError("--open and --closed exclude each other")
    return {"open": not only_closed, "closed": not only_open, "type": type_, "status": status}


@click.command("list", cls=CeleryCommand)
@filter_options
@click.option("--limit", default=LIST_LIMIT, show_default=True, type=click.IntRange(1))
@click.option("--page-token", default="", help="Of the page before, for the one that follows.")
@click.option("--all", "every", is_flag=True, help="Every run, not one page.")
@json_flag
@click.pass_context
@worded
def list_(
    ctx: click.Context,
    /,
    *,
    filter_: str,
    limit: int,
    page_token: str,
    every: bool,
    as_json: bool,
    **which: Any,
) -> None:
    """List runs, newest first."""
    orchestrator, where = orchestrator_of(ctx.obj.app), where_of(**which)
    more = ""
    runs: Sequence[RunSummary]
    if every:
        if page_token:
            raise click.UsageError("--all and --page-token exclude each other")
        runs = list(orchestrator.iterate(filter_, **where))
    else:
        page = orchestrator.list(filter_, limit=limit, page_token=page_token, **where)
        runs, more = page, page.next_page_token
    if as_json:
        tables.print_json([run.as_json() for run in runs])
    else:
        tables.console().print(tables.runs_table(runs))
    if not runs and not page_token:
        warn_of_unknown(orchestrator, filter_, where["type"])
    if more:
        # Not on standard output: that is the runs'.
        click.echo(f"more: --page-token {more}", err=True)


@click.command("count", cls=CeleryCommand)
@filter_options
@click.option("--group-by", help="status, type, or the name of a search attribute.")
@json_flag
@click.pass_context
@worded
def count(
    ctx: click.Context, /, *, filter_: str, group_by: str | None, as_json: bool, **which: Any
) -> None:
    """Count runs."""
    orchestrator, where = orchestrator_of(ctx.obj.app), where_of(**which)
    if group_by is None:
        found = orchestrator.count(filter_, **where)
        if not found:
            warn_of_unknown(orchestrator, filter_, where["type"])
        if as_json:
            tables.print_json({"count": found})
        else:
            click.echo(str(found))
        return
    groups = orchestrator.count_by(group_by, filter_, **where)
    if as_json:
        tables.print_json({"count": sum(groups.values()), "groups": dict(groups)})
        return
    for value, number in groups.items():
        click.echo(f"{number:>8}  {shown(value) or '-'}")


@click.command("describe", cls=CeleryCommand)
@id_argument
@run_option
@json_flag
@click.pass_context
@worded
def describe(ctx: click.Context, *, workflow_id: str, run: int | None, as_json: bool) -> None:
    """Show a run at a glance, and what it waits for; see show for its history."""
    orchestrator = orchestrator_of(ctx.obj.app)
    handle = orchestrator.run(workflow_id, run)
    summary = handle.describe()
    looked = scan(handle)
    around = look_around(orchestrator, summary, looked)
    if as_json:
        pending = pending_json(looked, around)
        facts = around_json(summary, looked, around)
        tables.print_json({"run": summary.as_json(), "pending": pending, **facts})
        return
    console = tables.console()
    console.print(tables.header_table(summary, looked.ledger.blocked))
    print_pending(console, summary, looked, around)


@click.command("reindex", cls=CeleryCommand)
@json_flag
@click.pass_context
@worded
def reindex(ctx: click.Context, *, as_json: bool) -> None:
    """Make the indexes that listings use anew, from the histories; while everything runs."""
    report = orchestrator_of(ctx.obj.app).reindex()
    if as_json:
        failed: list[Json] = list(report.failed)
        tables.print_json({"reindexed": report.done, "failed": failed})
    else:
        click.echo(f"{report.done} runs indexed anew")
        for line in itertools.islice(report.failed, 20):
            click.echo(shown(f"not {line}"), err=True)
    if report.failed:
        ctx.exit(EXIT_NO)
