"""scikit-learn's estimators with ``partial_fit``, one call a step.

The engine orders the data; the estimator sees a batch.  Its constructor's parameters are the
hyperparameter `params`, fixed for a run; those that may change while it trains go in `adjust`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from orchestrator.core.values import Json
from orchestrator.training.errors import BadHyperparameter, TrainingDependencyMissing
from orchestrator.training.hyperparameters import (
    Hyperparameter,
    Hyperparameters,
    one_of,
    whole,
)
from orchestrator.training.sklearn_adjusting import check_adjustment, is_adjustment
from orchestrator.training.sklearn_state import flatten, restore, settle
from orchestrator.training.state import State
from orchestrator.training.trainer import Batch, Context

#: Estimators that resume to the same bits: name → (module, what `partial_fit` takes).
ESTIMATORS: dict[str, tuple[str, str]] = {
    "SGDClassifier": ("sklearn.linear_model", "classes"),
    "SGDRegressor": ("sklearn.linear_model", "values"),
    "Perceptron": ("sklearn.linear_model", "classes"),
    "MLPClassifier": ("sklearn.neural_network", "classes"),
    "GaussianNB": ("sklearn.naive_bayes", "classes"),
    "MultinomialNB": ("sklearn.naive_bayes", "classes"),
    "MiniBatchKMeans": ("sklearn.cluster", "samples"),
    "IncrementalPCA": ("sklearn.decomposition", "samples"),
    "StandardScaler": ("sklearn.preprocessing", "samples"),
    "MiniBatchDictionaryLearning": ("sklearn.decomposition", "samples"),
}


class SklearnTrainer:
    """See `trainer.Trainer`."""

    version: ClassVar[str] = "1"
    draws_from_globals: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("scipy", "sklearn")
    hyperparameters: ClassVar[Hyperparameters] = Hyperparameters(
        one_of("estimator", *ESTIMATORS, structural=True),
        Hyperparameter(
            name="params",
            default={},
            wanted="an object: parameters of the estimator's constructor",
            accepts=lambda value: isinstance(value, dict),
            structural=True,
        ),
        Hyperparameter(
            name="adjust",
            default={},
            wanted="an object: numbers for parameters of the estimator",
            accepts=is_adjustment,
        ),
        whole("batch_size", 32, low=1, high=65536, structural=True),
        together=check_adjustment,
    )

    def __init__(self) -> None:
        self._made = _Made(estimator=None, takes="", adjusted={})
        self._batches = 0

    def init(self, ctx: Context) -> None:
        """See `Trainer.init`.  An estimator that has seen nothing."""
        self._made = _make(ctx)
        self._batches = ctx.batches

    def state(self) -> State:
        """See `Trainer.state`.  The tensors are live."""
        estimator = self._made.estimator
        tensors, meta = flatten(estimator, estimator.get_params(deep=False))
        return State(groups={"model": tensors}, meta={"estimator": meta})

    def load(self, state: State, ctx: Context) -> None:
        """See `Trainer.load`."""
        self.init(ctx)
        restore(self._made.estimator, state.groups["model"], state.meta["estimator"])
        self._tell_optimizer()

    def steps(self, epoch: int) -> int:
        """See `Trainer.steps`."""
        return self._batches

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """See `Trainer.step`.  Gives "loss" where the estimator has one."""
        batch = ctx.batch(epoch, step)
        estimator = self._made.estimator
        match self._made.takes:
            case "classes":
                classes = np.arange(ctx.dataset.outputs)
                estimator.partial_fit(batch.x, batch.y, classes=classes)
            case "values":
                estimator.partial_fit(batch.x, batch.y.astype(np.float64))
            case _:
                estimator.partial_fit(batch.x)
        settle(estimator)
        if hasattr(estimator, "loss_curve_"):
            # Grows by one at every call; only the last one decides anything.
            del estimator.loss_curve_[:-1]
        return self._loss(batch)

    def evaluate(self, ctx: Context) -> Mapping[str, float]:
        """See `Trainer.evaluate`.  "accuracy" over classes, "score" where there is one."""
        batch = ctx.dataset.held_out()
        if self._made.takes == "samples":
            score = getattr(self._made.estimator, "score", None)
            return {"score": float(score(batch.x))} if score is not None else {}
        name = "accuracy" if self._made.takes == "classes" else "score"
        return {name: float(self._made.estimator.score(batch.x, batch.y))}

    def apply(self, hparams: Mapping[str, Json]) -> None:
        """See `Trainer.apply`."""
        self._made.adjust(hparams["adjust"])
        self._tell_optimizer()

    def _tell_optimizer(self) -> None:
        """Hand a new learning rate to the optimizer, which had its own copy from the first call."""
        estimator = self._made.estimator
        optimizer = getattr(estimator, "_optimizer", None)
        if optimizer is None:
            return
        if optimizer.learning_rate_init != estimator.learning_rate_init:
            optimizer.learning_rate_init = estimator.learning_rate_init
            optimizer.learning_rate = estimator.learning_rate_init
        if hasattr(optimizer, "momentum"):
            optimizer.momentum = estimator.momentum

    def _loss(self, batch: Batch) -> dict[str, float]:
        estimator = self._made.estimator
        if hasattr(estimator, "loss_"):
            return {"loss": float(estimator.loss_)}
        match self._made.takes:
            case "classes":
                return {"loss": float((estimator.predict(batch.x) != batch.y).mean())}
            case "values":
                return {"loss": float(np.square(estimator.predict(batch.x) - batch.y).mean())}
            case _ if hasattr(estimator, "inertia_"):
                return {"loss": float(estimator.inertia_) / len(batch.ids)}
            case _ if hasattr(estimator, "noise_variance_"):
                return {"loss": float(estimator.noise_variance_)}
            case _:
                return {}


@dataclass(slots=True, kw_only=True)
class _Made:
    """An estimator with what its `partial_fit` takes and the parameters it was made with."""

    estimator: Any
    takes: str
    adjusted: dict[str, Json]

    def adjust(self, to: Json) -> None:
        """Set the adjustable parameters; one no longer named gets back what it was made with."""
        assert isinstance(to, dict), to
        known = self.estimator.get_params(deep=False)
        for name in to:
            if name not in known:
                raise BadHyperparameter(
                    "adjust", f"{name!r}", f"{type(self.estimator).__name__} has no such parameter"
                )
        for name in to:
            self.adjusted.setdefault(name, known[name])
        self.estimator.set_params(**{**self.adjusted, **to})


def _make(ctx: Context) -> _Made:
    """Return a fresh estimator; its `random_state` comes from the seed unless it is given.

    Raises:
        BadHyperparameter: A parameter the estimator does not know; data it cannot learn; no
            random state at all, which nobody could repeat.
        TrainingDependencyMissing: scikit-learn is not installed.
    """
    name, params = ctx.hparams["estimator"], ctx.hparams["params"]
    assert isinstance(name, str), name
    assert isinstance(params, dict), params
    module, takes = ESTIMATORS[name]
    if takes in ("classes", "values") and takes != ctx.dataset.kind:
        raise BadHyperparameter("estimator", f"{name} on {ctx.dataset.name}", f"it learns {takes}")
    try:
        kind = getattr(import_module(module), name)
    except ImportError as error:
        raise TrainingDependencyMissing(
            "the scikit-learn trainer", "scikit-learn", "sklearn"
        ) from error
    known = kind().get_params(deep=False)
    given = dict(params)
    for unknown in sorted(given.keys() - known.keys()):
        raise BadHyperparameter("params", f"{unknown!r}", f"{name} has: {', '.join(sorted(known))}")
    if "random_state" in known:
        drawn = int(ctx.rng("random_state").integers(2**31))
        if not isinstance(given.setdefault("random_state", drawn), int):
            raise BadHyperparameter("params", "random_state without a number", "a whole number")
    made = _Made(estimator=kind(**given), takes=takes, adjusted={})
    made.adjust(ctx.hparams["adjust"])
    return made
