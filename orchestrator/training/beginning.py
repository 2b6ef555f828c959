"""Where a chunk begins: in memory, at the newest good checkpoint, or at the seed.

B1  Memory is taken only where it holds what the work says: the same parent, not past the stop,
    and since the parent the same orders; and never where the parent itself is to be looked at.
B2  What an earlier stage left is read for a first state only, and never written.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from orchestrator.training.checkpoints import CheckpointStore, Loaded
from orchestrator.training.datasets import open_dataset
from orchestrator.training.describing import check_dataset, check_fits, check_trainer
from orchestrator.training.rng import own_globals, seed_globals
from orchestrator.training.session import Session, WarmKey, WarmSessions
from orchestrator.training.state import State
from orchestrator.training.trainer import Context, Cursor, Dataset, Trainer
from orchestrator.training.work import CheckpointRef, ChunkWork, Order, Rejected

#: Opens the checkpoints of a run by its id.
OpenCheckpoints: TypeAlias = Callable[[str], CheckpointStore]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A session at or before the work's start, and how it came about."""

    session: Session
    rejected: tuple[Rejected, ...] = ()
    #: How this environment differs from the checkpoint's, in words.
    differs: tuple[str, ...] = ()
    warm: bool = False


def warm_key(work: ChunkWork, trainer: Trainer, parent: str | None) -> WarmKey:
    """Return what a session of this work is kept under, once `parent` is its last checkpoint."""
    kind = type(trainer)
    source = (work.dataset, work.split_seed, work.inherits)
    return (work.run, work.branch, work.trainer, kind, *source, parent)


def begin(
    work: ChunkWork, trainer: Trainer, open_checkpoints: OpenCheckpoints, warm: WarmSessions
) -> Beginning:
    """Return where to train on from; `trainer` is a fresh one, used unless memory has another.

    Raises:
        TrainingUsageError: The work does not fit data, trainer or machine; see the subclasses.
    """
    check_trainer(work, trainer.version)
    dataset = open_dataset(work.dataset, work.split_seed)
    check_dataset(work.dataset, dataset.fingerprint, work.dataset_fingerprint)
    parent = work.candidates[0].manifest_sha256 if work.candidates else None
    session = warm.take(warm_key(work, trainer, parent))
    if session is not None and not work.is_mending and _holds(session, work):
        return Beginning(session=session, warm=True)
    checkpoints = open_checkpoints(work.run)
    loaded, refused = checkpoints.newest_good(
        [(ref.manifest_sha256, ref.key) for ref in work.candidates]
    )
    # Those refused are the first candidates; the one after them, if any, is the good one.
    bad = tuple(
        Rejected(ref=ref, reason=found.reason)
        for ref, found in zip(work.candidates, refused, strict=False)
    )
    if loaded is None:
        inherited = _inherited(work, open_checkpoints)
        return Beginning(session=_first(work, trainer, dataset, inherited), rejected=bad)
    session = _continued(work.candidates[len(bad)], loaded, work, trainer, dataset)
    differs = check_fits(loaded.manifest, session, work.environment)
    return Beginning(session=session, rejected=bad, differs=differs)


def _holds(session: Session, work: ChunkWork) -> bool:
    """Return whether a session can go on with this work (B1)."""
    if not session.cursor <= work.stop:
        return False
    low = session.parent_cursor
    return _from(low, session.orders) == _from(low, work.covering(low, session.cursor))


def _from(low: Cursor, orders: tuple[Order, ...]) -> tuple[Order, ...]:
    """Return what holds from `low` on: of the first, not since when, which differs by chunk."""
    return (replace(orders[0], cursor=low), *orders[1:]) if orders else ()


def _session(order: Order, trainer: Trainer, dataset: Dataset, at: Cursor, step: int) -> Session:
    hparams = trainer.hyperparameters.complete(order.hparams)
    ctx = Context(seed=order.seed, hparams=hparams, dataset=dataset)
    return Session(trainer, ctx, cursor=at, step=step)


def _first(work: ChunkWork, trainer: Trainer, dataset: Dataset, inherited: State | None) -> Session:
    origin = Cursor(0, 0)
    session = _session(work.in_force(origin), trainer, dataset, origin, step=0)
    session.ctx.inherited = inherited
    with own_globals(draws=trainer.draws_from_globals):
        if trainer.draws_from_globals:
            seed_globals(session.ctx.seed, epoch=0, step=0)
        trainer.init(session.ctx)
    session.ctx.inherited = None
    return session


def _continued(
    ref: CheckpointRef, loaded: Loaded, work: ChunkWork, trainer: Trainer, dataset: Dataset
) -> Session:
    order = work.in_force(ref.cursor)
    session = _session(order, trainer, dataset, ref.cursor, step=loaded.manifest.step)
    # What is built to be loaded into may draw first numbers, which are thrown away.
    with own_globals(draws=trainer.draws_from_globals):
        trainer.load(loaded.state, session.ctx)
    session.parent = ref.manifest_sha256
    return session


def _inherited(work: ChunkWork, open_checkpoints: OpenCheckpoints) -> State | None:
    """Return the final state of the earlier stage (B2)."""
    if work.inherits is None:
        return None
    of = open_checkpoints(work.inherits.run)
    return of.load(work.inherits.manifest_sha256, work.inherits.key).state
