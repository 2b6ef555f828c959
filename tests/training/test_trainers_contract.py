"""Promise: a trainer that breaks its contract is found out by name, before hours are spent."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest

from orchestrator.core.values import Json
from orchestrator.training import trainers
from orchestrator.training.datasets import open_dataset
from orchestrator.training.errors import ResumeNotIdentical, TrainerMisbehaved, UnknownTrainer
from orchestrator.training.numpy_trainer import MlpTrainer
from orchestrator.training.state import State
from orchestrator.training.testkit import assert_resume_identical
from orchestrator.training.trainer import Context, Trainer
from orchestrator.training.trainers import (
    code_sha256,
    get_trainer,
    known_trainers,
    register_trainer,
)
from tests.training.trainers_kit import SMALL, at, branch


class Forgetful(MlpTrainer):
    """Saves weights alone."""

    def state(self) -> State:
        """Leave out what Adam has gathered."""
        whole = super().state()
        return State(groups={**whole.groups, "optimizer": {}}, meta=whole.meta)

    def load(self, state: State, ctx: Context) -> None:
        """Start Adam anew."""
        fresh = MlpTrainer()
        fresh.init(ctx)
        super().load(
            State(groups={**fresh.state().groups, "model": state.groups["model"]}, meta=state.meta),
            ctx,
        )


class Shifty(MlpTrainer):
    """Remembers something that it does not save."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """Train with a learning rate of its own."""
        self._taken += 1
        self.apply({**ctx.hparams, "lr": 0.001 / self._taken})
        return super().step(ctx, epoch, step)


class Lossy(MlpTrainer):
    """Rounds what it saves."""

    def state(self) -> State:
        """Drop the last bits of the weights."""
        whole = super().state()
        model = {
            n: t.astype(np.float16).astype(np.float32) for n, t in whole.groups["model"].items()
        }
        model["w0"] = model["w0"] * np.float32(0.999)
        return State(groups={**whole.groups, "model": model}, meta=whole.meta)


class Random(MlpTrainer):
    """Draws from numpy's own generator, and does not say so."""

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """Move the weights about."""
        self._network.theta += np.float32(np.random.random() * 1e-3)
        return super().step(ctx, epoch, step)


class Honest(Random):
    """Draws from numpy's own generator, and says so."""

    draws_from_globals: ClassVar[bool] = True


class Idle(MlpTrainer):
    """Asks for no batch."""

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """Do nothing."""
        return {"loss": 0.0}


class Greedy(MlpTrainer):
    """Asks for two batches."""

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """Look at the next one too."""
        ctx.batch(epoch, step + 1)
        return super().step(ctx, epoch, step)


class Astray(MlpTrainer):
    """Trains on another step's batch."""

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """Take the batch of the epoch after."""
        return super().step(ctx, epoch + 1, step)


class Moody(MlpTrainer):
    """Names other metrics at every step."""

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """Name the step in the metric."""
        return {f"loss_{step}": super().step(ctx, epoch, step)["loss"]}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "_KNOWN", dict(trainers._KNOWN))
    for kind in (Lossy, Idle, Greedy, Astray, Moody, Honest):
        register_trainer(kind.__name__, kind)


@pytest.mark.parametrize("trainer", [Forgetful, Shifty, Random])
def test_kit_finds_a_trainer_that_does_not_resume(trainer: type[Trainer]) -> None:
    with pytest.raises(ResumeNotIdentical):
        assert_resume_identical(trainer, hparams=SMALL, steps=4)


def test_draws_from_global_generators_resume_where_they_are_declared() -> None:
    assert_resume_identical(Honest, hparams=SMALL, steps=6)
    cut, whole = branch(trainer="Honest"), branch(trainer="Honest")
    assert cut.through([3, 11, 50]).digest() == whole.through([50]).digest()


def test_runner_refuses_a_first_state_that_does_not_come_back() -> None:
    with pytest.raises(ResumeNotIdentical, match="the first state of trainer 'Lossy'"):
        branch(trainer="Lossy").through([0])


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("Idle", "no batch asked for"),
        ("Greedy", "a second batch"),
        ("Astray", r"the batch of \(1, 0\)"),
        ("Moody", "every step names the same"),
    ],
)
def test_steps_that_would_falsify_the_evidence_are_refused(trainer: str, said: str) -> None:
    found = branch(trainer=trainer).through([0])
    with pytest.raises(TrainerMisbehaved, match=said):
        found.train(at(3))
    assert len(found.refs) == 1


def test_batch_beyond_the_epoch_is_refused() -> None:
    hparams = MlpTrainer.hyperparameters.complete(SMALL)
    ctx = Context(seed=7, hparams=hparams, dataset=open_dataset("digits"))
    assert ctx.batches == 45
    with pytest.raises(TrainerMisbehaved, match="an epoch of 45 batches"):
        ctx.batch(0, 45)


def test_every_sample_is_used_once_an_epoch_in_an_order_of_its_own() -> None:
    hparams = MlpTrainer.hyperparameters.complete(SMALL)
    ctx = Context(seed=7, hparams=hparams, dataset=open_dataset("digits"))
    seen = [np.concatenate([ctx.batch(epoch, s).ids for s in range(45)]) for epoch in (0, 1, 0)]
    assert all(sorted(ids) == ctx.dataset.ids.tolist() for ids in seen)
    assert (seen[0] == seen[2]).all()
    assert (seen[0] != seen[1]).any()


def test_checkpoint_of_another_shape_is_refused_by_tensor() -> None:
    small = MlpTrainer.hyperparameters.complete(SMALL)
    trainer = MlpTrainer()
    data = open_dataset("digits")
    trainer.init(Context(seed=7, hparams=small, dataset=data))
    large = MlpTrainer.hyperparameters.complete({"hidden": [17]})
    with pytest.raises(TrainerMisbehaved, match="tensor model/w0"):
        MlpTrainer().load(trainer.state(), Context(seed=7, hparams=large, dataset=data))


def test_unknown_trainer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownTrainer, match=r"autoencoder, .*mlp"):
        get_trainer("os:system")
    assert "mlp" in known_trainers()


def test_code_of_a_trainer_is_the_file_it_stands_in() -> None:
    assert len(code_sha256(MlpTrainer)) == 64
    assert code_sha256(MlpTrainer) != code_sha256(Lossy)


def test_metrics_of_every_kind_of_number_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: MlpTrainer, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        ctx.batch(epoch, step)
        return {"loss": float("nan"), "norm": float("inf"), "zero": -0.0}

    monkeypatch.setattr(MlpTrainer, "step", step)
    found = branch().through([0, 3])
    written = found.results[-1].as_json()
    assert isinstance(written, dict)
    metrics: Json = written["metrics"]
    assert metrics == {"loss": "nan", "norm": "inf", "zero": -0.0}
