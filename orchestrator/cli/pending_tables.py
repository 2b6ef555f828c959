"""What an open run waits for, as a table and as JSON."""

from rich.console import Console
from rich.table import Table

from orchestrator.cli.pending import hints_of, pending_of
from orchestrator.cli.scanning import Scan
from orchestrator.cli.shown import cell
from orchestrator.cli.surroundings import Surroundings
from orchestrator.cli.tables import moment
from orchestrator.client.summary import RunSummary
from orchestrator.core.values import Json

_KINDS = ("steps", "children", "timers", "permits", "externals", "updates")


def pending_json(scan: Scan, around: Surroundings) -> dict[str, Json]:
    """Return what is outstanding, by kind; lists, each in the order of its numbers."""
    found: dict[str, list[Json]] = {kind: [] for kind in _KINDS}
    for each in pending_of(scan, around):
        found[each.kind].append({**each.data, "waits_for": each.why} if each.why else each.data)
    return {**found}


def around_json(run: RunSummary, scan: Scan, around: Surroundings) -> dict[str, Json]:
    """Return how many orchestrators are alive, null where nobody looked, and the hints."""
    hints: list[Json] = [*hints_of(run, scan, around)]
    silent = None if around.silent_ms is None else around.silent_ms / 1000
    return {
        "orchestrators": {"alive": around.alive, "silent_s": silent},
        "hints": hints,
    }


def print_pending(console: Console, run: RunSummary, scan: Scan, around: Surroundings) -> None:
    """Print what is outstanding as a table, and what else explains that the run does not go on."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("PENDING", "STATE", "SINCE OR DUE", "WHAT"):
        table.add_column(name, overflow="fold")
    for each in pending_of(scan, around):
        what = f"{each.what}\n{each.why}" if each.why else each.what
        table.add_row(cell(each.name), cell(each.state), moment(each.at), cell(what))
    if table.row_count:
        console.print()
        console.print(table)
    hints = hints_of(run, scan, around)
    if hints:
        console.print()
    for hint in hints:
        console.print(cell(hint, "yellow"))
