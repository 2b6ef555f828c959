"""Makes checkpoints of a session: at once, or in the background while it trains on.

SA1  A checkpoint names its parent, so one save is in flight at most, and the next waits for it.
SA2  The first checkpoint of a run is made at once, loaded into a fresh trainer and compared,
     before hours are spent on what cannot be continued.
SA3  What is counted since the parent begins anew where a save begins, not where it ends.
"""

import logging
import time
from collections.abc import Mapping

from orchestrator.training.checkpoints import CheckpointStore, Saved
from orchestrator.training.describing import describe, metrics_of
from orchestrator.training.errors import ResumeNotIdentical, TrainingError
from orchestrator.training.manifest import Description
from orchestrator.training.rng import own_globals
from orchestrator.training.saver import Saver
from orchestrator.training.session import Session
from orchestrator.training.trainer import Context, Cursor, TrainerFactory
from orchestrator.training.work import CheckpointRef, ChunkWork, SaveAs

_log = logging.getLogger(__name__)


class Saving:
    """The saves of one chunk."""

    def __init__(
        self, work: ChunkWork, session: Session, store: CheckpointStore, trainer: TrainerFactory
    ) -> None:
        self._work = work
        self._session = session
        self._store = store
        self._trainer = trainer
        self._saver = Saver(store)
        self._flight: tuple[SaveAs, Cursor] | None = None
        #: What was saved on the work's branch, oldest first; a save in flight is not.
        self.saved: list[CheckpointRef] = []
        self.saved_bytes = 0
        #: How long training stood still.
        self.seconds = {"save": 0.0, "evaluate": 0.0}

    def measure(self, save: SaveAs | None) -> dict[str, float]:
        """Return the metrics that a checkpoint made here would carry."""
        began = time.perf_counter()
        found = metrics_of(self._session, save)
        self.seconds["evaluate"] += time.perf_counter() - began
        return found

    def save(self, save: SaveAs, metrics: Mapping[str, float]) -> tuple[CheckpointRef, str]:
        """Save the session as it stands; return the reference and the ledger's digest (SA2).

        Raises:
            ResumeNotIdentical: It is the first, and the trainer does not save all it depends on.
        """
        self.settle()
        is_first = self._session.parent is None
        ref, ledger = self._write(save, metrics, branch=self._work.branch)
        self.saved.append(ref)
        if is_first:
            self._prove(ref)
        return ref, ledger

    def save_again(self, lost: CheckpointRef) -> CheckpointRef:
        """Save where a checkpoint was lost, as what it was saved as."""
        save = SaveAs(kind=lost.kind, evaluate=lost.evaluated)
        return self._write(save, self.measure(save), branch=lost.branch)[0]

    def begin(self, save: SaveAs) -> None:
        """Copy the session as it stands and write it while training goes on (SA1, SA3)."""
        self.settle()
        if self._session.parent is None:
            self.save(save, self.measure(save))
            return
        metrics = self.measure(save)
        began = time.perf_counter()
        about, _, samples = self._about(save, metrics, branch=self._work.branch)
        self._saver.begin(self._session.trainer.state(), about, [samples])
        self._flight = (save, self._session.cursor)
        self._session.count_anew()
        self.seconds["save"] += time.perf_counter() - began

    def settle(self) -> None:
        """Wait for the save in flight, if any, and make it the parent."""
        if self._flight is None:
            return
        began = time.perf_counter()
        done, (save, cursor) = self._saver.finish(), self._flight
        self._flight = None
        assert done is not None, "what is in flight has been begun"
        ref = self._committed(done[0], save, branch=self._work.branch, cursor=cursor)
        self.saved.append(ref)
        self.seconds["save"] += time.perf_counter() - began

    def abandon(self) -> None:
        """Wait for the save in flight, so that nothing of a chunk that failed goes on."""
        try:
            self._saver.finish()
        except TrainingError:
            _log.warning("%s: a save in flight failed too", self._work.run, exc_info=True)

    def _write(
        self, save: SaveAs, metrics: Mapping[str, float], *, branch: str
    ) -> tuple[CheckpointRef, str]:
        began = time.perf_counter()
        about, ledger, samples = self._about(save, metrics, branch=branch)
        saved = self._store.save(self._session.trainer.state(), about, [samples])
        ref = self._committed(saved, save, branch=branch, cursor=self._session.cursor)
        self._session.count_anew()
        self.seconds["save"] += time.perf_counter() - began
        return ref, ledger

    def _about(
        self, save: SaveAs, metrics: Mapping[str, float], *, branch: str
    ) -> tuple[Description, str, bytes]:
        """Return what the checkpoint says, and the ledger's digest and bytes, to go beside it."""
        session = self._session
        samples = session.since.ledger.to_bytes()
        ledger = self._store.digest_of_blob(samples)
        about = describe(
            self._work, session, kind=save.kind, metrics=metrics, branch=branch, ledger=ledger
        )
        return about, ledger, samples

    def _committed(
        self, saved: Saved, save: SaveAs, *, branch: str, cursor: Cursor
    ) -> CheckpointRef:
        """Make what is in the store now the parent, and return the reference to it."""
        session = self._session
        ref = CheckpointRef(
            key=saved.key,
            manifest_sha256=saved.manifest_sha256,
            branch=branch,
            cursor=cursor,
            kind=save.kind,
            evaluated=save.evaluate,
            parent=session.parent,
        )
        session.parent = saved.manifest_sha256
        session.save_seconds.append(sum(saved.seconds.values()))
        self.saved_bytes += saved.bytes
        return ref

    def _prove(self, ref: CheckpointRef) -> None:
        """Load a checkpoint into a fresh trainer and compare (SA2)."""
        now = self._session.ctx
        ctx = Context(seed=now.seed, hparams=now.hparams, dataset=now.dataset)
        fresh = self._trainer()
        saved = self._store.load(ref.manifest_sha256, ref.key).state
        with own_globals(draws=fresh.draws_from_globals):
            fresh.load(saved, ctx)
        found, wanted = fresh.state().digest(), self._session.trainer.state().digest()
        if found != wanted:
            raise ResumeNotIdentical(
                f"the first state of trainer {self._work.trainer!r}",
                f"{found[:12]} after saving and loading",
                f"{wanted[:12]}, what was saved: `state` or `load` leaves something out",
            )
