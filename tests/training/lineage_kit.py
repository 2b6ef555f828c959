"""Whole trainings in one thread, over a directory of checkpoints, and their lineage."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner

import tasks.training as steps
from orchestrator.app import Orchestrator
from orchestrator.cli.lineage import Histories, _opener
from orchestrator.cli.runs import workflow
from orchestrator.core.values import Json
from orchestrator.payloads import PydanticCodec
from orchestrator.training import layout
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.evidence import sample_from_text
from orchestrator.training.lineage import Lineage, trace
from orchestrator.training.lineage_samples import Inquiry
from orchestrator.training.objects_directory import DirectoryObjects
from orchestrator.training.session import WarmSessions
from orchestrator.worker.arguments import load_arguments
from sagas.app import orc
from tests.cli.conftest import Typed
from tests.engine.world import World

TASKS = (
    *(steps.prepare, steps.go_on, steps.train_chunk, steps.evaluate),
    *(steps.register, steps.unregister, steps.clean_up),
)
#: Small enough for a test, and four checkpoints before the last.
PLAN: dict[str, Json] = {
    "dataset": "iris",
    "epochs": 4,
    "hparams": {"hidden": [8], "batch_size": 16},
    "saving": {"every_epochs": 1},
}


class Laboratory:
    """A world in which trainings run; `path` is where their checkpoints are."""

    def __init__(self, path: Path, app: Any) -> None:
        self.path = path
        self.world = World(orc.registry["training"])
        for task in TASKS:
            self.world.tasks[task.name] = self._carried_out(task.run)
        self.orchestrator = Orchestrator(app, store=self.world.store)

    def plan(self, changes: dict[str, Json]) -> dict[str, Json]:
        return {**PLAN, **changes}

    def train(self, id: str = "first", **changes: Json) -> str:
        """Train to the end; return the name of its storage."""
        self.world.start("training", self.plan(changes), id=id)
        self.settle(id)
        return f"{id}.1"

    def settle(self, id: str = "first") -> None:
        self.world.settle()
        assert self.world.status(id) == "completed", self.world.row(id)

    def review(self, name: str, payload: Json, id: str = "first") -> None:
        """Send an order to a run that waits for a review, and let it go on."""
        self.world.signal(name, payload, id=id)
        self.world.settle()

    def checkpoints(self, storage: str = "first.1") -> CheckpointStore:
        return CheckpointStore(DirectoryObjects(self.path), storage)

    def lineage(self, id: str = "first", contains: str | None = None, **options: Any) -> Any:
        """Return the lineage; with `contains`, and what was found of the sample."""
        histories = Histories(self.orchestrator)
        inquiry = Inquiry(sample_from_text(contains)) if contains is not None else None
        found = trace(histories.read(id, None), histories, _opener(None), look=inquiry, **options)
        return found if inquiry is None else (found, inquiry)

    def file(self, key: str) -> Path:
        return self.path / key

    def blob(self, digest: str, storage: str = "first.1") -> Path:
        return self.path / layout.blob(storage, digest)

    def typed(self, *words: str) -> Typed:
        context = CLIContext(app=self.orchestrator.app, no_color=True, workdir=None)
        return Typed(CliRunner().invoke(workflow, ["lineage", *words], obj=context))

    def _carried_out(self, function: Any) -> Any:
        codec = PydanticCodec()

        def run(*args: Any, **kwargs: Any) -> Any:
            taken = load_arguments(
                function, list(args), dict(kwargs), blobs=self.world.blobs, codec=codec
            )
            return codec.encode(function(*taken[0], **taken[1]))

        return run


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laboratory]:
    monkeypatch.setenv("TRAINING_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(steps, "_warm", WarmSessions())
    app = Celery("lab", broker="memory://", set_as_current=False)
    found = Laboratory(tmp_path / "store", app)
    yield found
    found.world.close()
    app.close()


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def make_old(path: Path, hours: float) -> None:
    """Let all files below a directory have been written so long ago."""
    then = DirectoryObjects(path).now_ms() / 1000 - hours * 3600
    for file in path.rglob("*"):
        os.utime(file, (then, then))


def said(lineage: Lineage) -> str:
    """Return all problems, a line each."""
    return "\n".join(str(problem) for problem in lineage.problems)
