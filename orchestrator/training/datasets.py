"""Data by name: what scikit-learn carries with it, and what a process registers.

Nothing is downloaded.

D1  What is trained on is the same bits everywhere: features are brought to 0…1 with one
    subtraction and one division of float32 each, which IEEE 754 rounds exactly; no sum, no
    exponential, whose last bit depends on the processor.
D2  Ids are the rows of the set as published.  The split into training and held-out part is a
    function of (name, split seed): a run that is given another seed keeps its held-out samples.
D3  The fingerprint covers every sample, the ids of both parts and the name.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from orchestrator.training.errors import TrainingDependencyMissing, UnknownDataset
from orchestrator.training.evidence import dataset_fingerprint
from orchestrator.training.rng import stream
from orchestrator.training.trainer import Array, Batch, Dataset, Ids

#: One sample in five is held out.
HELD_OUT_SHARE = 0.2

Raw: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[Any]]


class ArrayDataset:
    """See `trainer.Dataset`.  Samples in two arrays; `kind` is "classes" or "values"."""

    def __init__(self, name: str, x: Array, y: Array, *, kind: str, split_seed: int) -> None:
        assert len(x) == len(y), (len(x), len(y))
        self._name, self._kind = name, kind
        self._x, self._y = np.ascontiguousarray(x), np.ascontiguousarray(y)
        order = stream(split_seed, "split").permutation(len(x)).astype(np.int64)
        held_out = int(len(x) * HELD_OUT_SHARE)
        self._held_out = np.sort(order[:held_out])
        self._ids = np.sort(order[held_out:])
        self._digests = [
            hashlib.sha256(row.tobytes() + label.tobytes()).digest()
            for row, label in zip(self._x, self._y, strict=True)
        ]
        self._fingerprint = dataset_fingerprint(
            f"{name} ({kind})",
            {"training": self._ids.tolist(), "held out": self._held_out.tolist()},
            self.sample_digest,
        )

    @property
    def name(self) -> str:
        """See `trainer.Dataset`."""
        return self._name

    @property
    def kind(self) -> str:
        """See `trainer.Dataset`."""
        return self._kind

    @property
    def outputs(self) -> int:
        """See `trainer.Dataset`."""
        return int(self._y.max()) + 1 if self._kind == "classes" else 1

    @property
    def features(self) -> int:
        """See `trainer.Dataset`."""
        return int(self._x.shape[1])

    @property
    def size(self) -> int:
        """See `trainer.Dataset`."""
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """See `trainer.Dataset`."""
        return self._ids

    @property
    def fingerprint(self) -> str:
        """See `trainer.Dataset`."""
        return self._fingerprint

    def take(self, ids: Ids) -> Batch:
        """See `trainer.Dataset`."""
        return Batch(ids=ids, x=self._x[ids], y=self._y[ids])

    def held_out(self) -> Batch:
        """See `trainer.Dataset`."""
        return self.take(self._held_out)

    def sample_digest(self, sample: int) -> bytes:
        """See `trainer.Dataset`."""
        return self._digests[sample]


def register_dataset(name: str, opener: Callable[[int], Dataset]) -> None:
    """Make data known by `name`, in this process; `opener` is given the split seed."""
    _REGISTERED[name] = opener
    open_dataset.cache_clear()


def known_datasets() -> tuple[str, ...]:
    """Return the names `open_dataset` knows, sorted."""
    return tuple(sorted({*_LOADERS, *_REGISTERED}))


@lru_cache(maxsize=8)
def open_dataset(name: str, split_seed: int = 0) -> Dataset:
    """Return data by name; the second call gives the same object.

    Raises:
        UnknownDataset: With the names that are known.
        TrainingDependencyMissing: scikit-learn, which holds the bundled data, is not installed.
    """
    if name in _REGISTERED:
        return _REGISTERED[name](split_seed)
    if name not in _LOADERS:
        raise UnknownDataset(name, known_datasets())
    loader, kind, target = _LOADERS[name]
    x, y = _read(loader)
    return ArrayDataset(
        name, _to_unit_range(x), y.astype(target).copy(), kind=kind, split_seed=split_seed
    )


def _read(loader: str) -> Raw:
    try:
        from sklearn import datasets as bundled
    except ImportError as error:
        raise TrainingDependencyMissing(
            "the bundled datasets", "scikit-learn", "sklearn"
        ) from error
    load: Callable[..., Raw] = getattr(bundled, loader)
    return load(return_X_y=True)


def _to_unit_range(x: npt.NDArray[np.float64]) -> Array:
    """Return the features as float32 from 0 to 1; a constant feature is 0 (D1)."""
    low, high = x.min(axis=0).astype(np.float32), x.max(axis=0).astype(np.float32)
    span = np.where(high > low, high - low, np.float32(1))
    scaled: Array = (x.astype(np.float32) - low) / span
    return scaled


_REGISTERED: dict[str, Callable[[int], Dataset]] = {}

#: name → (loader in sklearn.datasets, kind, dtype of the targets)
_LOADERS: dict[str, tuple[str, str, type[np.generic]]] = {
    "breast_cancer": ("load_breast_cancer", "classes", np.int64),
    "diabetes": ("load_diabetes", "values", np.float32),
    "digits": ("load_digits", "classes", np.int64),
    "iris": ("load_iris", "classes", np.int64),
    "wine": ("load_wine", "classes", np.int64),
}
