"""Where a training's child is to die, and how often it did; see `training_app`, which does it."""

import json
from pathlib import Path

#: A directory: what runs are armed with, and how often they came by.
PLACE = "TRAINING_ARMS"
#: Address of the store of runs whose ids begin with "s3-".
S3 = "TRAINING_STORE_S3"


def arm(place: Path, run: str, point: str, times: list[int]) -> None:
    """Have run 1 of a workflow id die at a point, for the n-th time it comes by, for each n."""
    (place / f"{run}.1.json").write_text(json.dumps({"point": point, "times": times}))


def deaths(place: Path, run: str) -> int:
    """Return how often a run's children have died at its point."""
    found = place / f"{run}.1.died"
    return found.stat().st_size if found.exists() else 0
