"""The app of the training's tests: a run says by its id where its worker's child is to die.

A store of checkpoints asks here at every named point of a save.  The n-th time that a run comes by
the point it is armed with, for every n it is armed with, the process ends without a word.  How
often it came by is counted in a file, so it is known to the child's successor.

For workers alone: importing it arms the tasks of this very process.
"""

import json
import os
import signal
from importlib import import_module
from pathlib import Path

import tasks.training as bodies
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.datasets import open_dataset
from orchestrator.training.environment import fingerprint
from orchestrator.training.objects import ObjectStore
from orchestrator.training.objects_directory import DirectoryObjects
from sagas import app, orc
from tasks.training_store import open_store, store_address
from tests.acceptance.training_arms import PLACE, S3

__all__ = ["app", "orc"]


class Bomb:
    """The hook of one run's store."""

    def __init__(self, storage: str) -> None:
        place = Path(os.environ[PLACE])
        self._passed, self._died = place / f"{storage}.passed", place / f"{storage}.died"
        arms = place / f"{storage}.json"
        self._arms = json.loads(arms.read_text()) if arms.exists() else {"point": "", "times": []}

    def __call__(self, point: str) -> None:
        """Die here, if it is time."""
        if point != self._arms["point"]:
            return
        if _count(self._passed) in self._arms["times"]:
            _count(self._died)
            os.kill(os.getpid(), signal.SIGKILL)


def _count(path: Path) -> int:
    """Add one byte to a file, and return how many it has."""
    with path.open("ab") as file:
        file.write(b".")
    return path.stat().st_size


def open_checkpoints(storage: str) -> CheckpointStore:
    """Return the checkpoints of a run, with its bomb."""
    bomb = Bomb(storage)
    objects: ObjectStore
    if storage.startswith("s3-"):
        objects = open_store(os.environ[S3])
        objects._hook = bomb  # type: ignore[attr-defined]
    else:
        objects = DirectoryObjects(Path(store_address()), hook=bomb)
    return CheckpointStore(objects, storage, hook=bomb)


vars(bodies)["open_checkpoints"] = open_checkpoints
# What a child would load anew after each death: the worker forks them with it.
fingerprint()
open_dataset("digits")
import_module("boto3")
