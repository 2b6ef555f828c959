"""``celery -A … workflow schedule``: make schedules, look at them, tell them what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import click
from celery.bin.base import CeleryCommand
from rich.table import Table

from orchestrator.app import Orchestrator
from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import worded
from orchestrator.cli.options import json_flag
from orchestrator.cli.shown import cell
from orchestrator.cli.values import JsonValue
from orchestrator.client.schedule_spec import (
    Schedule,
    ScheduleAction,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleSpec,
)
from orchestrator.client.schedules import NEXT_COUNT, ScheduleDescription, ScheduleHandle
from orchestrator.core.errors import UsageError
from orchestrator.core.schedule import OVERLAPS
from orchestrator.core.values import Json
from orchestrator.payloads import PydanticCodec

_id = click.argument("schedule_id", metavar="ID")
_note = click.option("--note", default="", help="Why; stands with the schedule.")
_overlap = click.option("--overlap", type=click.Choice(OVERLAPS), help="Else the schedule's own.")
_SPEC_OPTIONS = (
    click.option("--cron", "crons", multiple=True, help="Cron string; repeat it for more."),
    click.option("--every", "intervals", multiple=True, type=float, help="Seconds; repeatable."),
    click.option("--calendar", "calendars", multiple=True, type=JsonValue(), help="As JSON."),
    click.option("--skip", multiple=True, type=JsonValue(), help="Calendar to leave out, as JSON."),
    click.option("--timezone", help="IANA name; else UTC."),
    click.option("--jitter", type=float, help="Seconds."),
    click.option("--start-at", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), help="With offset."),
    click.option("--end-at", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), help="With offset."),
)
_POLICY_OPTIONS = (
    click.option("--overlap", type=click.Choice(OVERLAPS), help="Else skip."),
    click.option("--catchup-window", type=float, help="Seconds; else a year."),
    click.option("--pause-on-failure/--no-pause-on-failure", default=None),
    click.option("--remaining-actions", type=click.IntRange(0), help="Else without limit."),
)


def _with(options: Sequence[Any]) -> Any:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(name="schedule")
def schedule() -> None:
    """Start runs by the clock."""


@schedule.command("create", cls=CeleryCommand)
@_id
@click.argument("workflow")
@click.option("--input", "inputs", multiple=True, type=JsonValue(), help="As in workflow start.")
@click.option("--run-id", default="", help="What the ids of its runs begin with; else ID.")
@click.option("--paused", is_flag=True)
@_note
@_with((*_SPEC_OPTIONS, *_POLICY_OPTIONS))
@click.pass_context
@worded
def create(
    ctx: click.Context,
    /,
    *,
    schedule_id: str,
    workflow: str,
    inputs: Sequence[Json],
    **options: Any,
) -> None:
    """Make schedule ID, which starts runs of WORKFLOW."""
    orchestrator = _orchestrator(ctx)
    made = Schedule(
        action=ScheduleAction(
            workflow=orchestrator.get_workflow(workflow), args=inputs, id=options["run_id"]
        ),
        spec=_spec(options) or ScheduleSpec(),
        paused=options["paused"],
        note=options["note"],
        **_policy(options),
    )
    orchestrator.schedule(schedule_id).create(made)
    click.echo(schedule_id)


@schedule.command("update", cls=CeleryCommand)
@_id
@_with((*_SPEC_OPTIONS, *_POLICY_OPTIONS))
@click.pass_context
@worded
def update(ctx: click.Context, /, *, schedule_id: str, **options: Any) -> None:
    """Change when schedule ID acts, or its policies.

    Options of the spec replace the whole spec; policies not named stay as they are.
    """
    handle = _handle(ctx, schedule_id)
    known = handle.describe().schedule
    if known is None:
        raise UsageError(f"no orchestrator has seen schedule {schedule_id} yet; try again")
    handle.update(replace(known, spec=_spec(options) or known.spec, **_policy(options)))
    click.echo(f"{schedule_id} was told to change")


@schedule.command("list", cls=CeleryCommand)
@json_flag
@click.pass_context
@worded
def list_(ctx: click.Context, *, as_json: bool) -> None:
    """List schedules, newest first."""
    found = _orchestrator(ctx).schedules()
    if as_json:
        tables.print_json([_as_json(each) for each in found])
        return
    table = Table("schedule", "workflow", "paused", "next", "actions", "missed", "note", box=None)
    for each in found:
        made = each.schedule
        table.add_row(
            cell(each.id),
            cell(str(made.action.workflow) if made else ""),
            "paused" if made and made.paused else "",
            each.next[0].isoformat() if each.next else "",
            str(each.counts["actions"]),
            str(each.counts["missed"]),
            cell(made.note if made else ""),
        )
    tables.console().print(table)


@schedule.command("show", cls=CeleryCommand)
@_id
@click.pass_context
@worded
def show(ctx: click.Context, *, schedule_id: str) -> None:
    """Show schedule ID as JSON: what it is, its next instants, its last starts, its counts."""
    tables.print_json(_as_json(_handle(ctx, schedule_id).describe()))


@schedule.command("next", cls=CeleryCommand)
@_id
@click.option("--count", default=NEXT_COUNT, show_default=True)
@click.pass_context
@worded
def next_(ctx: click.Context, *, schedule_id: str, count: int) -> None:
    """List the next instants of schedule ID, in UTC."""
    for at in _handle(ctx, schedule_id).next(count):
        click.echo(at.isoformat())


@schedule.command("pause", cls=CeleryCommand)
@_id
@_note
@click.pass_context
@worded
def pause(ctx: click.Context, *, schedule_id: str, note: str) -> None:
    """Let schedule ID rest."""
    _handle(ctx, schedule_id).pause(note)
    click.echo(f"{schedule_id} was told to rest")


@schedule.command("unpause", cls=CeleryCommand)
@_id
@_note
@click.pass_context
@worded
def unpause(ctx: click.Context, *, schedule_id: str, note: str) -> None:
    """Let schedule ID act again, from now on."""
    _handle(ctx, schedule_id).unpause(note)
    click.echo(f"{schedule_id} was told to go on")


@schedule.command("trigger", cls=CeleryCommand)
@_id
@_overlap
@click.pass_context
@worded
def trigger(ctx: click.Context, *, schedule_id: str, overlap: str | None) -> None:
    """Let schedule ID act once, now."""
    _handle(ctx, schedule_id).trigger(overlap)
    click.echo(f"{schedule_id} was told to act")


@schedule.command("backfill", cls=CeleryCommand)
@_id
@click.argument("start_at", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]))
@click.argument("end_at", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]))
@_overlap
@click.pass_context
@worded
def backfill(
    ctx: click.Context,
    *,
    schedule_id: str,
    start_at: datetime,
    end_at: datetime,
    overlap: str | None,
) -> None:
    """Let schedule ID act upon its instants of a range, as 2026-01-31T09:00:00+0000."""
    _handle(ctx, schedule_id).backfill(start_at, end_at, overlap)
    click.echo(f"{schedule_id} was told to make up")


@schedule.command("delete", cls=CeleryCommand)
@_id
@click.pass_context
@worded
def delete(ctx: click.Context, *, schedule_id: str) -> None:
    """End schedule ID; runs that are open go on."""
    _handle(ctx, schedule_id).delete()
    click.echo(f"{schedule_id} was told to end")


def _orchestrator(ctx: click.Context) -> Orchestrator:
    return orchestrator_of(ctx.obj.app)


def _handle(ctx: click.Context, schedule_id: str) -> ScheduleHandle:
    return _orchestrator(ctx).schedule(schedule_id)


def _spec(options: Mapping[str, Any]) -> ScheduleSpec | None:
    """Return the spec that the options name; None where they name none."""
    names = ("crons", "intervals", "calendars", "skip", "timezone", "jitter", "start_at", "end_at")
    if not any(options[name] for name in names):
        return None
    return ScheduleSpec(
        crons=options["crons"],
        intervals=[ScheduleIntervalSpec(timedelta(seconds=s)) for s in options["intervals"]],
        calendars=[_calendar(one) for one in options["calendars"]],
        skip=[_calendar(one) for one in options["skip"]],
        timezone=options["timezone"] or "UTC",
        jitter=timedelta(seconds=options["jitter"] or 0),
        start_at=options["start_at"],
        end_at=options["end_at"],
    )


def _calendar(data: Json) -> ScheduleCalendarSpec:
    try:
        return ScheduleCalendarSpec.from_json(data)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UsageError(
            f'calendar {data!r}: {error}; an object like {{"hour": [9], "month": [1]}} is wanted'
        ) from error


def _policy(options: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        name: options[name]
        for name in ("overlap", "pause_on_failure", "remaining_actions")
        if options[name] is not None
    }
    if options["catchup_window"] is not None:
        given["catchup_window"] = timedelta(seconds=options["catchup_window"])
    return given


def _as_json(found: ScheduleDescription) -> dict[str, Json]:
    made = found.schedule
    return {
        "id": found.id,
        "status": found.status,
        "schedule": made.as_json(PydanticCodec()) if made else None,
        "next": [at.isoformat() for at in found.next],
        "recent": list(found.recent),
        "running": list(found.running),
        "buffered": found.buffered,
        "problem": found.problem,
        **found.counts,
    }
