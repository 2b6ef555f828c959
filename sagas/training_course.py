"""The course of one training: where it is, what is in force, and what the next chunk is.

C1  A pure function of the plan, of the chunks' results and of the orders: replay repeats it.
C2  Nothing that was saved is forgotten by going back: a branch keeps the checkpoints of the one it
    left, up to where it left it.
C3  Where the training is never lies before an order that was acknowledged: a chunk that is stopped
    while it trains again what was lost leaves the place as it is, and the rest to the next.
"""

from dataclasses import dataclass, field, replace

from orchestrator.training.chunks import chunk_size
from orchestrator.training.hyperparameters import Hyperparameters
from orchestrator.training.interval import (
    Adaptive,
    EveryEpochs,
    Interval,
    Observed,
    Policy,
    choose,
)
from orchestrator.training.trainer import Cursor
from orchestrator.training.work import (
    CheckpointRef,
    ChunkResult,
    ChunkWork,
    Inherited,
    Order,
    SaveAs,
)
from tasks.training_models import Prepared, Saving, TrainingPlan

#: Checkpoints a chunk is told of, newest first, to fall back to; and the orders since the oldest.
CANDIDATES_MAX = 16


@dataclass(slots=True)
class Branch:
    """One line of checkpoints: "main" at first, then "main@2" and so on; see `Course.root`."""

    name: str
    cursor: Cursor
    orders: list[Order]
    refs: list[CheckpointRef] = field(default_factory=list)

    @property
    def order(self) -> Order:
        """What is in force from here on."""
        return self.orders[-1]


