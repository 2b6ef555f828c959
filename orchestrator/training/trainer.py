"""What a trainer is to the engine: a state, a step, and nothing hidden between the two.

The runner drives the loop and owns the checkpoints; a trainer knows neither.  What a trainer may
use of the world comes through its `Context`: the seed, the hyperparameters in force, the batches.

T1  A step is a function of (state, seed, hyperparameters, epoch, step).  All chance comes from
    `Context.rng`, which is keyed, so that no draw of one step can shift another.
T2  `state` holds all of it: ``state → bytes → fresh trainer → bytes`` gives the same bytes.
T3  The hyperparameters in force are the context's, never the state's: `load` takes tensors and
    counters from the state, and the learning rate from the context.
T4  The batches of an epoch are a keyed permutation of the training samples: a function of
    (seed, epoch), whoever asks, in whatever pieces.
T5  A step asks for exactly one batch, its own.  `Context` notes it for the evidence; what was
    trained on can therefore not differ from what the evidence says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from orchestrator.core.values import Json
from orchestrator.training.errors import TrainerMisbehaved
from orchestrator.training.hyperparameters import Hyperparameters
from orchestrator.training.rng import stream
from orchestrator.training.state import State

Array: TypeAlias = npt.NDArray[Any]
Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A position between two steps: `step` steps of epoch `epoch` are done; both count from 0."""

    epoch: int
    step: int

    def __post_init__(self) -> None:
        assert self.epoch >= 0, self
        assert self.step >= 0, self

    def __str__(self) -> str:
        return f"epoch {self.epoch} step {self.step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples with the ids by which the evidence names them; row i of `x` and `y` is ``ids[i]``."""

    ids: Ids
    x: Array
    y: Array


class Dataset(Protocol):
    """Samples with stable ids, parted once and for all in a training and a held-out part."""

    @property
    def name(self) -> str:
        """The name it is opened by."""

    @property
    def kind(self) -> str:
        """What `y` holds: "classes" (0 to `outputs` - 1) or "values"."""

    @property
    def outputs(self) -> int:
        """How many classes there are; 1 for values."""

    @property
    def features(self) -> int:
        """How many numbers one sample has."""

    @property
    def size(self) -> int:
        """How many training samples there are."""

    @property
    def ids(self) -> Ids:
        """The ids of the training samples, ascending."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every sample and the way they are parted, in hex."""

    def take(self, ids: Ids) -> Batch:
        """Return copies of the samples with these ids, in this order."""

    def held_out(self) -> Batch:
        """Return the samples that no step is given."""

    def sample_digest(self, sample: int) -> bytes:
        """Return the SHA-256 (32 bytes) of one sample, as trained on: x and y."""


class Context:
    """What a trainer may use: the seed, the values in force, the batches, what a stage inherits."""

    def __init__(
        self,
        *,
        seed: int,
        hparams: Mapping[str, Json],
        dataset: Dataset,
        inherited: State | None = None,
    ) -> None:
        self.seed = seed
        self.hparams = hparams
        self.dataset = dataset
        #: The final state of an earlier stage, for `Trainer.init`; None without one.
        self.inherited = inherited
        #: Told the ids of every batch that is handed out; set by whoever keeps the evidence.
        self.observe: Callable[[int, int, Ids], None] | None = None
        self._order: tuple[int, int, Ids] | None = None

    @property
    def batch_size(self) -> int:
        """How many samples a batch has; the last of an epoch may have fewer."""
        found = self.hparams["batch_size"]
        assert isinstance(found, int), found
        return found

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        return -(-self.dataset.size // self.batch_size)

    def rng(self, purpose: str, *, epoch: int = 0, step: int = 0) -> np.random.Generator:
        """Return a fresh generator, keyed by seed, purpose, epoch and step (T1)."""
        return stream(self.seed, purpose, epoch=epoch, step=step)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the batch of a step, and note it for the evidence (T4, T5).

        Raises:
            TrainerMisbehaved: The epoch has no such step.
        """
        if not 0 <= step < self.batches:
            raise TrainerMisbehaved(
                f"batch {step} of epoch {epoch}", f"an epoch of {self.batches} batches", "ask less"
            )
        ids = self.order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        if self.observe is not None:
            self.observe(epoch, step, ids)
        return self.dataset.take(ids)

    def order(self, epoch: int) -> Ids:
        """Return the ids of all training samples, as this epoch has them (T4)."""
        known = self._order
        if known is None or known[:2] != (self.seed, epoch):
            permuted = self.rng("order", epoch=epoch).permutation(self.dataset.ids)
            known = self._order = (self.seed, epoch, permuted)
        return known[2]


class Trainer(Protocol):
    """A model and the way it learns.  One object serves one run on one thread at a time."""

    #: Changes whenever the same state, seed and hyperparameters would give other bits.
    version: ClassVar[str]
    #: What it can be told.
    hyperparameters: ClassVar[Hyperparameters]
    #: Whether it draws from the generators of ``random``, ``numpy.random`` or torch: they are
    #: then seeded before every step, from the same keys as `Context.rng`, and in a process of
    #: several threads no two of those that say so compute at a time.
    draws_from_globals: ClassVar[bool]
    #: Packages beside numpy that compute for it, as they are imported: their versions and
    #: settings belong to the environment that its bits depend on.
    packages: ClassVar[tuple[str, ...]]

    def init(self, ctx: Context) -> None:
        """Take the state before the first step, from the seed and from ``ctx.inherited``."""

    def state(self) -> State:
        """Return all that the next step depends on (T2).

        The tensors may be the live ones: whoever keeps them beyond the next step copies them.
        """

    def load(self, state: State, ctx: Context) -> None:
        """Continue from `state`, in a fresh object as in a used one; copies what it keeps (T3)."""

    def steps(self, epoch: int) -> int:
        """Return how many steps an epoch has, at least 1.  Known after `init` or `load`."""

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """Train one step on ``ctx.batch(epoch, step)``; return metrics, always the same."""

    def evaluate(self, ctx: Context) -> Mapping[str, float]:
        """Return metrics over the held-out samples.  Changes nothing, asks for no batch."""

    def apply(self, hparams: Mapping[str, Json]) -> None:
        """Train on with other values, complete and checked; structural ones are as before."""


TrainerFactory: TypeAlias = Callable[[], Trainer]
