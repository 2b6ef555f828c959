"""Stores of all kinds, and a stand-in for training: a few arrays that every step changes."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.training.checkpoints import CheckpointStore, Saved
from orchestrator.training.manifest import Description
from orchestrator.training.objects import Hook, ObjectStore, no_hook
from orchestrator.training.objects_directory import DirectoryObjects
from orchestrator.training.objects_memory import MemoryObjects
from orchestrator.training.state import State
from tests.training.s3_servers import S3Server

RUN = "run/1 ü"
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects are kept: enough to open them again, also in another process."""

    kind: str
    where: str
    server: S3Server | None = None

    def open(self, hook: Hook = no_hook, **more: Any) -> ObjectStore:
        """Return the objects that are kept there."""
        if self.server is None:
            return DirectoryObjects(Path(self.where), hook=hook)
        objects: ObjectStore = self.server.objects(self.where, hook=hook, **more)
        return objects

    def damage(self, key: str, change: Callable[[bytes], bytes | None]) -> None:
        """Change an object behind the store's back; None removes it."""
        if self.server is None:
            path = Path(self.where, *key.split("/"))
            data = change(path.read_bytes())
            path.unlink()
            if data is not None:
                path.write_bytes(data)
            return
        client = self.server.client()
        data = change(client.get_object(Bucket=self.where, Key=key)["Body"].read())
        if data is None:
            client.delete_object(Bucket=self.where, Key=key)
        else:
            client.put_object(Bucket=self.where, Key=key, Body=data)


def place(kind: str, request: pytest.FixtureRequest) -> Place:
    """Return a new, empty place of a kind: "directory", "moto" or "ministack"."""
    if kind == "directory":
        folder: Path = request.getfixturevalue("tmp_path")
        return Place(kind, str(folder / "objects"))
    server: S3Server = request.getfixturevalue(f"{kind}_server")
    return Place(kind, server.bucket(), server)


#: A place of every kind, one after the other; import it where it is used.  Of the two servers of S3
#: ministack knows more; moto answers late, and is asked by `make long`.
@pytest.fixture(
    params=["directory", "ministack", pytest.param("moto", marks=pytest.mark.long)],
)
def anywhere(request: pytest.FixtureRequest) -> Place:
    """A new, empty place."""
    return place(request.param, request)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_ms = 1_000 * HOUR_MS

    def __call__(self) -> int:
        return self.now_ms

    def pass_hours(self, hours: float) -> None:
        """Let time pass."""
        self.now_ms += int(hours * HOUR_MS)


def memory() -> tuple[MemoryObjects, Clock]:
    """Return objects in memory, and their clock."""
    clock = Clock()
    return MemoryObjects(clock), clock


def beginning() -> State:
    """Return the state before the first step."""
    draw = np.random.default_rng(7)
    weights = draw.standard_normal((6, 5)).astype(np.float32)
    return State(
        groups={
            "model": {"w": weights, "wf": np.asfortranarray(weights * 2), "b": np.zeros(())},
            "optimizer": {"m": np.zeros((6, 5), np.float32), "count": np.array(0, np.int64)},
            "frozen": {"embedding": np.arange(40, dtype=np.float64)},
        },
        meta={"updates": 0, "loss": float("nan")},
    )


def after_step(state: State, step: int) -> State:
    """Return the state one step on: a function of state and step alone."""
    draw = np.random.default_rng([7, step])
    model, optimizer = state.groups["model"], state.groups["optimizer"]
    m = optimizer["m"] * np.float32(0.9) + draw.standard_normal((6, 5)).astype(np.float32)
    return State(
        groups={
            "model": {
                "w": model["w"] - m * np.float32(0.1),
                "wf": np.asfortranarray(model["wf"] @ (model["w"].T @ m)),
                "b": np.asarray(model["b"] + 0.1),
            },
            "optimizer": {"m": m, "count": np.asarray(optimizer["count"] + 1)},
            "frozen": state.groups["frozen"],
        },
        meta={"updates": step, "loss": float(np.abs(m).sum())},
    )


def described(step: int, parent: str | None, **more: Any) -> Description:
    """Return what a checkpoint of the stand-in says of itself."""
    about = Description(
        branch="main",
        step=step,
        epoch=max(step, 0) // 4,
        chunk=step % 4,
        parent=parent,
        kind="interval",
        hparams={"lr": 0.1},
        metrics={"loss": 1 / (step + 2)},
    )
    return replace(about, **more)


@dataclass(frozen=True, slots=True)
class Line:
    """Checkpoints of one branch, oldest first."""

    store: CheckpointStore
    saved: tuple[Saved, ...]

    @property
    def candidates(self) -> list[tuple[str, str]]:
        """The newest first, as a log would give them."""
        return [(one.manifest_sha256, one.key) for one in reversed(self.saved)]


def train(store: CheckpointStore, steps: int, committed: tuple[Saved, ...] = ()) -> Line:
    """Train on from the newest good of what is committed, saving every step that lies after it."""
    line = Line(store, committed)
    loaded, _ = store.newest_good(line.candidates)
    state = loaded.state if loaded else beginning()
    begun = loaded.manifest.step + 1 if loaded else 0
    saved = {layout_step(one): one for one in committed}
    parent = loaded.manifest_sha256 if loaded else None
    for step in range(begun, steps):
        state = after_step(state, step)
        saved[step] = store.save(state, described(step, parent))
        parent = saved[step].manifest_sha256
    return Line(store, tuple(saved[step] for step in sorted(saved)))


def layout_step(saved: Saved) -> int:
    """Return the step of a checkpoint."""
    from orchestrator.training.layout import step_of

    return step_of(saved.key)


def digests(line: Line) -> list[tuple[str, str]]:
    """Return manifest and state of every checkpoint; equal lists trained equally."""
    return [(one.manifest_sha256, one.state_sha256) for one in line.saved]


def reference(steps: int) -> Line:
    """Return what is saved when nothing goes wrong."""
    return train(CheckpointStore(run=RUN), steps)


def put(objects: ObjectStore, key: str, data: bytes) -> Any:
    """Create an object with its own digest."""
    return objects.create(key, data, hashlib.sha256(data).hexdigest())


def all_keys(objects: ObjectStore) -> Iterator[str]:
    """Return the keys of all objects."""
    return (listed.key for listed in objects.list(""))
