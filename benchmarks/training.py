"""What training under the engine costs beyond training itself, and how long a save blocks it.

Overhead: epochs are trained by a warm worker with a directory store, each saved; the time between
the first chunk's end and the last's, less what the chunks spent in training steps and evaluating,
by epoch.  Everything else is overhead: messages, log, checkpoint, evidence.  One epoch per task,
and as many per task as the chunker takes.

Saves: how long `Saver.begin` keeps a trainer waiting with a state of so many MB, against a save
that is waited for.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from celery import Celery

from benchmarks.processes import running
from orchestrator import Orchestrator, RunHandle
from orchestrator.core import events as e
from orchestrator.embedded import EmbeddedServer
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.manifest import Description
from orchestrator.training.objects_directory import DirectoryObjects
from orchestrator.training.saver import Saver
from orchestrator.training.state import State
from sagas.training import train
from sagas.training_state import SIGNALS
from tasks.training_store import STORE_VARIABLE

#: How epochs are put into tasks: every one saved, and so a task of its own; or as it pays.
WAYS: dict[str, dict[str, Any]] = {
    "one_epoch_per_task": {"every_epochs": 1},
    "as_chunked": {"tau_min_s": 10.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """What is measured; `hidden` are the sizes of the net's hidden layers."""

    epochs: int = 40
    rounds: int = 3
    hidden: tuple[int, ...] = (256, 128)
    megabytes: int = 100
    saves: int = 5


def measure_training(settings: TrainingSettings) -> Iterator[dict[str, Any]]:
    """Yield one line per figure: name, value, unit, settings."""
    for way, saving in WAYS.items():
        rounds = [overhead_ms(settings, saving) for _ in range(settings.rounds)]
        overheads = [one.pop("overhead_ms") for one in rounds]
        middle = statistics.median_low(overheads)
        yield _line(
            f"training.overhead.{way}",
            middle,
            "ms/epoch",
            settings,
            **rounds[overheads.index(middle)],
            rounds_ms=[round(one, 2) for one in overheads],
        )
    for name, times in blocking_ms(settings).items():
        yield _line(
            f"training.save.{name}",
            statistics.median(times),
            "ms",
            settings,
            saves_ms=[round(one, 1) for one in times],
        )


def overhead_ms(settings: TrainingSettings, saving: dict[str, Any]) -> dict[str, float]:
    """Train on a server of its own; return what an epoch cost beyond its compute."""
    quiet = ["--loglevel", "ERROR"]
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedServer(Path(directory) / "server", fsync="everysec") as server,
    ):
        environment = {"CELERY_BROKER_URL": server.url, STORE_VARIABLE: f"{directory}/checkpoints"}
        celery = ["celery", "--quiet", "-A", "sagas"]
        commands = [
            [*celery, "worker", "--pool", "prefork", "--concurrency", "1", *quiet],
            [*celery, "orchestrator", *quiet],
        ]
        with running(commands, environment):
            outer = os.environ.pop("CELERY_BROKER_URL", None)
            orc = Orchestrator(Celery("client", broker=server.url, set_as_current=False))
            start = orc.workflow(name="training", signals=SIGNALS)(train.__wrapped__)  # type: ignore[attr-defined]
            plan = {"epochs": settings.epochs, "saving": saving}
            plan["hparams"] = {"hidden": list(settings.hidden)}
            try:
                # The first warms worker and libraries.
                start.start({**plan, "epochs": 3}, id="warm-up").result(timeout=120)
                handle = start.start(plan, id="measured")
                handle.result(timeout=600)
                return costs_of(handle)
            finally:
                orc.close()
                if outer is not None:
                    os.environ["CELERY_BROKER_URL"] = outer


def costs_of(handle: RunHandle[Any]) -> dict[str, float]:
    """Return the mean costs of an epoch, from the first chunk's end to the last's."""
    chunks: list[tuple[int, Any]] = [
        (event.at_ms, event.result["result"])
        for event in (one.event for one in handle.history())
        if isinstance(event, e.StepCompleted)
        and isinstance(event.result, dict)
        and "attempt" in event.result
    ]
    (first_ms, first), (last_ms, last) = chunks[0], chunks[-1]
    epochs = last["stopped_at"]["epoch"] - first["stopped_at"]["epoch"]
    spent = {
        name: sum(chunk["seconds"].get(name, 0.0) for _, chunk in chunks[1:]) * 1000 / epochs
        for name in ("train", "evaluate", "save", "load")
    }
    whole = (last_ms - first_ms) / epochs
    print(f"{len(chunks)} chunks, {whole:.1f} ms an epoch", file=sys.stderr)
    return {
        "overhead_ms": whole - spent["train"] - spent["evaluate"],
        "epoch_ms": whole,
        "tasks": len(chunks) - 1,
        "warm": sum(bool(chunk["warm"]) for _, chunk in chunks[1:]),
        **{f"{name}_ms": value for name, value in spent.items()},
    }


def blocking_ms(settings: TrainingSettings) -> dict[str, list[float]]:
    """Return how long a save kept a trainer waiting, in the background and in place."""
    floats = settings.megabytes * 1_000_000 // 4
    rng = np.random.default_rng(1)
    weights = rng.standard_normal(floats, dtype=np.float32)
    half = floats // 2
    found: dict[str, list[float]] = {"asynchronous": [], "synchronous": []}
    with tempfile.TemporaryDirectory() as directory:
        store = CheckpointStore(DirectoryObjects(Path(directory)), "run-1")
        saver = Saver(store)
        for number in range(2 * settings.saves):
            weights += np.float32(1e-3)
            groups = {"model": {"w": weights[:half]}, "optimizer": {"m": weights[half:]}}
            state = State(groups=groups, meta={"updates": number})
            # The first checkpoint of a run is made at once (SA2 of training.saving), and a run that
            # resumes has read one: no save in the background is the first use of so much memory.
            if number % 2 == 1:
                blocked = saver.begin(state, _description(number)).total_ms
                saver.finish()
                found["asynchronous"].append(blocked)
            else:
                began = time.perf_counter()
                store.save(state, _description(number))
                found["synchronous"].append((time.perf_counter() - began) * 1000)
    return found


def _description(step: int) -> Description:
    return Description(
        branch="main",
        step=step,
        epoch=step,
        chunk=0,
        parent=None,
        kind="interval",
        cursor={"epoch": step, "step": 0},
        rng={},
        hparams={},
        data={},
        code={},
        env={},
        metrics={},
    )


def _line(
    name: str, value: float, unit: str, settings: TrainingSettings, **more: Any
) -> dict[str, Any]:
    rounded = {key: round(v, 2) if isinstance(v, float) else v for key, v in more.items()}
    about = {"python": platform.python_version(), "numpy": np.__version__, "cpus": os.cpu_count()}
    whole = {**json.loads(json.dumps(asdict(settings))), **about, **rounded}
    return {"name": name, "value": round(value, 2), "unit": unit, "settings": whole}
