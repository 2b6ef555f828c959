"""Runs and histories as tables for people."""

import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.cli.shown import cell, json_page, shown
from orchestrator.client.summary import HistoryEvent, RunSummary
from orchestrator.client.verifying import Verification
from orchestrator.core.events import Event, RunBlocked, TimerStarted
from orchestrator.core.failure import Failure
from orchestrator.core.limits import HISTORY_EVENTS_MAX, HISTORY_EVENTS_WARNED
from orchestrator.core.search_attributes import attributes_as_json
from orchestrator.core.values import Json

#: Width where nobody looks: a pipe or a file, which a table must not cut.
_WIDTH_PIPED = 200
#: Characters of one value inside a line of history; ``--json`` has them all.
_VALUE_CHARS_MAX = 120

_COLOURS = {
    "completed": "green",
    "failed": "red",
    "terminated": "red",
    "blocked": "bold red",
    "compensation_failed": "bold red",
    "parked": "bold red",
    "rests": "bold red",
    "cancelled": "yellow",
    "compensating": "yellow",
}
#: Parts of events that a line does not repeat, or that are for machines.
_UNSAID = {
    *("at_ms", "args_digest", "digest", "seed", "fingerprint", "flags", "engine", "python"),
    "request_id",
}


def console() -> Console:
    """Return where tables go: standard output as it is now."""
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else _WIDTH_PIPED
    return Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False)


def print_json(value: Json) -> None:
    """Print one JSON document."""
    print(json_page(value))


def runs_table(runs: Iterable[RunSummary]) -> Table:
    """Return a listing, one line a run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("WORKFLOW ID", "RUN", "TYPE", "STATUS", "STARTED", "ENDED", "EVENTS"):
        is_number = name in ("RUN", "EVENTS")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for run in runs:
        table.add_row(
            cell(run.workflow_id),
            str(run.run),
            cell(run.type),
            status_text("rests" if run.rests else run.status),
            moment(run.started_at),
            moment(run.closed_at),
            str(run.seq),
        )
    return table


def header_table(
    run: RunSummary, blocked: RunBlocked | None, verification: Verification | None = None
) -> Table:
    """Return a run at a glance, why it rests, and, where it was looked at, whether it holds.

    `blocked` is the last event of that kind, where the run is.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("workflow", cell(f"{run.workflow_id}  run {run.run}"))
    table.add_row("type", cell(f"{run.type} {run.version}".strip()))
    table.add_row("status", status_text(run.status))
    table.add_row("started", moment(run.started_at))
    if run.begins_at is not None:
        table.add_row("begins", moment(run.begins_at))
    if run.closed_at is not None:
        table.add_row("ended", moment(run.closed_at))
    _add_said(table, run)
    if run.state is not None:
        table.add_row("state", cell(compact(run.state)))
    if run.status == "completed":
        table.add_row("result", cell(compact(run.result)))
    if run.failure is not None:
        table.add_row("failure", cell(failure_text(run.failure)))
    if run.rests:
        told = f"{run.rests} (tried again each second; said at {moment(run.rests_at)})"
        table.add_row("rests", cell(told, "bold red"))
    if run.blocked:
        _add_blocked(table, run, blocked)
    if run.seq >= HISTORY_EVENTS_WARNED and not run.is_closed:
        bound = f"the run is parked at {HISTORY_EVENTS_MAX}; let it continue as new before"
        table.add_row("history", Text(f"{run.seq} events: {bound}", style="yellow"))
    if verification is not None:
        table.add_row("chain", _chain_text(verification))
    return table


def history_table(history: Iterable[HistoryEvent], *, with_header: bool = True) -> Table:
    """Return a history, or a page of one, one numbered line an event."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=with_header)
    table.add_column("#", justify="right")
    table.add_column("AT")
    table.add_column("EVENT")
    table.add_column("WHAT", overflow="fold")
    for each in history:
        table.add_row(str(each.seq), moment(each.at), each.type, cell(event_text(each.event)))
    return table


def event_text(event: Event) -> str:
    """Return what an event says beyond its name and its defaults, in one line."""
    if isinstance(event, TimerStarted):
        text = f"timer={event.timer} for {event.duration_ms / 1000:g} s"
        return f"{text} summary={compact(event.summary)}" if event.summary else text
    parts = []
    for part in fields(event):
        value = getattr(event, part.name)
        if part.name in _UNSAID or value in ("", None, [], {}, part.default):
            continue
        said = failure_text(value) if isinstance(value, Failure) else compact(value)
        parts.append(f"{part.name}={said}")
    return " ".join(parts)


def failure_text(failure: Failure) -> str:
    """Return a failure and its causes in one line."""
    text = shown(f"{failure.type}: {failure.message}" if failure.message else failure.type)
    return f"{text} (from {failure_text(failure.cause)})" if failure.cause else text


def compact(value: Json) -> str:
    """Return a value in one bounded line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return shown(text if len(text) <= _VALUE_CHARS_MAX else f"{text[: _VALUE_CHARS_MAX - 1]}…")


def moment(at: datetime | None) -> str:
    """Return an instant in UTC, to the millisecond; a dash for none."""
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z"


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return cell(status, style=_COLOURS.get(status, ""))


def _add_said(table: Table, run: RunSummary) -> None:
    """Add what the run's start and its code say of it."""
    for name in ("summary", "details", "current_details"):
        if text := getattr(run, name):
            table.add_row(name.replace("_", " "), cell(text))
    for name, value in attributes_as_json(run.search_attributes).items():
        table.add_row(cell(f"attribute {name}"), cell(compact(value)))
    for name, value in run.memo.items():
        table.add_row(cell(f"memo {name}"), cell(compact(value)))


def _add_blocked(table: Table, run: RunSummary, last: RunBlocked | None) -> None:
    table.add_row("blocked", cell(run.blocked))
    if last is None:
        return
    for label, text in (
        ("  history has", last.recorded),
        ("  code asks for", last.issued),
        ("  at", last.where),
    ):
        if text:
            table.add_row(label, cell(text))
    if last.traceback:
        table.add_row("  traceback", cell(last.traceback.rstrip()))


def _chain_text(verification: Verification) -> Text:
    if verification:
        return Text(f"{verification.events} events, verified", style="green")
    return cell(f"BROKEN at event {verification.bad_seq}: {verification.reason}", style="bold red")
