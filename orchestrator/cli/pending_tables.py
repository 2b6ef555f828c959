"""What an open run waits for, as its history tells: steps, children, timers and permits."""

from rich.console import Console
from rich.table import Table

from orchestrator.cli.scanning import Scan
from orchestrator.cli.shown import cell
from orchestrator.cli.tables import moment
from orchestrator.client.summary import instant
from orchestrator.core.ledger import StepEntry
from orchestrator.core.values import Json


def pending_json(scan: Scan) -> dict[str, Json]:
    """Return what is outstanding, by kind; lists, each in the order of its numbers."""
    ledger, summaries = scan.ledger, scan.timer_summaries
    steps: list[Json] = [
        {
            "step": number,
            "task": entry.scheduled.task,
            "summary": entry.scheduled.summary,
            "state": _state_of(entry),
            "attempt": entry.attempt,
            "scheduled_at": instant(entry.scheduled_at_ms).isoformat(),
        }
        for number, entry in sorted(ledger.steps.items())
    ]
    children: list[Json] = [
        {
            "child": number,
            "workflow": entry.scheduled.workflow,
            "workflow_id": entry.scheduled.id,
            "state": "cancelling" if entry.is_cancel_requested else "running",
        }
        for number, entry in sorted(ledger.children.items())
    ]
    timers: list[Json] = [
        {
            "timer": number,
            "summary": summaries.get(number, ""),
            "due_at": instant(due_at_ms).isoformat(),
        }
        for number, due_at_ms in sorted(ledger.timers.items())
    ]
    permits: list[Json] = [
        {
            "permit": number,
            "key": entry.requested.key,
            "kind": entry.requested.kind,
            "state": "held" if entry.is_granted else "waiting",
            "since": instant(entry.requested.at_ms).isoformat(),
        }
        for number, entry in sorted(ledger.permits.items())
    ]
    return {"steps": steps, "children": children, "timers": timers, "permits": permits}


def print_pending(console: Console, scan: Scan) -> None:
    """Print what is outstanding as a table; nothing where nothing is."""
    ledger, summaries = scan.ledger, scan.timer_summaries
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("PENDING", "STATE", "SINCE OR DUE", "WHAT"):
        table.add_column(name, overflow="fold")
    for number, step in sorted(ledger.steps.items()):
        state = _state_of(step)
        what = f"{step.scheduled.task}  {step.scheduled.summary}".rstrip()
        about = f"{state}, attempt {step.attempt}"
        table.add_row(f"step {number}", about, moment(instant(step.scheduled_at_ms)), cell(what))
    for number, child in sorted(ledger.children.items()):
        state = "cancelling" if child.is_cancel_requested else "running"
        what = f"{child.scheduled.workflow}  {child.scheduled.id}"
        since = moment(instant(child.scheduled.at_ms))
        table.add_row(f"child {number}", state, since, cell(what))
    for number, due_at_ms in sorted(ledger.timers.items()):
        due = moment(instant(due_at_ms))
        table.add_row(f"timer {number}", "waiting", due, cell(summaries.get(number, "")))
    for number, permit in sorted(ledger.permits.items()):
        state, asked = "held" if permit.is_granted else "waiting", permit.requested
        since = moment(instant(asked.at_ms))
        table.add_row(f"permit {number}", state, since, cell(f"{asked.kind} {asked.key}"))
    if table.row_count:
        console.print()
        console.print(table)


def _state_of(step: StepEntry) -> str:
    """Return a step's state for people; a paused one may have an attempt that goes on."""
    if step.is_cancel_requested:
        return "cancelling"
    return "paused" if step.is_paused else step.state.value
