"""Carries out one chunk: continue the newest good checkpoint, train, save, answer.

R1  The same work from the same parent gives the same manifest, in one piece or interrupted
    anywhere, in a fresh process or from memory.  What is measured in seconds stays out of it.
R2  A checkpoint that cannot be read costs time, never the result: training goes on from the newest
    good one under what was in force there.  Where a rejected one was, it is saved again, from the
    same parent and as the same kind: bit for bit what it was.  The chain heals behind the run.
     What another machine makes of it is another checkpoint, and answered as one.
R3  A worker that is asked to stop finishes its step, saves if the grace allows, and answers.  Steps
    that it trained again are saved like others, but before the place of a rejected checkpoint.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

from orchestrator.core.values import Json
from orchestrator.training.asking import asked_meanwhile
from orchestrator.training.beginning import Beginning, OpenCheckpoints, begin, warm_key
from orchestrator.training.describing import environment_of
from orchestrator.training.errors import NonDeterminismError
from orchestrator.training.rng import probe
from orchestrator.training.saving import Saving
from orchestrator.training.session import WarmSessions
from orchestrator.training.trainer import Cursor, TrainerFactory
from orchestrator.training.work import CheckpointRef, ChunkResult, ChunkWork, SaveAs

#: A save that is begun must end: it is when the grace left is this many times the slowest of late.
GRACE_MARGIN = 1.5


@dataclass(frozen=True, slots=True)
class Stop:
    """The worker is asked to stop; `deadline_s` is on `time.monotonic`, None if nothing presses."""

    deadline_s: float | None = None


#: Asked before every step; an answer ends the chunk there.  While the chunk loads, saves or
#: evaluates a thread asks as well, see `asking`, and its answer is asked for again.
Control: TypeAlias = Callable[[], Stop | None]


class Metrics(Protocol):
    """Where live metrics go; must return at once and never raise."""

    def put(self, record: Mapping[str, Json]) -> None:
        """Take one step's metrics, or drop them."""


def run_chunk(
    work: ChunkWork,
    *,
    trainer: TrainerFactory,
    checkpoints: OpenCheckpoints,
    control: Control,
    metrics: Metrics | None = None,
    warm: WarmSessions | None = None,
) -> ChunkResult:
    """Train `work`, save what it orders, and return what came of it.

    Safe to repeat and to run twice at once: both save the same bytes under the same key.

    Args:
        work: What to train.
        trainer: Makes the work's trainer.
        checkpoints: Opens the checkpoints of a run by its id.
        control: Says whether the worker is asked to stop.
        metrics: Live metrics of every step; they decide nothing.
        warm: Live trainers of earlier chunks in this process.

    Raises:
        TrainingUsageError: The work does not fit its data, trainer, or machine; see the subclass.
        TrainerMisbehaved: The trainer broke its contract.
    """
    sessions = warm if warm is not None else WarmSessions(0)
    began = time.perf_counter()
    with asked_meanwhile(control):
        start = begin(work, trainer(), checkpoints, sessions)
    saving = Saving(work, start.session, checkpoints(work.run), trainer)
    chunk = _Chunk(work, start, saving, control, metrics)
    chunk.seconds["load"] = time.perf_counter() - began
    try:
        result = chunk.run()
    except BaseException:
        saving.abandon()
        raise
    session = start.session
    session.orders = work.covering(session.parent_cursor, session.cursor)
    sessions.put(warm_key(work, session.trainer, session.parent), session)
    return result


