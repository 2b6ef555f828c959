"""The trainer shipped with the engine: a perceptron in numpy, and an autoencoder to pretrain it.

`MlpTrainer` learns classes or values; `AutoencoderTrainer` learns to give back its input through a
narrow middle.  The first layers of both are the same: a stage that inherits the state of another
takes over every hidden layer that fits it, and draws the rest.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from orchestrator.core.values import Json
from orchestrator.training.errors import TrainerMisbehaved
from orchestrator.training.hyperparameters import Hyperparameters, number, sizes, whole
from orchestrator.training.network import Floats, Network, Update, cross_entropy, squared_error
from orchestrator.training.state import State
from orchestrator.training.trainer import Batch, Context


class MlpTrainer:
    """See `trainer.Trainer`.  Cross-entropy over classes, squared error over values."""

    version: ClassVar[str] = "1"
    draws_from_globals: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()
    hyperparameters: ClassVar[Hyperparameters] = Hyperparameters(
        sizes("hidden", 256, 128, high=8192, count_max=16),
        whole("batch_size", 32, low=1, high=65536, structural=True),
        number("lr", 1e-3, low=0, high=10),
        number("beta1", 0.9, low=0, high=0.9999),
        number("beta2", 0.999, low=0, high=0.99999),
        number("weight_decay", 0, low=0, high=1),
        number("dropout", 0.2, low=0, high=0.95),
        number("noise", 0.05, low=0, high=10),
    )

    def __init__(self) -> None:
        self._network = Network(())
        self._batches = 0
        self._by = Update(lr=0, beta1=0, beta2=0, weight_decay=0)
        self._dropout = self._noise = 0.0

    def init(self, ctx: Context) -> None:
        """See `Trainer.init`.  Takes over the inherited hidden layers that fit, in order."""
        self._shape(ctx)
        self._network.draw(ctx.rng("init"))
        if ctx.inherited is not None:
            self._take_over(ctx.inherited)

    def state(self) -> State:
        """See `Trainer.state`.  The tensors are live."""
        network = self._network
        moments = {
            **{f"m.{name}": part for name, part in network.named(network.first).items()},
            **{f"v.{name}": part for name, part in network.named(network.second).items()},
        }
        return State(
            groups={"model": network.named(network.theta), "optimizer": moments},
            meta={"updates": network.updates},
        )

    def load(self, state: State, ctx: Context) -> None:
        """See `Trainer.load`."""
        self._shape(ctx)
        own = self.state()
        for group, tensors in own.groups.items():
            for name, part in tensors.items():
                found = state.groups.get(group, {}).get(name)
                if found is None or found.shape != part.shape or found.dtype != part.dtype:
                    raise TrainerMisbehaved(
                        f"tensor {group}/{name} of a checkpoint",
                        "none" if found is None else f"{found.dtype} {found.shape}",
                        f"{part.dtype} {part.shape} is what these hyperparameters need",
                    )
                part[...] = found
        updates = state.meta["updates"]
        assert isinstance(updates, int), updates
        self._network.updates = updates

    def steps(self, epoch: int) -> int:
        """See `Trainer.steps`."""
        return self._batches

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """See `Trainer.step`."""
        batch = ctx.batch(epoch, step)
        x: Floats = batch.x
        if self._noise:
            drawn = ctx.rng("noise", epoch=epoch, step=step).standard_normal(
                x.shape, dtype=np.float32
            )
            drawn *= np.float32(self._noise)
            drawn += x
            x = drawn
        masks = self._masks(ctx, epoch, step, rows=len(x))
        passed = self._network.forward(x, masks)
        loss, delta = self._loss(ctx, batch, passed[-1])
        self._network.backward(passed, delta, masks)
        self._network.update(self._by)
        return {"loss": loss}

    def evaluate(self, ctx: Context) -> Mapping[str, float]:
        """See `Trainer.evaluate`.  Gives "loss", and "accuracy" over classes."""
        batch = ctx.dataset.held_out()
        out = self._network.forward(batch.x)[-1]
        loss, _ = self._loss(ctx, batch, out)
        if ctx.dataset.kind != "classes":
            return {"loss": loss}
        return {"loss": loss, "accuracy": float((out.argmax(axis=1) == batch.y).mean())}

    def apply(self, hparams: Mapping[str, Json]) -> None:
        """See `Trainer.apply`."""
        self._by = Update(
            lr=_float(hparams["lr"]),
            beta1=_float(hparams["beta1"]),
            beta2=_float(hparams["beta2"]),
            weight_decay=_float(hparams["weight_decay"]),
        )
        self._dropout = _float(hparams["dropout"])
        self._noise = _float(hparams["noise"])

    def _sizes(self, ctx: Context) -> list[int]:
        return [ctx.dataset.features, *_sizes(ctx.hparams["hidden"]), ctx.dataset.outputs]

    def _loss(self, ctx: Context, batch: Batch, out: Floats) -> tuple[float, Floats]:
        if ctx.dataset.kind == "classes":
            return cross_entropy(out, batch.y)
        return squared_error(out, batch.y.reshape(len(out), -1))

    def _shape(self, ctx: Context) -> None:
        wanted = tuple(self._sizes(ctx))
        if self._network.sizes != wanted:
            self._network = Network(wanted)
        self._batches = ctx.batches
        self.apply(ctx.hparams)

    def _take_over(self, state: State) -> None:
        own = self._network.named(self._network.theta)
        inherited = state.groups.get("model", {})
        hidden = len(self._network.sizes) - 2
        for index in range(hidden):
            for name in (f"w{index}", f"b{index}"):
                if name not in inherited or inherited[name].shape != own[name].shape:
                    return
            for name in (f"w{index}", f"b{index}"):
                own[name][...] = inherited[name]

    def _masks(self, ctx: Context, epoch: int, step: int, *, rows: int) -> list[Floats]:
        """Return one mask per hidden layer; what is kept is scaled up by what is dropped."""
        if not self._dropout:
            return []
        rng = ctx.rng("dropout", epoch=epoch, step=step)
        kept = np.float32(1 / (1 - self._dropout))
        return [
            (rng.random((rows, size), dtype=np.float32) >= np.float32(self._dropout)) * kept
            for size in self._network.sizes[1:-1]
        ]


class AutoencoderTrainer(MlpTrainer):
    """See `trainer.Trainer`.  Learns to give back its input; its hidden layers mirror `hidden`."""

    def _sizes(self, ctx: Context) -> list[int]:
        half = [ctx.dataset.features, *_sizes(ctx.hparams["hidden"])]
        return [*half, *half[-2::-1]]

    def _loss(self, ctx: Context, batch: Batch, out: Floats) -> tuple[float, Floats]:
        return squared_error(out, batch.x)

    def evaluate(self, ctx: Context) -> Mapping[str, float]:
        """See `Trainer.evaluate`.  Gives "loss"."""
        batch = ctx.dataset.held_out()
        loss, _ = self._loss(ctx, batch, self._network.forward(batch.x)[-1])
        return {"loss": loss}


def _float(value: Json) -> float:
    assert isinstance(value, int | float), value
    assert math.isfinite(value), value
    return float(value)


def _sizes(value: Json) -> list[int]:
    assert isinstance(value, list), value
    return [size for size in value if isinstance(size, int)]
