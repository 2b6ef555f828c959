"""Branches trained chunk by chunk, as a workflow does it, on real digits and a small net."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.values import Json
from orchestrator.training import layout
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.runner import Stop, run_chunk
from orchestrator.training.session import WarmSessions
from orchestrator.training.trainer import Cursor
from orchestrator.training.trainers import get_trainer
from orchestrator.training.work import (
    CheckpointRef,
    ChunkResult,
    ChunkWork,
    Order,
    SaveAs,
    work_from_json,
)

SEED = 7
#: A net that trains an epoch of 45 steps in about 6 ms.
SMALL: Mapping[str, Json] = {"hidden": [16, 8], "dropout": 0.2, "noise": 0.05}
#: Steps of an epoch of digits in batches of 32.
STEPS = 45


def at(step: int) -> Cursor:
    """Return the position after `step` steps of digits in batches of 32."""
    return Cursor(*divmod(step, STEPS))


def never() -> Stop | None:
    """Return that nobody asks to stop."""
    return None


@dataclass
class Branch:
    """What a workflow remembers of one branch."""

    store: CheckpointStore
    run: str = "run-1"
    trainer: str = "mlp"
    dataset: str = "digits"
    hparams: Mapping[str, Json] = field(default_factory=lambda: SMALL)
    warm: WarmSessions | None = None
    stores: dict[str, CheckpointStore] = field(default_factory=dict)
    refs: list[CheckpointRef] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    cursor: Cursor = field(default_factory=lambda: Cursor(0, 0))
    results: list[ChunkResult] = field(default_factory=list)

    def order(self, *, seed: int = SEED, **change: Json) -> None:
        """Bring hyperparameters in force from here on: those before, and what changes."""
        before = self.orders[-1].hparams if self.orders else self.hparams
        self.orders.append(Order(cursor=self.cursor, seed=seed, hparams={**before, **change}))

    def work(self, stop: Cursor, **more: Any) -> ChunkWork:
        """Return the next chunk, after a journey through JSON."""
        if not self.orders:
            self.order()
        now = self.orders[-1]
        given: dict[str, Any] = {
            "run": self.run,
            "branch": "main",
            "trainer": self.trainer,
            "dataset": self.dataset,
            "seed": now.seed,
            "hparams": now.hparams,
            "start": self.cursor,
            "stop": stop,
            "candidates": tuple(reversed(self.refs)),
            "earlier": tuple(self.orders),
            "save": SaveAs(kind="interval"),
        }
        return work_from_json(ChunkWork(**{**given, **more}).as_json())

    def train(
        self, stop: Cursor, *, control: Callable[[], Stop | None] = never, **more: Any
    ) -> ChunkResult:
        """Train up to `stop` in one chunk, and remember what came of it."""
        work = self.work(stop, **more)
        result = run_chunk(
            work,
            trainer=get_trainer(work.trainer),
            checkpoints=lambda run: self.stores.get(run, self.store),
            control=control,
            warm=self.warm,
        )
        if result.checkpoint is not None and result.checkpoint not in self.refs:
            self.refs.append(result.checkpoint)
        if result.checkpoint is not None or work.save is None:
            self.cursor = result.stopped_at
        self.results.append(result)
        return result

    def through(self, steps: Sequence[int], **more: Any) -> "Branch":
        """Train from checkpoint to checkpoint, given as numbers of steps."""
        for step in steps:
            self.train(at(step), **more)
        return self

    def digest(self, ref: CheckpointRef | None = None) -> str:
        """Return the digest of a checkpoint's state, the newest one's by default."""
        ref = ref or self.refs[-1]
        return self.store.load(ref.manifest_sha256, ref.key).state.digest()


def branch(**more: Any) -> Branch:
    """Return a branch with a store of its own, from which nothing was trained."""
    return Branch(store=CheckpointStore(run=more.get("run", "run-1")), **more)


def outcomes(result: ChunkResult) -> list[str]:
    """Return what became of each rejected checkpoint, newest first."""
    return [rejected.outcome for rejected in result.rejected]


def damage(store: CheckpointStore, ref: CheckpointRef, how: str = "bit of the model") -> None:
    """Make a checkpoint unreadable in one of `DAMAGES`."""
    manifest = store.manifest(ref.manifest_sha256, ref.key)
    model = layout.blob(store.run, manifest.blobs["model"].sha256)
    key = ref.key if how == "truncated manifest" else model
    stat = store.objects.stat(key)
    if how == "missing model":
        store.objects.delete(key, expected=stat.version)
        return
    data = bytearray(store.objects.read(key))
    if how == "bit of the model":
        data[-1] ^= 1
    else:
        del data[len(data) // 2 :]
    # Said under the digest of what is written: a store that checks takes it, as it would rot.
    sha256 = hashlib.sha256(data).hexdigest()
    store.objects.replace(key, bytes(data), sha256=sha256, expected=stat.version)


DAMAGES = ("bit of the model", "truncated model", "missing model", "truncated manifest")