class _Chunk:
    """One chunk in progress."""

    def __init__(
        self,
        work: ChunkWork,
        start: Beginning,
        saving: Saving,
        control: Control,
        metrics: Metrics | None,
    ) -> None:
        self._work = work
        self._start = start
        self._session = start.session
        self._saving = saving
        self._control = control
        self._metrics = metrics
        self._rejected = list(start.rejected)
        self._repeated = 0
        self.seconds = {"load": 0.0, "train": 0.0}

    def run(self) -> ChunkResult:
        """Train to the end, or until asked to stop; save; return what came of it."""
        session, work, saving = self._session, self._work, self._saving
        stop = self._heal() or self._on_the_way() or self._train(work.stop)
        with asked_meanwhile(self._control):
            saving.settle()
            save = self._save_ordered(stop)
            parent, since, ledger = session.parent, session.since, None
            metrics = saving.measure(save)
            ref = self._already_saved()
            if save is not None and ref is None:
                ref, ledger = saving.save(save, metrics)
            elif ref is None and saving.saved:
                ref = saving.saved[-1]
        return ChunkResult(
            stopped_at=session.cursor,
            step=session.step,
            complete=stop is None,
            checkpoint=ref,
            saved=tuple(saving.saved),
            parent=parent,
            trainer_version=session.trainer.version,
            dataset_fingerprint=session.ctx.dataset.fingerprint,
            metrics=metrics,
            batches=since.steps,
            merkle_root=since.ledger.root(),
            ledger=ledger,
            environment_class=environment_of(session.trainer).class_sha256,
            environment_differs=self._start.differs,
            rng_probe=probe(),
            rejected=tuple(self._rejected),
            repeated_steps=self._repeated,
            warm=self._start.warm,
            saved_bytes=saving.saved_bytes,
            seconds={**self.seconds, **saving.seconds},
        )

    def _train(self, until: Cursor) -> Stop | None:
        """Train up to `until` under what is in force; return why not, if asked to stop."""
        session, work = self._session, self._work
        began = time.perf_counter()
        stop: Stop | None = None
        while stop is None and session.cursor < until:
            session.apply(work.in_force(session.cursor))
            changes = [o.cursor for o in work.orders() if o.cursor > session.cursor]
            stop = self._steps(min([until, *changes]))
        self.seconds["train"] += time.perf_counter() - began
        return stop

    def _steps(self, until: Cursor) -> Stop | None:
        session, work = self._session, self._work
        while session.cursor < until:
            stop = self._control()
            if stop is not None:
                return stop
            self._repeated += session.cursor < work.start
            at = session.cursor
            found = session.advance()
            if self._metrics is not None:
                place: dict[str, Json] = {"run": work.run, "branch": work.branch}
                place |= {"step": session.step, "epoch": at.epoch}
                self._metrics.put({**place, "metrics": dict(found)})
        return None

    def _heal(self) -> Stop | None:
        """Train over the places of rejected checkpoints and save each again (R2)."""
        session = self._session
        for index in reversed(range(len(self._rejected))):
            bad = self._rejected[index]
            stop = self._train(bad.ref.cursor)
            if stop is not None:
                return stop
            if session.parent != bad.ref.parent:
                # What it came from is gone: what would be saved here is another checkpoint.
                continue
            self._rejected[index] = replace(bad, outcome=self._save_again(bad.ref))
        return None

    def _save_again(self, lost: CheckpointRef) -> Literal["healed", "differs"]:
        """Save where a rejected checkpoint was, and return whether it is what it was."""
        try:
            with asked_meanwhile(self._control):
                ref = self._saving.save_again(lost)
        except NonDeterminismError:
            # Its manifest can be read and says other things.  The run goes on without it: steps
            # count on from the parent, and whoever reads the answer is told.
            return "differs"
        if ref.manifest_sha256 == lost.manifest_sha256:
            return "healed"
        # What follows names it as parent, and history knows only what an answer names.
        self._saving.saved.append(ref)
        return "differs"

    def _on_the_way(self) -> Stop | None:
        """Train from one of the work's saves to the next, while the one before is written."""
        for cursor in self._work.saves:
            stop = self._train(cursor)
            if stop is not None:
                return stop
            with asked_meanwhile(self._control):
                self._saving.begin(SaveAs(kind="interval"))
        return None

    def _save_ordered(self, stop: Stop | None) -> SaveAs | None:
        """Return what to save at the end, if anything."""
        if stop is None:
            return self._work.save
        if any(bad.ref.cursor > self._session.cursor for bad in self._rejected):
            # A checkpoint here would stand between a rejected one and its parent.
            return None
        if stop.deadline_s is not None and self._session.save_seconds:
            needed = GRACE_MARGIN * max(self._session.save_seconds)
            if stop.deadline_s - time.monotonic() < needed:
                return None
        return SaveAs(kind="preempt")

    def _already_saved(self) -> CheckpointRef | None:
        """Return the parent, if not a step was taken since."""
        session = self._session
        if session.parent is None or session.since.steps:
            return None
        known = (*self._work.candidates, *self._saving.saved)
        found = [r for r in known if r.manifest_sha256 == session.parent]
        return found[0] if found else None
