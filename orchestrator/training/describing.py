"""What a checkpoint says of itself beside its tensors, and whether it may be continued here.

DE1  Everything in a description is a function of the work and its parent: no clock, no host name,
     no attempt.
DE2  A checkpoint is continued only with the data and the trainer it was saved with.  Another
     environment class is a matter of policy, and is always named.
"""

from collections.abc import Mapping

from orchestrator.core.values import Json
from orchestrator.training.environment import Environment, differences, fingerprint
from orchestrator.training.errors import DatasetChanged, EnvironmentDiffers, TrainerChanged
from orchestrator.training.manifest import Description, Manifest
from orchestrator.training.rng import SCHEME, own_globals, probe
from orchestrator.training.session import Session
from orchestrator.training.trainer import Trainer
from orchestrator.training.trainers import code_sha256
from orchestrator.training.work import ChunkWork, EnvironmentPolicy, SaveAs

#: In front of the names of an evaluation's metrics, beside those of the steps.
HELD_OUT = "held_out_"


def describe(
    work: ChunkWork,
    session: Session,
    *,
    kind: str,
    metrics: Mapping[str, float],
    branch: str,
    ledger: str | None,
) -> Description:
    """Return what the checkpoint of `session`, as it stands, says of itself (DE1)."""
    ctx, since = session.ctx, session.since
    return Description(
        branch=branch,
        step=session.step,
        epoch=session.cursor.epoch,
        chunk=session.cursor.step,
        parent=session.parent,
        kind=kind,
        cursor={
            "epoch": session.cursor.epoch,
            "step": session.cursor.step,
            "sample_in_epoch": min(session.cursor.step * ctx.batch_size, ctx.dataset.size),
            "seed": ctx.seed,
            "scheme": SCHEME,
        },
        rng={"scheme": SCHEME, "bit_generator": "Philox", "streams": {}, "probe": probe()},
        hparams=dict(ctx.hparams),
        data={
            "dataset": ctx.dataset.fingerprint,
            "name": ctx.dataset.name,
            "split_seed": work.split_seed,
            "batches": since.steps,
            "merkle": since.ledger.root(),
            "ledger": ledger,
            "inherits": work.inherits.manifest_sha256 if work.inherits else None,
        },
        code=code_of(work.trainer, session.trainer),
        env=environment_of(session.trainer).as_json(),
        metrics=dict(metrics),
    )


def metrics_of(session: Session, save: SaveAs | None) -> dict[str, float]:
    """Return the means since the parent, and an evaluation where one is wanted."""
    found = session.since.means()
    if save is not None and save.evaluate:
        with own_globals(draws=session.trainer.draws_from_globals):
            evaluated = session.trainer.evaluate(session.ctx)
        found |= {f"{HELD_OUT}{name}": float(value) for name, value in evaluated.items()}
    return found


def code_of(name: str, trainer: Trainer) -> dict[str, Json]:
    """Return what tells one trainer's bits from another's."""
    kind = type(trainer)
    return {
        "trainer": name,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "version": kind.version,
        "sha256": code_sha256(kind),
    }


def environment_of(trainer: Trainer) -> Environment:
    """Return what decides how this process rounds for a trainer, and nothing else (DE1)."""
    return fingerprint(trainer.packages)


def check_trainer(work: ChunkWork, version: str) -> None:
    """Refuse a trainer that is not the work's.

    Raises:
        TrainerChanged: With both versions.
    """
    if work.trainer_version not in (None, version):
        raise TrainerChanged(work.trainer, version, str(work.trainer_version))


def check_dataset(name: str, found: str, wanted: Json) -> None:
    """Refuse data that is not what was trained on; `wanted` of None is not known yet.

    Raises:
        DatasetChanged: With both fingerprints.
    """
    if wanted not in (None, found):
        raise DatasetChanged(name, found, str(wanted))


def check_fits(manifest: Manifest, session: Session, policy: EnvironmentPolicy) -> tuple[str, ...]:
    """Return how this environment differs from the one that saved, in words (DE2).

    Raises:
        DatasetChanged: The data is another.
        TrainerChanged: The trainer is another.
        EnvironmentDiffers: It differs, and the policy is to refuse.
    """
    dataset = session.ctx.dataset
    check_dataset(dataset.name, dataset.fingerprint, manifest.data.get("dataset"))
    version = manifest.code.get("version")
    if version != session.trainer.version:
        name = str(manifest.code.get("trainer"))
        raise TrainerChanged(name, session.trainer.version, str(version))
    found = _differences(manifest, session.trainer)
    if found and policy == "refuse":
        raise EnvironmentDiffers(f"at step {manifest.step}", found)
    return found


def _differences(manifest: Manifest, trainer: Trainer) -> tuple[str, ...]:
    words = differences(Environment.from_json(manifest.env), environment_of(trainer))
    if manifest.rng.get("probe") != probe():
        words = (*words, "the generators draw other numbers for the same keys")
    return words
