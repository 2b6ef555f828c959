"""A stack that trains: `training_app` on workers, and what a run's checkpoints came to."""

import os
from pathlib import Path
from typing import Any

from orchestrator import RunHandle
from orchestrator.core import events as e
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.objects import ObjectStore
from orchestrator.training.objects_directory import DirectoryObjects
from orchestrator.training.work import ref_from_json
from sagas.training_state import TrainingReport
from tasks.training_store import STORE_VARIABLE
from tests.acceptance import training_arms as armed
from tests.acceptance.child import Child
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.waiting import eventually
from tests.sagas.training_driver import Weights, plan_of, weights_in

APP = "tests.acceptance.training_app"
#: Longest wait for the end of a training among others, with many children killed.
ALL_S = 120.0


class TrainingStack(Stack):
    """See the module; `s3` is an address of a store for runs whose ids begin with "s3-"."""

    def __init__(self, directory: Path, *, s3: str = "", s3_objects: Any = None) -> None:
        super().__init__(directory, app=APP)
        self.place = directory / "arms"
        self.store = directory / "checkpoints"
        self._s3, self._s3_objects = s3, s3_objects

    def __enter__(self) -> "TrainingStack":
        super().__enter__()
        self.place.mkdir()
        self.environment |= {
            STORE_VARIABLE: str(self.store),
            armed.PLACE: str(self.place),
            armed.S3: self._s3,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return self

    def train(self, id: str, **more: Any) -> RunHandle[Any]:
        """Start a training of six small epochs, each saved."""
        return self.start("training", plan_of(**more), id=id)

    def checkpoints(self, storage: str) -> CheckpointStore:
        """Return the checkpoints of a run."""
        objects: ObjectStore = DirectoryObjects(self.store)
        return CheckpointStore(self._s3_objects if storage.startswith("s3-") else objects, storage)

    def weights(self, handle: RunHandle[Any]) -> Weights:
        """Wait for the end, check history and checkpoint, and return the digests."""
        eventually(lambda: handle.describe().is_closed, f"{handle.id} ends", seconds=ALL_S)
        assert handle.status() == "completed", handle.describe()
        report: TrainingReport = handle.result(timeout=1)
        self.check_history(handle)
        found = weights_in(self.checkpoints(report.storage), ref_from_json(report.checkpoint))
        assert found.model == report.model_sha256
        return found

    def deaths(self, id: str) -> int:
        """Return how many children a run has killed at its point."""
        return armed.deaths(self.place, id)

    def wait_for_epoch(self, handle: RunHandle[Any], epoch: int) -> None:
        """Wait until so many epochs are trained."""
        eventually(
            lambda: (handle.state() or {}).get("epoch", 0) >= epoch, f"{handle.id} epoch {epoch}"
        )

    def wait_for_order(self, handle: RunHandle[Any], count: int = 1) -> dict[str, Any]:
        """Wait until so many orders are acknowledged, and return the last of them."""

        def look() -> list[dict[str, Any]]:
            orders = (handle.state() or {}).get("orders", [])
            return orders if len(orders) >= count else []

        found: dict[str, Any] = eventually(look, f"{handle.id} acknowledges {count} orders")[-1]
        return found

    def chunks(self, handle: RunHandle[Any]) -> list[dict[str, Any]]:
        """Return the results of all chunks of a run, oldest first."""
        done: list[Any] = [
            getattr(event, "result", None) for event in events_of(handle, e.StepCompleted)
        ]
        return [one["result"] for one in done if isinstance(one, dict) and "attempt" in one]


def child_pids(worker: Child) -> list[int]:
    """Return the processes that a worker has forked, from whichever thread."""
    found: list[int] = []
    for path in Path(f"/proc/{worker.pid}/task").glob("*/children"):
        try:
            found += [int(pid) for pid in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return found


def kill_one_of(pids: list[int], number: int, chosen: int) -> bool:
    """Send a signal to one of these processes; return whether there was one."""
    if not pids:
        return False
    try:
        os.kill(pids[chosen % len(pids)], number)
    except ProcessLookupError:
        return False
    return True
