"""A training's tasks: check the plan, train a chunk, evaluate, register, clean up.

T1  Each may run any number of times, anywhere: what it leaves in the store follows from its
    arguments alone, and is created once.
T2  What is wrong with the plan itself is answered for good; what a machine could not do, is tried
    again.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Literal

from pydantic import JsonValue

from orchestrator import ApplicationError, step
from orchestrator.training.beginning import begin
from orchestrator.training.collecting import collect, make_plan
from orchestrator.training.environment import fingerprint
from orchestrator.training.errors import (
    BadCheckpoint,
    NonDeterminismError,
    ObjectNotFound,
    TrainerMisbehaved,
    TrainingUsageError,
)
from orchestrator.training.retention import BestN, EveryK, LatestN, Policy
from orchestrator.training.rng import own_globals
from orchestrator.training.runner import Stop, run_chunk
from orchestrator.training.session import WarmSessions
from orchestrator.training.threads import one_thread
from orchestrator.training.trainer import Cursor
from orchestrator.training.trainers import get_trainer
from orchestrator.training.work import ChunkWork, Inherited, SaveAs, work_from_json
from tasks.app import app
from tasks.training_models import (
    Evaluation,
    Json,
    Keeping,
    Prepared,
    Registered,
    TrainingPlan,
    measured,
)
from tasks.training_store import live_metrics, open_checkpoints, open_store, store_address

#: A chunk is seconds, at most half an interval of saving; a worker that hangs in one is killed.
CHUNK_SECONDS_MAX = 3600
#: Not more often is the log's store told that a chunk is alive.
BEAT_SECONDS = 5.0

#: What no other attempt would change.
_FINAL = (TrainingUsageError, TrainerMisbehaved, NonDeterminismError)

_warm = WarmSessions()


@contextmanager
def saying_what_is_final() -> Iterator[None]:
    """Let what is wrong with a plan end its step at once (T2).

    Raises:
        ApplicationError: Of the type of what was raised; not to be retried.
    """
    try:
        yield
    except _FINAL as error:
        raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from error


@app.task(time_limit=CHUNK_SECONDS_MAX)
def prepare(plan: TrainingPlan, storage: str) -> Prepared:
    """Check everything a plan names, try the store, and save the first checkpoint of a run."""
    with saying_what_is_final(), one_thread():
        address = store_address()
        open_store(address)
        factory = get_trainer(plan.trainer)
        hparams = factory().hyperparameters.complete(plan.hparams)
        work = ChunkWork(
            run=storage,
            branch="main",
            trainer=plan.trainer,
            dataset=plan.dataset,
            split_seed=plan.split_seed,
            seed=plan.seed,
            hparams=hparams,
            start=Cursor(0, 0),
            stop=Cursor(0, 0),
            save=SaveAs(kind="initial"),
            inherits=_inherited(plan),
        )
        trainer = factory()
        session = begin(work, trainer, open_checkpoints, WarmSessions(0)).session
        first = None
        if plan.start is None:
            first = run_chunk(
                work, trainer=factory, checkpoints=open_checkpoints, control=_go_on, warm=_warm
            )
        return Prepared(
            storage=storage,
            store=address,
            hparams=hparams,
            steps_per_epoch=trainer.steps(0),
            trainer_version=trainer.version,
            dataset_fingerprint=session.ctx.dataset.fingerprint,
            environment_class=fingerprint(trainer.packages).class_sha256,
            first=_as_object(first.as_json()) if first is not None else None,
        )


@app.task(time_limit=CHUNK_SECONDS_MAX)
def train_chunk(work: Json, interval: Json) -> Json:
    """Train `work`, the JSON of a `ChunkWork`; return its result and the attempt that made it.

    `interval` is how often is saved at this point and why, for the log alone.
    """
    with saying_what_is_final(), one_thread(), step.handing_over():
        ordered = work_from_json(work)
        result = run_chunk(
            ordered,
            trainer=get_trainer(ordered.trainer),
            checkpoints=open_checkpoints,
            control=_control(),
            metrics=live_metrics(),
            warm=_warm,
        )
    info = step.current()
    return {"result": result.as_json(), "attempt": info.attempt if info else 1}


@app.task(time_limit=CHUNK_SECONDS_MAX)
def evaluate(work: Json) -> Evaluation:
    """Return what the newest candidate of `work` is worth on the held-out samples.

    Raises:
        ApplicationError: Type BadCheckpoint, not to be retried: it is damaged.  An earlier one is
            another model; have it made again.
    """
    with saying_what_is_final(), one_thread():
        ordered = work_from_json(work)
        factory = get_trainer(ordered.trainer)
        begun = begin(ordered, factory(), open_checkpoints, WarmSessions(0))
        ref = ordered.candidates[0]
        if begun.rejected:
            bad = BadCheckpoint(ref.key, begun.rejected[0].reason)
            raise ApplicationError(str(bad), type=type(bad).__name__, non_retryable=True)
        manifest = open_checkpoints(ordered.run).manifest(ref.manifest_sha256, ref.key)
        trainer = begun.session.trainer
        with own_globals(draws=trainer.draws_from_globals):
            found = trainer.evaluate(begun.session.ctx)
        return Evaluation(
            model_sha256=manifest.blobs["model"].sha256,
            manifest_sha256=ref.manifest_sha256,
            metrics={name: measured(value) for name, value in found.items()},
        )


@app.task
def register(name: str, storage: str, model: Evaluation) -> Registered:
    """Enter a model in the registry, once."""
    key = f"models/{name}/{model.manifest_sha256}.json"
    card = {"name": name, "storage": storage, **model.model_dump(mode="json")}
    data = json.dumps(card, sort_keys=True, separators=(",", ":")).encode()
    with saying_what_is_final():
        open_store(store_address()).create(key, data, sha256(data).hexdigest())
    return Registered(name=name, key=key, manifest_sha256=model.manifest_sha256)


@app.task
def unregister(name: str, storage: str, model: Evaluation) -> None:
    """Take a model out of the registry again; one that is not there is no error."""
    objects = open_store(store_address())
    key = f"models/{name}/{model.manifest_sha256}.json"
    try:
        objects.delete(key, expected=objects.stat(key).version)
    except ObjectNotFound:
        return


@app.task(time_limit=CHUNK_SECONDS_MAX)
def clean_up(plan: TrainingPlan, storage: str, needed: dict[str, str] | None = None) -> int:
    """Delete the run's own checkpoints that the plan does not keep; return how many.

    Those of its forks, and of the run whose fork it is, are in the same storage and not its own.
    `needed` names, by digest, those that must stay whatever the plan says, and why; None is for a
    run that was ended: then those that were saved for an order stay.
    """
    with saying_what_is_final():
        checkpoints = open_checkpoints(storage)
        if needed is None:
            found, _ = checkpoints.list_manifests()
            pinned = [one for one in found if one.manifest.kind == "pinned"]
            needed = {one.manifest_sha256: "pinned" for one in pinned}
        root = plan.start.branch if plan.start is not None else "main"
        kept = make_plan(
            checkpoints,
            list(_policies(plan.keeping)),
            referenced=needed,
            is_own=lambda branch: is_of_root(branch, root),
        )
        return len(collect(checkpoints, kept, preview=False).manifests)


def is_of_root(branch: str, root: str) -> bool:
    """Return whether a run made `branch` whose first one is `root`: it, ``root@2`` and so on."""
    first, _, number = branch.rpartition("@")
    return branch == root or (first == root and number.isdecimal())


def _policies(keeping: Keeping) -> Iterator[Policy]:
    yield LatestN(keeping.latest)
    if keeping.best:
        better: Literal["higher", "lower"] = "higher" if keeping.highest else "lower"
        yield BestN(keeping.best_by, keeping.best, better)
    if keeping.every is not None:
        yield EveryK(keeping.every)


def _inherited(plan: TrainingPlan) -> Inherited | None:
    of = plan.inherits
    if of is None:
        return None
    return Inherited(run=of.storage, key=of.key, manifest_sha256=of.manifest_sha256)


def _go_on() -> Stop | None:
    return None


def _control() -> Callable[[], Stop | None]:
    """Return what tells a chunk to stop with its worker, and the log that it is alive."""
    beat_at = time.monotonic() + BEAT_SECONDS

    def control() -> Stop | None:
        nonlocal beat_at
        if step.is_stopping():
            return Stop()
        now = time.monotonic()
        if now >= beat_at:
            beat_at = now + BEAT_SECONDS
            step.heartbeat()
        return None

    return control


def _as_object(value: Any) -> dict[str, JsonValue]:
    assert isinstance(value, dict), type(value)
    return value
