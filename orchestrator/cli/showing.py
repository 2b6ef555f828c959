"""``workflow show``: a run, its history page by page, and whether the history holds."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import click
from celery.bin.base import CeleryCommand

from orchestrator.app import Orchestrator
from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import EXIT_NO, worded
from orchestrator.cli.options import id_argument, json_flag, run_option
from orchestrator.cli.pending_tables import print_pending
from orchestrator.cli.scanning import PAGE_EVENTS, events_of, scan
from orchestrator.cli.shown import json_line
from orchestrator.cli.surroundings import look_around
from orchestrator.client.handle import RunHandle
from orchestrator.client.summary import HistoryEvent, RunSummary
from orchestrator.client.verifying import Verification
from orchestrator.core.events import encode
from orchestrator.core.values import Json

#: Events that a person is shown unless he asks for others.
TAIL_DEFAULT = 1_000


@click.command("show", cls=CeleryCommand)
@id_argument
@run_option
@click.option(
    "--tail",
    type=click.IntRange(0),
    help=f"Only the last so many events; {TAIL_DEFAULT} unless --json or --after is given.",
)
@click.option("--after", type=click.IntRange(0), help="Only events behind this number; 0 for all.")
@json_flag
@click.pass_context
@worded
def show(
    ctx: click.Context,
    *,
    workflow_id: str,
    run: int | None,
    tail: int | None,
    after: int | None,
    as_json: bool,
) -> None:
    """Show a run: how it is, every event of its history, and whether the history holds."""
    orchestrator = orchestrator_of(ctx.obj.app)
    handle = orchestrator.run(workflow_id, run)
    summary, verification = handle.describe(), handle.verify()
    if tail is None and after is None and not as_json:
        tail = TAIL_DEFAULT
    first = max(after or 0, 0 if tail is None else verification.events - tail)
    if as_json:
        _print_json(handle, summary, verification, first)
    else:
        _print_tables(orchestrator, handle, summary, verification, first)
    if not verification:
        ctx.exit(EXIT_NO)


def verification_json(found: Verification) -> Json:
    """Return what verifying found, for programs."""
    return {
        "verified": bool(found),
        "events": found.events,
        "bad_seq": found.bad_seq,
        "reason": found.reason,
    }


def _print_tables(
    orchestrator: Orchestrator,
    handle: RunHandle[Any],
    summary: RunSummary,
    verification: Verification,
    first: int,
) -> None:
    # All of it is read before anything is printed: one that cannot be read is said so, alone.
    looked = scan(handle)
    around = look_around(orchestrator, summary, looked)
    console = tables.console()
    console.print(tables.header_table(summary, looked.ledger.blocked, verification))
    print_pending(console, summary, looked, around)
    console.print()
    if first:
        console.print(f"events 1 to {first} are left out; --after 0 shows them", style="dim")
    is_first = True
    for page in _pages(events_of(handle, after=first)):
        console.print(tables.history_table(page, with_header=is_first))
        is_first = False


def _pages(events: Iterable[HistoryEvent]) -> Iterator[list[HistoryEvent]]:
    """Yield the events in lists: a table measures all its lines before it prints the first."""
    left = iter(events)
    while page := list(islice(left, PAGE_EVENTS)):
        yield page


def _print_json(
    handle: RunHandle[Any], summary: RunSummary, verification: Verification, first: int
) -> None:
    """Print one JSON document, an event a line, without ever holding all of them."""
    scan(handle)  # As above.
    print('{\n"run":', json_line(summary.as_json()) + ",")
    print('"verification":', json_line(verification_json(verification)) + ",")
    print('"history": [', end="")
    separator = "\n"
    for each in events_of(handle, after=first):
        print(separator + json_line(_event_json(each)), end="")
        separator = ",\n"
    print("\n]\n}")


def _event_json(each: HistoryEvent) -> Json:
    event: Json = json.loads(encode(each.event))
    return {"seq": each.seq, "head": each.head, "event": event}
