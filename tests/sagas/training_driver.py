"""Trainings in one thread: the real workflow and the real tasks, a store that a test may damage.

No server and no clock: how long a step takes is what the test says, so that chunks are cut the same
everywhere.  `reference` is the other side: plan and orders trained in one piece, without workflow,
log or checkpoints in between.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tasks.training as bodies
from orchestrator.core.replay import replay
from orchestrator.core.values import loads
from orchestrator.payloads import PydanticCodec
from orchestrator.store.ports import ClaimAnswer
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.numpy_trainer import MlpTrainer
from orchestrator.training.records import cursor_from_json, result_from_json
from orchestrator.training.runner import run_chunk
from orchestrator.training.session import WarmSessions
from orchestrator.training.threads import pin_threads
from orchestrator.training.trainer import Cursor
from orchestrator.training.work import ChunkWork, Order, SaveAs, ref_from_json
from orchestrator.worker.arguments import load_arguments
from sagas.app import orc
from sagas.training_state import Acknowledged, TrainingReport, TrainingState
from tasks.training_store import open_checkpoints
from tests.engine.world import World

#: A net that trains an epoch of twelve steps in some milliseconds.
SMALL: dict[str, Any] = {"hidden": [16], "batch_size": 128}
STEPS = 12
SAVE_S = 0.01
TASKS = ("prepare", "go_on", "train_chunk", "evaluate", "register", "unregister", "clean_up")


@dataclass(frozen=True, slots=True)
class Weights:
    """What two trainings must have in common to be the same, bit for bit."""

    model: str
    optimizer: str
    meta: str


def plan_of(**more: Any) -> dict[str, Any]:
    """Return a plan of six epochs, each saved."""
    return {"epochs": 6, "hparams": SMALL, "saving": {"every_epochs": 1}, **more}


def order(epoch: int, step: int = 0, *, seed: int = 7, **hparams: Any) -> Order:
    """Return what is in force from a place on."""
    whole = MlpTrainer.hyperparameters.complete({**SMALL, **hparams})
    return Order(cursor=Cursor(epoch, step), seed=seed, hparams=whole)


def reference(*orders: Order, epochs: int = 6) -> Weights:
    """Return what comes of these orders, oldest first, trained in one piece in memory."""
    last = orders[-1]
    work = ChunkWork(
        run="reference",
        branch="main",
        trainer="mlp",
        dataset="digits",
        seed=last.seed,
        hparams=last.hparams,
        start=last.cursor,
        stop=Cursor(epochs, 0),
        earlier=tuple(orders[:-1]),
        save=SaveAs(kind="final"),
    )
    store = CheckpointStore(run="reference")
    with pin_threads():
        result = run_chunk(
            work, trainer=MlpTrainer, checkpoints=lambda run: store, control=lambda: None
        )
    assert result.checkpoint is not None
    assert len(result.saved) == 1
    return weights_in(store, result.checkpoint)


def weights_in(store: CheckpointStore, ref: Any) -> Weights:
    """Return the digests of a checkpoint that was loaded, and so compared, in full."""
    blobs = store.load(ref.manifest_sha256, ref.key).manifest.blobs
    return Weights(blobs["model"].sha256, blobs["optimizer"].sha256, blobs["meta"].sha256)


class Lab:
    """See the module.

    Args:
        directory: Where checkpoints are kept; the environment must say so too.
        step_s: What a training step takes, for whoever decides how much makes a chunk.
        restless: Kill the orchestrator after every single thing that happens.
    """

    def __init__(self, directory: Path, *, step_s: float = 0.01, restless: bool = False) -> None:
        self.directory = directory
        self.world = World(orc.registry["training"])
        self.step_s = step_s
        self.restless = restless
        self.chunks: list[Any] = []
        self._codec = PydanticCodec()
        for name in TASKS:
            task = getattr(bodies, name)
            self.world.tasks[task.name] = self._body(task.run)
        self.forget_memory()

    def _body(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            given, named = load_arguments(
                function, list(args), dict(kwargs), blobs=self.world.blobs, codec=self._codec
            )
            answer: Any = self._codec.encode(function(*given, **named))
            if function.__name__ == "prepare" and answer["first"] is not None:
                answer["first"]["seconds"]["save"] = SAVE_S
            return self._timed(args[0], answer) if function.__name__ == "train_chunk" else answer

        return run

    def _timed(self, work: Any, answer: Any) -> Any:
        """Replace the seconds that were measured by those that the test wants."""
        result, start = result_from_json(answer["result"]), cursor_from_json(work["start"])
        steps = (result.stopped_at.epoch - start.epoch) * STEPS
        steps += result.stopped_at.step - start.step + result.repeated_steps
        seconds = {**result.seconds, "train": max(0, steps) * self.step_s, "save": SAVE_S}
        timed = replace(result, seconds=seconds)
        self.chunks.append(timed)
        return {**answer, "result": timed.as_json()}

    # --- what happens to it ----------------------------------------------------------------------

    def start(self, id: str = "t", **more: Any) -> None:
        """Start a run."""
        self.world.start("training", plan_of(**more), id=id)

    def signal(self, name: str, id: str = "t", **payload: Any) -> None:
        """Send an order."""
        self.world.signal(name, payload, id=id)

    def work_once(self) -> bool:
        """Carry out one step that waits; return whether one did."""
        self.world.turn()
        message = self.world.pop()
        if message is None:
            return False
        if self.world.claim(message) is ClaimAnswer.GRANTED:
            self.world.finish(message, self.world.run_body(message))
        if self.restless:
            self.world.restart()
        self.world.turn()
        if self.restless:
            self.world.restart()
            self.world.turn()
        return True

    def until(self, epoch: int, id: str = "t") -> None:
        """Go on until so many epochs are trained; the chunk after them is ordered, and waits."""
        while self.state(id).epoch < epoch:
            assert self.work_once(), f"rests at epoch {self.state(id).epoch}: {self.state(id)}"

    def finish(self, id: str = "t") -> TrainingReport:
        """Go on to the end, replay the whole history, and return the report."""
        self.settle()
        assert self.world.status(id) == "completed", self.world.row(id)
        self.check(id)
        return TrainingReport.model_validate(self.world.result(id))

    def settle(self) -> None:
        """Go on until nothing is left to do at this instant."""
        while self.work_once():
            pass

    def forget_memory(self) -> None:
        """Have the next chunk done by another process, which has only the store."""
        bodies._warm = WarmSessions()

    # --- what can be seen of it ------------------------------------------------------------------

    def state(self, id: str = "t") -> TrainingState:
        """What anybody can read."""
        found = self.world.row(id).get("state")
        return (
            TrainingState.model_validate_json(found) if found else TrainingState(epochs=0, seed=0)
        )

    def acknowledged(self, id: str = "t") -> list[Acknowledged]:
        """Orders that were carried out, or refused."""
        return self.state(id).orders

    def failure(self, id: str = "t") -> str:
        """Type and message of what a failed run failed with."""
        assert self.world.status(id) == "failed", self.world.row(id)
        failure: Any = loads(self.world.row(id)["failure"])
        return f"{failure['type']}: {failure['message']}"

    def weights(self, id: str = "t") -> Weights:
        """Return what a completed run trained."""
        report = TrainingReport.model_validate(self.world.result(id))
        found = weights_in(open_checkpoints(report.storage), ref_from_json(report.checkpoint))
        assert found.model == report.model_sha256
        return found

    def runs(self, id: str = "t") -> int:
        """Return how many runs of an id there were: more than one where it went on as new."""
        return int(self.world.row(id)["run"])

    def check(self, id: str = "t") -> None:
        """Check the chains of its histories, and that the same code orders the same again."""
        for run in range(1, self.runs(id) + 1):
            self.world.check_chain(id, run)
            replayed = replay(orc.registry["training"], id, run, self.world.events(id, run))
            assert replayed.pending == []
            replayed.execution.close()


def stops_of(chunks: Sequence[Any]) -> list[tuple[int, int]]:
    """Return where chunks stopped."""
    return [(chunk.stopped_at.epoch, chunk.stopped_at.step) for chunk in chunks]
