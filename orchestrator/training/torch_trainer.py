"""PyTorch models: parameters, buffers, optimizer and scheduler, saved without `torch.save`.

A subclass of `TorchTrainer` says what is built and what is minimised.  `DigitsCnn` is one: a small
convolutional network with batch normalisation and dropout, AdamW and a stepwise schedule.

Bits are the same again on the same environment class only: threads, instruction set and version
count, as for numpy.  Nothing is claimed for accelerators, which were not tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from orchestrator.core.values import Json
from orchestrator.training.errors import BadHyperparameter, TrainerMisbehaved
from orchestrator.training.hyperparameters import Hyperparameters, number, whole
from orchestrator.training.state import State
from orchestrator.training.torch_state import flatten, plain, restored, to_tensor
from orchestrator.training.trainer import Array, Batch, Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a subclass builds; the scheduler, if any, moves at the end of an epoch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None


class TorchTrainer:
    """See `trainer.Trainer`.  Subclasses give `hyperparameters`, `build` and `loss`."""

    version: ClassVar[str] = "1"
    draws_from_globals: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    hyperparameters: ClassVar[Hyperparameters]

    def __init__(self) -> None:
        torch.use_deterministic_algorithms(mode=True)
        self._parts: Parts | None = None
        self._batches = 0
        #: The learning rate the optimizer was told last; a scheduler moves it from there.
        self._lr = 0.0

    def build(self, ctx: Context) -> Parts:
        """Return model, optimizer and scheduler; torch's generator is seeded from the run's."""
        raise NotImplementedError

    def loss(self, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return what is minimised."""
        raise NotImplementedError

    def inputs(self, batch: Batch) -> torch.Tensor:
        """Return what the model is given for a batch."""
        return torch.from_numpy(batch.x)

    def init(self, ctx: Context) -> None:
        """See `Trainer.init`.  Takes over every inherited tensor that fits by name and shape."""
        torch.manual_seed(int(ctx.rng("torch-init").integers(2**63)))
        self._parts = self.build(ctx)
        self._batches = ctx.batches
        self._lr = _lr(ctx.hparams)
        if ctx.inherited is not None:
            self._take_over(ctx.inherited)

    def state(self) -> State:
        """See `Trainer.state`.  The tensors are live."""
        parts = self._built()
        model, about_model = flatten(parts.model.state_dict(), "the model's")
        slots = {
            f"{index}.{name}": value
            for index, values in parts.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        optimizer, about_optimizer = flatten(slots, "the optimizer's")
        groups = [
            {name: value for name, value in group.items() if name != "params"}
            for group in parts.optimizer.param_groups
        ]
        scheduler = parts.scheduler.state_dict() if parts.scheduler else None
        return State(
            groups={"model": model, "optimizer": optimizer},
            meta={
                "model": about_model,
                "optimizer": about_optimizer,
                "groups": plain(groups, "the optimizer's groups"),
                "scheduler": plain(scheduler, "the scheduler"),
                "lr": self._lr,
            },
        )

    def load(self, state: State, ctx: Context) -> None:
        """See `Trainer.load`.

        Raises:
            TrainerMisbehaved: The model has other tensors, or ties others (TS2).
        """
        self._parts = parts = self.build(ctx)
        self._batches = ctx.batches
        _, own = flatten(parts.model.state_dict(), "the model's")
        if own["aliases"] != _object(state.meta["model"])["aliases"]:
            raise TrainerMisbehaved("a checkpoint's model", "other weights are tied", "its trainer")
        parts.model.load_state_dict(restored(state.groups["model"], state.meta["model"]))
        self._load_optimizer(parts, state)
        found = state.meta["lr"]
        assert isinstance(found, float), found
        self._lr = found
        self.apply(ctx.hparams)

    def steps(self, epoch: int) -> int:
        """See `Trainer.steps`."""
        return self._batches

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """See `Trainer.step`.  The scheduler moves after the last step of an epoch."""
        parts = self._built()
        batch = ctx.batch(epoch, step)
        parts.model.train()
        parts.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(parts.model(self.inputs(batch)), torch.from_numpy(batch.y))
        torch.autograd.backward(loss)
        parts.optimizer.step()
        if parts.scheduler is not None and step == self._batches - 1:
            parts.scheduler.step()
        return {"loss": float(loss.detach())}

    def evaluate(self, ctx: Context) -> Mapping[str, float]:
        """See `Trainer.evaluate`.  "loss", and "accuracy" over classes."""
        parts = self._built()
        batch = ctx.dataset.held_out()
        parts.model.eval()
        with torch.no_grad():
            out = parts.model(self.inputs(batch))
            found = {"loss": float(self.loss(out, torch.from_numpy(batch.y)))}
        if ctx.dataset.kind == "classes":
            found["accuracy"] = float((out.argmax(dim=1).numpy() == batch.y).mean())
        return found

    def apply(self, hparams: Mapping[str, Json]) -> None:
        """See `Trainer.apply`.  A new learning rate keeps the schedule's share of it."""
        parts, lr = self._built(), _lr(hparams)
        if lr == self._lr:
            return
        for group in parts.optimizer.param_groups:
            group["lr"] = group["lr"] / self._lr * lr if self._lr else lr
            if "initial_lr" in group:
                group["initial_lr"] = lr
        if parts.scheduler is not None:
            parts.scheduler.base_lrs = [lr] * len(parts.optimizer.param_groups)
        self._lr = lr

    def _built(self) -> Parts:
        assert self._parts is not None, "init or load comes first"
        return self._parts

    def _take_over(self, state: State) -> None:
        own = self._built().model.state_dict()
        inherited = state.groups.get("model", {})
        dtypes = _object(_object(state.meta["model"])["dtypes"])
        for name, tensor in own.items():
            if name in inherited and inherited[name].shape == tuple(tensor.shape):
                tensor.copy_(to_tensor(inherited[name], str(dtypes[name])))

    def _load_optimizer(self, parts: Parts, state: State) -> None:
        slots: dict[int, dict[str, Any]] = {}
        found = restored(_arrays(state, "optimizer"), state.meta["optimizer"])
        for path, value in found.items():
            index, _, name = path.partition(".")
            slots.setdefault(int(index), {})[name] = value
        groups = parts.optimizer.state_dict()["param_groups"]
        saved = state.meta["groups"]
        assert isinstance(saved, list), saved
        for group, values in zip(groups, saved, strict=True):
            group.update(
                {
                    # JSON has no tuples, and Adam takes its betas as one.
                    name: tuple(value)
                    if isinstance(group.get(name), tuple) and isinstance(value, list)
                    else value
                    for name, value in _object(values).items()
                }
            )
        parts.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        if parts.scheduler is not None:
            parts.scheduler.load_state_dict(dict(_object(state.meta["scheduler"])))


class DigitsCnn(TorchTrainer):
    """A convolutional network for square images of one channel."""

    hyperparameters: ClassVar[Hyperparameters] = Hyperparameters(
        whole("channels", 16, low=1, high=512, structural=True),
        whole("batch_size", 32, low=2, high=65536, structural=True),
        number("lr", 1e-3, low=0, high=10),
        number("weight_decay", 0.01, low=0, high=1, structural=True),
        number("dropout", 0.2, low=0, high=0.95, structural=True),
        whole("decay_every", 10, low=1, high=10_000, structural=True),
        number("decay", 0.5, low=0, high=1, structural=True),
    )

    def build(self, ctx: Context) -> Parts:
        """See `TorchTrainer.build`.

        Raises:
            BadHyperparameter: The samples are no square images of classes.
        """
        side = round(ctx.dataset.features**0.5)
        if side * side != ctx.dataset.features or side % 2 or ctx.dataset.kind != "classes":
            raise BadHyperparameter("dataset", ctx.dataset.name, "square images of classes")
        channels, values = ctx.hparams["channels"], ctx.hparams
        assert isinstance(channels, int), channels
        model = nn.Sequential(
            nn.Unflatten(1, (1, side, side)),
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(_number(values["dropout"])),
            nn.Linear(channels * side * side // 4, ctx.dataset.outputs),
        )
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=_lr(values), weight_decay=_number(values["weight_decay"])
        )
        every = values["decay_every"]
        assert isinstance(every, int), every
        return Parts(
            model=model,
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.StepLR(
                optimizer, step_size=every, gamma=_number(values["decay"])
            ),
        )

    def loss(self, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """See `TorchTrainer.loss`."""
        return nn.functional.cross_entropy(out, y)


def _arrays(state: State, group: str) -> Mapping[str, Array]:
    return state.groups.get(group, {})


def _object(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict), type(value)
    return value


def _number(value: Json) -> float:
    assert isinstance(value, int | float), value
    return float(value)


def _lr(hparams: Mapping[str, Json]) -> float:
    return _number(hparams["lr"])
