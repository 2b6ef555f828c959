"""Claims about trainings: each a function that looks, and returns what it found as evidence."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from orchestrator import RunHandle
from orchestrator.core.errors import ActivationFailed, NondeterminismError
from orchestrator.core.events import StepAttemptFailed
from orchestrator.core.replay import replay
from sagas.demo.narrator import Evidence
from sagas.training import train
from sagas.training_state import TrainingReport, TrainingState

Training: TypeAlias = RunHandle[TrainingReport]


def trained(handle: Training, epochs: int) -> Evidence:
    """The run has ended, with all epochs trained."""
    state: TrainingState | None = handle.state(TrainingState)
    found = "nothing" if state is None else f"epoch {state.epoch}, run {handle.status()}"
    return Evidence(f"all {epochs} epochs are trained", f"epoch {epochs}, run completed", found)


def lost(handle: Training, attempts: int) -> Evidence:
    """So many attempts died with their worker."""
    found = len(lost_attempts(handle))
    words = f"{attempts} chunks lost their worker, and were attempted again"
    return Evidence(f"history: {words if attempts else 'no attempt was lost'}", attempts, found)


def ordered_at(handle: Training, epoch: int, by: str) -> Evidence:
    """The one order of the run took effect there."""
    state: TrainingState | None = handle.state(TrainingState)
    orders = [] if state is None else state.orders
    found = [(each.order, each.by, each.applied, each.epoch, each.step) for each in orders]
    claim = f"{handle.id}: the order of {by} took effect at epoch {epoch}, step 0"
    return Evidence(claim, [("adjust", by, True, epoch, 0)], found)


def same_weights(store: Path, killed: Training, undisturbed: Training) -> Evidence:
    """Both runs ended with the same bytes, as their files say."""
    expected, found = (file_digests(store, each) for each in (undisturbed, killed))
    claim = (
        f"files: SHA-256 of the weights {expected['model'][:16]}… and of the optimizer "
        f"{expected['optimizer'][:16]}…, in both runs"
    )
    return Evidence(claim, expected, found)


def other_weights(store: Path, handle: Training, epoch: int) -> Evidence:
    """The weights were others in the middle: that they are equal at the end says something."""
    place = store / f"{handle.id}.{handle.describe().run}" / "ckpt"
    manifests = [json.loads(path.read_bytes())["manifest"] for path in place.rglob("*.json")]
    found = [each["blobs"]["model"]["sha256"] for each in manifests]
    middle = [
        each["blobs"]["model"]["sha256"]
        for each in manifests
        if (each["cursor"]["epoch"], each["cursor"]["step"]) == (epoch, 0)
    ]
    claim = f"files: {len(manifests)} checkpoints, each with other weights"
    wanted = f"one at epoch {epoch} among them, no two alike"
    is_so = len(middle) == 1 and len(set(found)) == len(found) > 1
    return Evidence(claim, wanted, wanted if is_so else f"{middle} among {found}")


def trainings_replay(handles: Sequence[Training]) -> Evidence:
    """The code, given the inputs of the trainings' histories, issues the commands they record."""
    bad = []
    for handle in handles:
        events = [each.event for each in handle.history()]
        try:
            replay(train.definition, handle.id, handle.run, events).execution.close()
        except (NondeterminismError, ActivationFailed) as error:
            bad.append(str(error))
    return Evidence(f"{len(handles)} histories of trainings replayed", [], bad)


def lost_attempts(handle: Training) -> list[StepAttemptFailed]:
    """Return the attempts that ended with their worker."""
    events = (each.event for each in handle.history())
    return [each for each in events if isinstance(each, StepAttemptFailed) and each.kind == "lost"]


def file_digests(store: Path, handle: Training) -> dict[str, str]:
    """Return the SHA-256 of the files with the weights and the optimizer's moments at the end."""
    report: Any = handle.result(timeout=1)
    checkpoint = TrainingReport.model_validate(report).checkpoint
    blobs = json.loads((store / str(checkpoint["key"])).read_bytes())["manifest"]["blobs"]
    place = store / report.storage / "blobs" / "sha256"
    return {
        name: hashlib.sha256((place / blobs[name]["sha256"]).read_bytes()).hexdigest()
        for name in ("model", "optimizer")
    }
