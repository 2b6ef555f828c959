"""A worker's child that trains a branch chunk by chunk, and may kill itself on the way.

``python -m tests.training.trainers_child FOLDER DIE_AFTER STEP…``: trains up to each STEP in turn,
saves below FOLDER, writes one line to its log per chunk, goes on where the log ends, and prints
the digest of the last state.  After DIE_AFTER steps it kills itself with -9; 0 is never.
"""

import json
import os
import signal
import sys
from dataclasses import asdict
from itertools import count
from pathlib import Path

from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.objects_directory import DirectoryObjects
from orchestrator.training.session import WarmSessions
from orchestrator.training.work import ref_from_json
from tests.training.trainers_kit import Branch, at


def main(folder: Path, die_after: int, stops: list[int]) -> None:
    """Train, and print the digest."""
    log = folder / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    refs = [ref_from_json(json.loads(line)) for line in lines]
    store = CheckpointStore(DirectoryObjects(folder / "objects"), "run-1")
    found = Branch(store=store, refs=refs, warm=WarmSessions())
    found.order()
    polled = count(1)

    def control() -> None:
        if next(polled) == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    for stop in stops:
        found.cursor = refs[-1].cursor if refs else at(0)
        if at(stop) < found.cursor or (refs and at(stop) == found.cursor):
            continue
        found.train(at(stop), control=control)
        with log.open("a") as file:
            file.write(json.dumps(asdict(refs[-1])) + "\n")
            file.flush()
            os.fsync(file.fileno())
    print(found.digest())  # noqa: T201 - what the parent reads


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [int(stop) for stop in sys.argv[3:]])
