"""``celery -A … workflow permits``: who holds a key, and who waits for it."""

import click
from celery.bin.base import CeleryCommand
from rich.table import Table

from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import worded
from orchestrator.cli.options import json_flag
from orchestrator.cli.shown import cell, shown
from orchestrator.client.summary import instant
from orchestrator.core.values import Json
from orchestrator.store.permit_ports import Holder, PermitState


@click.command("permits", cls=CeleryCommand)
@click.argument("key", metavar="KEY")
@json_flag
@click.pass_context
@worded
def permits(ctx: click.Context, *, key: str, as_json: bool) -> None:
    """List who holds permits of KEY, who waits for one, first come first, and slots of its rate."""
    found = orchestrator_of(ctx.obj.app).permits(key)
    if as_json:
        tables.print_json(_as_json(found))
        return
    if not (found.holders or found.waiters or found.slots):
        click.echo(f"{shown(key)}: nobody holds a permit, and nobody waits")
        return
    if found.limit:
        counts = f"{len(found.holders)} of {found.limit} held, {len(found.waiters)} waiting"
        click.echo(f"{shown(key)}: {counts}")
    tables.console().print(_table(found))


def _table(found: PermitState) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "WORKFLOW ID", "RUN", "PERMIT", "FENCE", "SINCE / AT"):
        is_number = name in ("RUN", "PERMIT", "FENCE")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")

    def add(what: str, holder: Holder, fence: str = "", at_ms: int | None = None) -> None:
        at = "" if at_ms is None else instant(at_ms).isoformat(timespec="milliseconds")
        name = cell(holder.workflow_id)
        table.add_row(what, name, str(holder.run), str(holder.permit), fence, at)

    for grant in found.holders:
        add("holds", grant.holder, str(grant.fence), grant.since_ms)
    for holder in found.waiters:
        add("waits", holder)
    for at_ms, holder in found.slots:
        add("slot", holder, at_ms=at_ms)
    return table


def _as_json(found: PermitState) -> Json:
    def said(holder: Holder) -> dict[str, Json]:
        return {"workflow_id": holder.workflow_id, "run": holder.run, "permit": holder.permit}

    return {
        "key": found.key,
        "limit": found.limit,
        "holders": [
            {**said(each.holder), "fence": each.fence, "since_ms": each.since_ms}
            for each in found.holders
        ],
        "waiters": [said(holder) for holder in found.waiters],
        "slots": [{**said(holder), "at_ms": at_ms} for at_ms, holder in found.slots],
    }
