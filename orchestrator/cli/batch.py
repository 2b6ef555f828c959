"""``celery -A … workflow batch``: one act for every run that a filter takes."""

import getpass
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click
from celery.bin.base import CeleryCommand

from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import EXIT_NO, EXIT_WRONG, Refusal, worded
from orchestrator.cli.options import json_flag
from orchestrator.cli.resetting import (
    at_of,
    at_options,
    despite_effects_flag,
    in_words,
    reapply_signals_option,
)
from orchestrator.cli.shown import shown
from orchestrator.cli.values import JsonValue
from orchestrator.client.batch import VERBS, Batch, BatchReport
from orchestrator.client.ids import new_request_id
from orchestrator.client.listing import Found
from orchestrator.client.resets import ResetOptions
from orchestrator.core.errors import ResetRefused
from orchestrator.core.limits import BATCH_RPS_DEFAULT
from orchestrator.core.values import Json

#: Runs that a dry run names, and reasons that a report gives; ``--json`` has them all.
_SHOWN_MAX = 20


@click.group("batch")
def batch() -> None:
    """Cancel, terminate or signal every open run that a filter takes, or reset every run.

    Look first with --dry-run, then say --yes.  The same --batch-id again goes on with the same
    batch: a run that has the request already does not get it twice.
    """


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        json_flag,
        click.option("--batch-id", help="Go on with this batch; else a new one is begun."),
        click.option(
            "--rps",
            default=float(BATCH_RPS_DEFAULT),
            show_default=True,
            type=click.FloatRange(0, min_open=True),
            help="Requests a second at most.",
        ),
        click.option("--yes", is_flag=True, help="Do it."),
        click.option("--dry-run", is_flag=True, help="Say which runs it would be; do nothing."),
        click.option("--filter", "filter_", required=True, help="Which runs; as in list."),
    ):
        command = option(command)
    return command


@batch.command("cancel", cls=CeleryCommand)
@_options
@click.option("--reason", default="", help="Goes into the histories.")
@click.pass_context
@worded
def cancel(ctx: click.Context, /, *, reason: str, **how: Any) -> None:
    """Ask the runs to stop; their code may clean up."""
    _carry_out(ctx, "cancel", {"reason": reason}, _How(**how))


@batch.command("terminate", cls=CeleryCommand)
@_options
@click.option("--reason", default="", help="Goes into the histories.")
@click.pass_context
@worded
def terminate(ctx: click.Context, /, *, reason: str, **how: Any) -> None:
    """End the runs without their code; open sagas are compensated all the same."""
    _carry_out(ctx, "terminate", {"reason": reason}, _How(**how))


@batch.command("signal", cls=CeleryCommand)
@click.argument("name")
@click.argument("payload", type=JsonValue(), required=False)
@_options
@click.pass_context
@worded
def signal(ctx: click.Context, /, *, name: str, payload: Json, **how: Any) -> None:
    """Send the runs signal NAME with PAYLOAD (JSON, @file or -), each once."""
    _carry_out(ctx, "signal", {"name": name, "payload": payload}, _How(**how))


@batch.command("reset", cls=CeleryCommand)
@at_options
@reapply_signals_option(default=True)
@despite_effects_flag
@_options
@click.option("--reason", default="", help="Goes into the histories.")
@click.pass_context
@worded
def reset(
    ctx: click.Context,
    /,
    *,
    event_id: int | None,
    before_step: str | None,
    reapply_signals: bool,
    despite_effects: bool,
    reason: str,
    **how: Any,
) -> None:
    """Let the next run of each id go on from an event; also of runs that have ended."""
    options = ResetOptions(
        at=at_of(event_id, before_step),
        reapply_signals=reapply_signals,
        despite_effects=despite_effects,
        reason=reason,
        by=getpass.getuser(),
    )
    _carry_out(ctx, "reset", {"options": options}, _How(**how))


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """What the options say."""

    filter_: str
    dry_run: bool
    yes: bool
    rps: float
    batch_id: str | None
    as_json: bool


def _carry_out(ctx: click.Context, verb: str, told: Mapping[str, Any], how: _How) -> None:
    if not how.filter_.strip():
        raise Refusal(f"--filter says nothing: name the runs to {verb}", EXIT_WRONG)
    if how.dry_run and how.yes:
        raise click.UsageError("--dry-run and --yes exclude each other")
    orchestrator = orchestrator_of(ctx.obj.app)
    work = orchestrator.batch(how.filter_, id=how.batch_id or new_request_id()[:12], rps=how.rps)
    if not how.yes:
        _look(work, verb, told, as_json=how.as_json)
        if not how.dry_run:
            raise Refusal(f"nothing was done; say --yes to {verb} them", EXIT_WRONG)
        return
    report = work.run(verb, told)
    if how.as_json:
        tables.print_json(report.as_json())
    else:
        _print_report(report)
    if not report:
        ctx.exit(EXIT_NO)


def _look(work: Batch, verb: str, told: Mapping[str, Any], *, as_json: bool) -> None:
    found = work.matched(verb)
    if as_json:
        runs: list[Json] = [{"workflow_id": each.workflow_id, "run": each.run} for each in found]
        tables.print_json({"matched": len(found), "runs": runs})
        return
    click.echo(f"{len(found)} {'open ' if VERBS[verb].only_open else ''}runs match")
    for each in found[:_SHOWN_MAX]:
        meaning = f": {_meaning(work, each, told['options'])}" if verb == "reset" else ""
        click.echo(shown(f"  {_named(each)}{meaning}"))
    if len(found) > _SHOWN_MAX:
        click.echo(f"  … and {len(found) - _SHOWN_MAX} more")


def _meaning(work: Batch, found: Found, options: ResetOptions) -> str:
    try:
        return in_words(work.plan_reset(found, options))
    except ResetRefused as error:
        return f"refused: {error}"


def _named(found: Found) -> str:
    return f"{found.workflow_id} run {found.run}, {found.status}"


def _print_report(report: BatchReport) -> None:
    ended = f", {report.ended} ended meanwhile" if report.ended else ""
    click.echo(
        f"batch {report.id}: {report.matched} matched, {report.done} done{ended}, "
        f"{len(report.failed)} failed"
    )
    for name, reason in list(report.failed.items())[:_SHOWN_MAX]:
        click.echo(shown(f"  {name}: {reason}"), err=True)
    if report.interrupted:
        reason = shown(report.interrupted)
        click.echo(f"  interrupted: {reason}; go on with --batch-id {report.id}", err=True)