class Course:
    """See the module.

    Args:
        plan: What is to be trained.
        prepared: What was fixed before the first step.
        schema: What the trainer can be told.
        begin: The branch to begin with.
        root: What the branches of this run are named after, and those of no run that shares its
            storage: the whole name of its first one.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        prepared: Prepared,
        schema: Hyperparameters,
        begin: Branch,
        *,
        root: str | None = None,
    ) -> None:
        self.plan = plan
        self.prepared = prepared
        self.branch = begin
        self.environment = plan.environment
        self.observed = Observed()
        self.policy = policy_of(plan.saving)
        self.is_stopped = False
        self._schema = schema
        self._branches = 1
        self._work_since_save_s = 0.0
        self._saved_at = begin.cursor
        self._saves_always = False
        self._root = root or begin.name
        #: Digests of the checkpoints from which something was ordered.
        self.pinned: dict[str, None] = {}

    @property
    def end(self) -> Cursor:
        """Where the plan ends."""
        return Cursor(self.plan.epochs, 0)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        return self.is_stopped or self.branch.cursor >= self.end

    # --- orders ----------------------------------------------------------------------------------

    def adjust(self, change: dict[str, object]) -> None:
        """Train on with other values from here on.

        Raises:
            BadHyperparameter: Nothing was changed.
        """
        branch = self.branch
        changed = self._schema.changed(branch.order.hparams, change)  # type: ignore[arg-type]
        self._order(replace(branch.order, cursor=branch.cursor, hparams=changed))

    def reseed(self, seed: int) -> None:
        """Train on with another seed from here on, as a new branch."""
        self.branch = self._new_branch(self.branch.cursor, list(self.branch.refs))
        self._order(replace(self.branch.order, cursor=self.branch.cursor, seed=seed))

    def roll_back(self, digest: str) -> CheckpointRef:
        """Go on from an earlier checkpoint of this branch, as a new one (C2).

        Raises:
            LookupError: No checkpoint, or more than one, has a digest that begins so.
        """
        found = [ref for ref in self.branch.refs if ref.manifest_sha256.startswith(digest)]
        if len(found) != 1:
            known = ", ".join(ref.manifest_sha256[:12] for ref in self.branch.refs[-8:]) or "none"
            what = "no checkpoint" if not found else f"{len(found)} checkpoints"
            raise LookupError(f"{what} of {self.branch.name} begins with {digest}; newest: {known}")
        refs = self.branch.refs[: self.branch.refs.index(found[0]) + 1]
        self.branch = self._new_branch(found[0].cursor, refs)
        self.pin_newest()
        # What was ordered at that very place came after it was saved.
        orders = self.branch.orders
        self.branch.orders = [orders[0], *(o for o in orders[1:] if o.cursor < found[0].cursor)]
        return found[0]

    def fork(self, name: str) -> Branch:
        """Return a branch from the newest checkpoint, for another run to go on with."""
        at = self.branch.refs[-1].cursor if self.branch.refs else Cursor(0, 0)
        return Branch(name, at, _until(self.branch.orders, at), list(self.branch.refs))

    def pin_newest(self) -> None:
        """Keep the newest checkpoint, whatever it was saved as: what is ordered begins there."""
        if self.branch.refs:
            self.pinned[self.branch.refs[-1].manifest_sha256] = None

    def changed(self, branch: Branch, seed: int, change: dict[str, object]) -> Order:
        """Return the order that gives a branch another seed, and other values, from its start.

        Raises:
            BadHyperparameter: A value that does not fit.
        """
        values = self._schema.changed(branch.order.hparams, change)  # type: ignore[arg-type]
        return Order(cursor=branch.cursor, seed=seed, hparams=values)

    def _order(self, order: Order) -> None:
        branch = self.branch
        branch.orders = [*(one for one in branch.orders if one.cursor < order.cursor), order]

    def _new_branch(self, at: Cursor, refs: list[CheckpointRef]) -> Branch:
        self._branches += 1
        self._work_since_save_s, self._saved_at = 0.0, at
        name = f"{self._root}@{self._branches}"
        return Branch(name, at, _until(self.branch.orders, at), refs)

    # --- chunks ----------------------------------------------------------------------------------

    def interval(self) -> Interval:
        """Return how often to save, by what was observed so far."""
        return choose(self.policy, self.observed)

    def next_work(self, interval: Interval, *, limit: Cursor | None = None) -> ChunkWork:
        """Return the next chunk, not beyond `limit`, with a save where one is due at its end."""
        per_epoch = self.prepared.steps_per_epoch
        size = chunk_size(
            interval,
            step_s=self.observed.step_s,
            steps_per_epoch=per_epoch,
            epochs_since_save=self.branch.cursor.epoch - self._saved_at.epoch,
        )
        start = self.branch.cursor
        bound = min(self.end, limit) if limit is not None else self.end
        stop = min(bound, self._after(start, size.steps, size.epochs))
        steps = self._between(start, stop)
        expected_s = self._work_since_save_s + steps * (self.observed.step_s or 0.0)
        epochs = stop.epoch - self._saved_at.epoch
        is_due = interval.is_due(work_s=expected_s, epochs=epochs)
        save = None
        if stop == self.end:
            save = SaveAs(kind="final", evaluate=True)
        elif is_due or stop == limit or self._saves_always or self.observed.step_s is None:
            save = SaveAs(kind="interval", evaluate=True)
        return self._work(stop, save)

    def save_here(self, kind: str) -> ChunkWork | None:
        """Return the work that saves where the training stands; None where it has."""
        refs = self.branch.refs
        if refs and refs[-1].cursor == self.branch.cursor:
            return None
        return self._work(self.branch.cursor, SaveAs(kind=kind, evaluate=True))

    def mend_last(self) -> ChunkWork:
        """Return the work that makes the newest checkpoint again where it is damaged."""
        return self._work(self.branch.cursor, SaveAs(kind="final", evaluate=True))

    def final_work(self) -> ChunkWork:
        """Return the work that begins, and ends, at the newest checkpoint."""
        return self._work(self.branch.cursor, None)

    def take(self, result: ChunkResult, *, attempt: int, goes_back: bool = False) -> None:
        """Take what a chunk came to into account (C3).

        `goes_back` is for runs that went back to where a chunk stopped before they knew better.
        """
        branch, at = self.branch, result.stopped_at
        steps = self._between(branch.cursor, at)
        seconds = result.seconds
        if steps > 0:
            all_steps = steps + result.repeated_steps
            self.observed = self.observed.observe_chunk(seconds["train"], steps=all_steps)
        for _ in range(attempt - 1):
            self.observed = self.observed.observe_failure()
        self._saves_always |= result.repeated_steps > 0 and attempt == 1 and not result.rejected
        self._work_since_save_s += seconds["train"]
        branch.cursor = at if goes_back else max(at, branch.cursor)
        if result.checkpoint is not None:
            if result.saved:
                self.observed = self.observed.observe_save(seconds["save"] / len(result.saved))
            # What a stopped chunk did not come to may be mended yet by the next.
            bad = {
                one.ref.manifest_sha256
                for one in result.rejected
                if one.outcome != "healed" and (goes_back or one.ref.cursor <= at)
            }
            known = {ref.manifest_sha256 for ref in branch.refs} - bad
            branch.refs = [ref for ref in branch.refs if ref.manifest_sha256 in known]
            branch.refs += [ref for ref in result.saved if ref.manifest_sha256 not in known]
            self._since_save(at)

    def _since_save(self, at: Cursor) -> None:
        self._work_since_save_s, self._saved_at = 0.0, at

    def _work(self, stop: Cursor, save: SaveAs | None) -> ChunkWork:
        branch, plan, prepared = self.branch, self.plan, self.prepared
        candidates = tuple(reversed(branch.refs[-CANDIDATES_MAX:]))
        inherits = plan.inherits
        return ChunkWork(
            run=prepared.storage,
            branch=branch.name,
            trainer=plan.trainer,
            dataset=plan.dataset,
            split_seed=plan.split_seed,
            seed=branch.order.seed,
            hparams=branch.order.hparams,
            start=branch.cursor,
            stop=stop,
            trainer_version=prepared.trainer_version,
            dataset_fingerprint=prepared.dataset_fingerprint,
            candidates=candidates,
            earlier=tuple(one for one in branch.orders if one.cursor < branch.cursor),
            save=save,
            inherits=Inherited(
                run=inherits.storage, key=inherits.key, manifest_sha256=inherits.manifest_sha256
            )
            if inherits is not None
            else None,
            environment=self.environment,
        )

    def _after(self, at: Cursor, steps: int, epochs: int) -> Cursor:
        if epochs:
            return Cursor(at.epoch + epochs, 0)
        step = at.step + steps
        per_epoch = self.prepared.steps_per_epoch
        return Cursor(at.epoch + 1, 0) if step >= per_epoch else Cursor(at.epoch, step)

    def _between(self, start: Cursor, stop: Cursor) -> int:
        per_epoch = self.prepared.steps_per_epoch
        return (stop.epoch - start.epoch) * per_epoch + stop.step - start.step


def policy_of(saving: Saving) -> Policy:
    """Return the policy that a plan asks for."""
    if saving.every_epochs is not None:
        return EveryEpochs(saving.every_epochs)
    return Adaptive(
        prior_mtbf_s=saving.prior_mtbf_s,
        tau_min_s=saving.tau_min_s,
        tau_max_s=saving.tau_max_s,
        money_per_save=saving.money_per_save,
        money_per_hour=saving.money_per_hour,
    )


def _until(orders: list[Order], at: Cursor) -> list[Order]:
    """Return the orders that are in force up to and at `at`."""
    return [order for order in orders if order.cursor <= at]
