"""A trainer in the middle of a branch, and what it did since its last checkpoint.

SE1  What a checkpoint says of its steps (metrics, batches) is counted from its parent, never from
     where a task happened to start: chunks can be cut anywhere.
SE2  A session that met an error is gone.  `WarmSessions.take` removes it, and only a chunk that
     ended well puts it back.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.training.errors import TrainerMisbehaved
from orchestrator.training.ledger import Ledger
from orchestrator.training.rng import own_globals, seed_globals
from orchestrator.training.trainer import Context, Cursor, Ids, Trainer
from orchestrator.training.work import Order

#: How many live trainers a process keeps: a worker's child serves one run for a long time, and
#: two stages or branches by turns at most.  Bounds memory to as many states.
SESSIONS_MAX = 2
#: Saves from which the next one's duration is guessed.
SAVES_REMEMBERED = 20


@dataclass(slots=True, kw_only=True)
class Since:
    """What happened since the parent checkpoint (SE1)."""

    ledger: Ledger
    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def add(self, metrics: Mapping[str, float]) -> None:
        """Count one step."""
        if self.steps and metrics.keys() != self.sums.keys():
            raise TrainerMisbehaved(
                "the metrics of a step",
                ", ".join(sorted(metrics)) or "none",
                f"every step names the same: {', '.join(sorted(self.sums)) or 'none'}",
            )
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1

    def means(self) -> dict[str, float]:
        """Return the mean of each metric; empty before the first step."""
        return {name: total / self.steps for name, total in self.sums.items()}


class Session:
    """One live trainer at one position."""

    def __init__(self, trainer: Trainer, ctx: Context, *, cursor: Cursor, step: int) -> None:
        self.trainer = trainer
        self.ctx = ctx
        ctx.observe = self.observe
        self.cursor = cursor
        #: Steps since the first of the run.
        self.step = step
        #: Digest of the parent's manifest, None before the first checkpoint; and where it was.
        self.parent: str | None = None
        self.parent_cursor = cursor
        self.since = Since(ledger=Ledger())
        #: What was in force since the parent, as the last chunk's work had it.
        self.orders: tuple[Order, ...] = ()
        #: How long the last saves took.
        self.save_seconds: deque[float] = deque(maxlen=SAVES_REMEMBERED)
        #: Which batch the step in progress was given.
        self._seen: list[tuple[int, int]] = []

    def apply(self, order: Order) -> None:
        """Bring an order in force."""
        if order.seed == self.ctx.seed and order.hparams == self.ctx.hparams:
            return
        schema = self.trainer.hyperparameters
        hparams = schema.changed(self.ctx.hparams, schema.complete(order.hparams))
        self.ctx.seed, self.ctx.hparams = order.seed, hparams
        self.trainer.apply(hparams)

    def observe(self, epoch: int, step: int, ids: Ids) -> None:
        """Note the batch that the trainer was given (T5)."""
        if self._seen:
            raise TrainerMisbehaved(
                f"step {step} of epoch {epoch}", "a second batch asked for", "a step takes one"
            )
        self._seen.append((epoch, step))
        digest, samples = self.ctx.dataset.sample_digest, ids.tolist()
        self.since.ledger.add(epoch, step, samples, [digest(sample) for sample in samples])

    def advance(self) -> Mapping[str, float]:
        """Train one step and return its metrics.

        Raises:
            TrainerMisbehaved: The trainer asked for no batch, or for that of another step.
        """
        here = (self.cursor.epoch, self.cursor.step)
        draws = self.trainer.draws_from_globals
        self._seen.clear()
        with own_globals(draws=draws):
            if draws:
                seed_globals(self.ctx.seed, *here)
            metrics = self.trainer.step(self.ctx, *here)
        if self._seen != [here]:
            raise TrainerMisbehaved(
                str(self.cursor),
                f"the batch of {self._seen[0]}" if self._seen else "no batch asked for",
                "a step asks for its own, or the evidence would be wrong",
            )
        self.since.add(metrics)
        self.step += 1
        self.cursor = self.after(self.cursor)
        return metrics

    def after(self, cursor: Cursor) -> Cursor:
        """Return the position one step on (W2)."""
        if cursor.step + 1 < self.trainer.steps(cursor.epoch):
            return Cursor(cursor.epoch, cursor.step + 1)
        return Cursor(cursor.epoch + 1, 0)

    def count_anew(self) -> None:
        """Count from here, where a checkpoint is or is about to be; `parent` is set once it is."""
        self.parent_cursor = self.cursor
        self.since = Since(ledger=Ledger())
        self.orders = ()


#: What a live trainer is found by; a parent of None is a run that has no checkpoint yet.
WarmKey: TypeAlias = tuple[Hashable, ...]


class WarmSessions:
    """The live trainers of this process, the least recently used dropped first.

    For one thread at a time: a worker's child carries out one task at a time.
    """

    def __init__(self, sessions_max: int = SESSIONS_MAX) -> None:
        self._sessions: OrderedDict[WarmKey, Session] = OrderedDict()
        self._sessions_max = sessions_max

    def take(self, key: WarmKey) -> Session | None:
        """Return and remove a session (SE2)."""
        return self._sessions.pop(key, None)

    def put(self, key: WarmKey, session: Session) -> None:
        """Keep a session for the next chunk."""
        self._sessions[key] = session
        while len(self._sessions) > self._sessions_max:
            self._sessions.popitem(last=False)
