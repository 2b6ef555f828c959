"""A lineage for people: the model, every checkpoint down to the seed, orders, and what is wrong."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.cli.shown import cell
from orchestrator.cli.tables import compact
from orchestrator.training.lineage import Lineage, Link
from orchestrator.training.lineage_samples import Inquiry

#: Checkpoints shown at each end where there are many; those with anything to say are shown anyway.
_SHOWN_AT_EACH_END = 20
#: Batches of a sample, of which ``--json`` has all.
_USES_SHOWN = 20


def print_lineage(console: Console, lineage: Lineage, inquiry: Inquiry | None) -> None:
    """Print what was found."""
    console.print(_header(lineage))
    console.print()
    console.print(_links(lineage.links))
    if any(log.orders for log in lineage.runs):
        console.print()
        console.print(_orders(lineage))
    for note in (*lineage.notes, *(each for log in lineage.runs for each in log.rejected)):
        console.print(cell(f"note: {note}", style="yellow"))
    if inquiry is not None:
        console.print()
        _print_inquiry(console, lineage, inquiry)
    console.print()
    for problem in lineage.problems:
        console.print(cell(f"problem: {problem}", style="bold red"))
    console.print(_verdict(lineage))


def _header(lineage: Lineage) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("training", cell(str(lineage.run.name)))
    evaluated = lineage.evaluated
    if evaluated is None:
        table.add_row("model", cell("not evaluated: from a checkpoint"))
    else:
        table.add_row("model", cell(f"sha256 {evaluated.model_sha256}"))
        table.add_row("metrics", cell(compact(dict(evaluated.metrics))))
    if lineage.run.registered:
        table.add_row("registered", cell(lineage.run.registered))
    for storage, address in lineage.stores.items():
        table.add_row("store", cell(f"{address} ({storage})"))
    for log in lineage.runs:
        chain = log.chain
        text = f"{log.name}: {chain.events} events, head {chain.head[:16]}…"
        style = "bold red" if chain.broken else "green"
        said = f"BROKEN at {chain.broken}" if chain.broken else "verified"
        table.add_row("history", cell(f"{text}, {said}", style=style))
    return table


def _links(links: list[Link]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ("EPOCH", "STEP", "BRANCH", "KIND", "CHECKPOINT", "BATCHES", "ROOT", "VERIFIED")
    for name in (*names, "WHAT CHANGED"):
        table.add_column(name, justify="right" if name in ("EPOCH", "STEP", "BATCHES") else "left")
    table.columns[-1].overflow = table.columns[-2].overflow = "fold"
    hidden = 0
    for index, link in enumerate(links):
        at_an_end = min(index, len(links) - 1 - index) < _SHOWN_AT_EACH_END
        is_worth_it = link.changes or link.orders or link.checked.problems or link.ends_stage
        if not at_an_end and not is_worth_it:
            hidden += 1
            continue
        _add_hidden(table, hidden)
        hidden = 0
        _add_link(table, link)
    _add_hidden(table, hidden)
    return table


def _add_hidden(table: Table, hidden: int) -> None:
    if hidden:
        table.add_row("", "", "", "", cell(f"… {hidden} more, verified …"))


def _add_link(table: Table, link: Link) -> None:
    manifest, ref, checked = link.checked.manifest, link.ref, link.checked
    data = manifest.data if manifest else {}
    said = [*link.changes]
    if link.ends_stage:
        said.insert(0, f"the end of stage {link.storage}")
    said += [f"event {order.seq}: {order.signal} by {order.by}" for order in link.orders]
    if link.recorded is not None and link.recorded.attempt > 1:
        said.append(f"attempt {link.recorded.attempt}")
    if checked.is_collected:
        said.append("collected: its weights are gone, its evidence is here")
    holds = cell("; ".join(checked.verified) or "nothing", style="green")
    if checked.problems:
        holds = cell(f"{len(checked.problems)} problems", style="bold red")
    table.add_row(
        str(ref.cursor.epoch),
        str(ref.cursor.step),
        cell(ref.branch),
        cell(ref.kind),
        cell(f"{ref.manifest_sha256[:12]}…"),
        cell(str(data.get("batches", "?"))),
        cell(f"{str(data.get('merkle', '?'))[:12]}…"),
        holds,
        cell("; ".join(said)),
    )


def _orders(lineage: Lineage) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("EVENT", "ORDER", "BY", "WHAT", "FROM", "EFFECT"):
        table.add_column(name, overflow="fold")
    for log in lineage.runs:
        for order in log.orders:
            at = f"{order.at} of {order.branch}" if order.at is not None else "-"
            wants = compact({**order.wants, **({"reason": order.reason} if order.reason else {})})
            table.add_row(
                f"{order.seq}",
                *(cell(part) for part in (order.signal, order.by, wants, at, order.effect)),
            )
    return table


def _print_inquiry(console: Console, lineage: Lineage, inquiry: Inquiry) -> None:
    proved = inquiry.was_used(lineage) is not None
    console.print(cell(inquiry.says(lineage), style="bold green" if proved else "bold red"))
    if isinstance(inquiry.sample, int) and len(inquiry.datasets) > 1:
        names = ", ".join(sorted(inquiry.datasets.values()))
        console.print(
            cell(f"note: the stages have other data ({names}): name the sample by its SHA-256")
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("EPOCH", "STEP", "DATA", "CHECKPOINT", "ROOT", "PROOF"):
        table.add_column(name, overflow="fold")
    for use in inquiry.uses[:_USES_SHOWN]:
        proof = use.proof
        table.add_row(
            str(proof.batch.epoch),
            str(proof.batch.step),
            cell(use.dataset),
            cell(f"{use.manifest_sha256[:12]}…"),
            cell(use.root),
            f"batch {proof.index + 1} of {proof.size}, {len(proof.path)} hashes, verified",
        )
    if inquiry.uses:
        console.print(table)
    if len(inquiry.uses) > _USES_SHOWN:
        console.print(f"… {len(inquiry.uses) - _USES_SHOWN} more batches; --json has all")


def _verdict(lineage: Lineage) -> Text:
    links = lineage.links
    count = len(links)
    if lineage:
        batches = sum(
            found
            for link in links
            if link.checked.manifest
            and isinstance(found := link.checked.manifest.data.get("batches"), int)
        )
        text = f"verified: {count} checkpoints, {batches} batches, from the model to seed"
        return cell(f"{text} {lineage.seed}", style="bold green")
    reached = "the seed was reached" if lineage.is_complete else "the seed was not reached"
    text = f"NOT VERIFIED: {len(lineage.problems)} problems in {count} checkpoints; {reached}"
    return cell(text, style="bold red")
