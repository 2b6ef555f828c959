"""``celery -A … workflow lineage``: from a model to its seed, and what was verified on the way."""

import json
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from celery.bin.base import CeleryCommand

from orchestrator.app import Orchestrator
from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import EXIT_NO, EXIT_WRONG, Refusal, worded
from orchestrator.cli.options import id_argument, json_flag, run_option
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.errors import RunNotFound
from orchestrator.core.events import (
    RunContinuedAsNew,
    RunStarted,
    SignalReceived,
    StepCompleted,
    StepScheduled,
)
from orchestrator.core.values import Json

if TYPE_CHECKING:
    from orchestrator.training.lineage_log import Entry, Kin, RunName, TrainingLog


@click.command("lineage", cls=CeleryCommand)
@id_argument
@run_option
@click.option("--contains", metavar="SAMPLE", help="An id, or the SHA-256 of a sample in hex.")
@click.option("--proof", type=click.Path(path_type=Path), help="Write the proof to this file.")
@click.option("--checkpoint", metavar="DIGEST", help="Walk from here; else from the model.")
@click.option("--store", help="Where the checkpoints are; else where the history says.")
@json_flag
@click.pass_context
@worded
def lineage(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    workflow_id: str,
    run: int | None,
    contains: str | None,
    proof: Path | None,
    checkpoint: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Walk from the model of training ID to its seed, verifying everything on the way.

    With --contains: prove that a sample was, or was not, trained on.  Exit code 1 where something
    does not hold, or cannot be proved.
    """
    if proof is not None and contains is None:
        raise click.UsageError("--proof says something of a sample: name it with --contains")
    _check_installed()
    # Not at the top: all this needs numpy, which a shop does without.
    from orchestrator.cli.lineage_tables import print_lineage
    from orchestrator.training.evidence import sample_from_text
    from orchestrator.training.lineage import trace
    from orchestrator.training.lineage_json import lineage_json
    from orchestrator.training.lineage_samples import Inquiry

    inquiry = Inquiry(sample_from_text(contains)) if contains is not None else None
    histories = Histories(orchestrator_of(ctx.obj.app))
    log = histories.read(workflow_id, run)
    found = trace(log, histories, _opener(store), begin=checkpoint, look=inquiry)
    if as_json:
        tables.print_json(lineage_json(found, inquiry))
    else:
        print_lineage(tables.console(), found, inquiry)
    if inquiry is not None and proof is not None:
        _write_proof(proof, inquiry.document(found), as_json=as_json)
    if not found or (inquiry is not None and inquiry.was_used(found) is None):
        ctx.exit(EXIT_NO)


class Histories:
    """Reads what the histories of runs say of trainings; see `training.lineage.Histories`."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    def read(self, workflow_id: str, run: int | None) -> "TrainingLog":
        """Return what the history of a training says.

        Raises:
            Refusal: It is none, or cannot be read.
            RunNotFound: It is not there.
        """
        found = self._read(workflow_id, run)
        if found is None:
            raise Refusal(f"{workflow_id} is no training, or has not prepared yet", EXIT_NO)
        return found

    def find(self, name: "RunName") -> "TrainingLog | None":
        """See `training.lineage.Histories.find`."""
        try:
            return self._read(name.workflow_id, name.run)
        except RunNotFound:
            return None

    def _read(self, workflow_id: str, run: int | None) -> "TrainingLog | None":
        from orchestrator.training.lineage_log import Chain, RunName, read_log

        summary = self._orchestrator.run(workflow_id, run).describe()
        handle = self._orchestrator.run(workflow_id, summary.run)
        checked = handle.verify()
        try:
            history = handle.history()
        except ValueError as error:
            reason = f"history of {workflow_id} cannot be read: event {checked.bad_seq}: {error}"
            raise Refusal(reason, EXIT_NO) from error
        chain = Chain(
            events=len(history),
            head=history[-1].head if history else "",
            broken="" if checked else f"event {checked.bad_seq}: {checked.reason}",
        )
        name = RunName(workflow_id, summary.run)
        return read_log(name, chain, self._entries(history), kin=_kin_of(name, history))

    def _entries(self, history: Any) -> "Iterator[Entry]":
        from orchestrator.training.lineage_log import Answered, Ordered, Told

        for each in history:
            match each.event:
                case StepScheduled() as event:
                    args = self._value(event.args)
                    yield Ordered(seq=each.seq, step=event.step, task=event.task, args=args)
                case StepCompleted() as event:
                    yield Answered(
                        seq=each.seq,
                        step=event.step,
                        attempt=event.attempt,
                        result=self._value(event.result),
                    )
                case SignalReceived() as event:
                    yield Told(
                        seq=each.seq,
                        at_ms=event.at_ms,
                        signal=event.signal,
                        payload=event.payload,
                    )
                case _:
                    continue

    def _value(self, value: Json) -> Json:
        ref = find_blob_ref(value)
        return value if ref is None else self._orchestrator.blobs.get(ref)


def _kin_of(name: "RunName", history: Any) -> "Kin":
    """Return the runs beside a run, as its own history names them."""
    from orchestrator.training.lineage_log import Kin, RunName

    first, last = (history[0].event, history[-1].event) if history else (None, None)
    parent: Any = first.parent if isinstance(first, RunStarted) else {}
    before = first.continued_from if isinstance(first, RunStarted) else 0
    goes_on = isinstance(last, RunContinuedAsNew)
    return Kin(
        parent=RunName(parent["workflow"], parent["run"]) if parent else None,
        continued_from=RunName(name.workflow_id, before) if before else None,
        continued_by=RunName(name.workflow_id, name.run + 1) if goes_on else None,
    )


def _opener(given: str | None) -> Any:
    from orchestrator.training.checkpoints import CheckpointStore
    from orchestrator.training.layout import part
    from orchestrator.training.stores import objects_at

    def open_at(address: str, storage: str) -> CheckpointStore:
        objects = objects_at(given or address)
        if next(iter(objects.list(f"{part(storage)}/")), None) is None:
            raise Refusal(
                f"the store {given or address} has nothing of {storage}: name another with --store",
                EXIT_NO,
            )
        return CheckpointStore(objects, storage)

    return open_at


def _write_proof(path: Path, document: Json, *, as_json: bool) -> None:
    if document is None:
        raise Refusal(f"no proof was written to {path}: there is none to be given", EXIT_NO)
    path.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))
    if not as_json and isinstance(document, dict):
        module = import_module("orchestrator.training.lineage_proof").__name__
        click.echo(f"verify it anywhere: python -m {module} {path} {document['model']}")


def _check_installed() -> None:
    missing = [name for name in ("numpy", "threadpoolctl") if find_spec(name) is None]
    if missing:
        raise Refusal(
            f"lineage needs {missing[0]}: pip install 'celery-orchestrator[training]'", EXIT_WRONG
        )
