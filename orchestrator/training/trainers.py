"""Trainers by name.  A name travels in a task's arguments, so it never names code to import."""

import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path

from orchestrator.training.errors import TrainingDependencyMissing, UnknownTrainer
from orchestrator.training.trainer import Trainer, TrainerFactory


def _mlp() -> TrainerFactory:
    from orchestrator.training.numpy_trainer import MlpTrainer

    return MlpTrainer


def _autoencoder() -> TrainerFactory:
    from orchestrator.training.numpy_trainer import AutoencoderTrainer

    return AutoencoderTrainer


def _sklearn() -> TrainerFactory:
    from orchestrator.training.sklearn_trainer import SklearnTrainer

    return SklearnTrainer


def _torch() -> TrainerFactory:
    try:
        from orchestrator.training.torch_trainer import DigitsCnn
    except ImportError as error:
        raise TrainingDependencyMissing("the PyTorch trainer", "torch", "torch") from error

    return DigitsCnn


_KNOWN: dict[str, Callable[[], TrainerFactory]] = {
    "mlp": _mlp,
    "autoencoder": _autoencoder,
    "sklearn": _sklearn,
    "digits-cnn": _torch,
}


def register_trainer(name: str, factory: TrainerFactory) -> None:
    """Make a trainer known by `name`, in this process; another one of that name is replaced."""
    _KNOWN[name] = lambda: factory


def known_trainers() -> tuple[str, ...]:
    """Return the names `get_trainer` knows, sorted."""
    return tuple(sorted(_KNOWN))


def get_trainer(name: str) -> TrainerFactory:
    """Return what makes trainers of that name.

    Raises:
        UnknownTrainer: With the names that are known.
        TrainingDependencyMissing: Its package is not installed.
    """
    if name not in _KNOWN:
        raise UnknownTrainer(name, known_trainers())
    return _KNOWN[name]()


@cache
def code_sha256(kind: type[Trainer]) -> str:
    """Return the SHA-256 of the file a trainer is defined in; empty where there is none."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        # Defined at a prompt, say: its version is all that tells it from another.
        return ""
