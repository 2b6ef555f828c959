"""Where checkpoints are kept and live metrics go, as the environment says.

TRAINING_STORE    a directory, or ``s3://bucket/prefix?endpoint=URL``; see
                  `orchestrator.training.stores`; by default ``.orchestrator/training``
TRAINING_METRICS  a file for live metrics, one JSON object a line; none by default
"""

import os
from functools import lru_cache
from pathlib import Path

from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.metrics import Metrics
from orchestrator.training.objects import ObjectStore
from orchestrator.training.sinks_jsonl import JsonlSink
from orchestrator.training.stores import open_objects

STORE_VARIABLE = "TRAINING_STORE"
STORE_DEFAULT = ".orchestrator/training"
METRICS_VARIABLE = "TRAINING_METRICS"


def store_address() -> str:
    """Return the address of the store; a directory's is absolute."""
    address = os.environ.get(STORE_VARIABLE) or STORE_DEFAULT
    return address if "://" in address else str(Path(address).absolute())


@lru_cache(maxsize=8)
def open_store(address: str) -> ObjectStore:
    """Return the store at `address`, probed; the second call of a process gives the same object.

    Raises:
        ObjectStoreUnfit: A store that checkpoints would not be safe in.
        ObjectStoreUnavailable: No answer.
    """
    objects, _ = open_objects(address)
    return objects


def open_checkpoints(storage: str) -> CheckpointStore:
    """Return the checkpoints under the name `storage`."""
    return CheckpointStore(open_store(store_address()), storage)


_metrics: dict[int, Metrics] = {}


def live_metrics() -> Metrics:
    """Return this process' live metrics; a forked child has its own."""
    pid = os.getpid()
    if pid not in _metrics:
        path = os.environ.get(METRICS_VARIABLE)
        _metrics.clear()
        _metrics[pid] = Metrics([JsonlSink(path)] if path else [])
    return _metrics[pid]
