"""What a task is asked to train and what it answers, both as JSON.

W1  The work says all that decides the bits: the seed and the hyperparameters in force from where
    on, the data, the trainer, where it starts and stops.  The same work from the same parent gives
    the same checkpoint, on whatever worker, however often.
W2  A position is a `Cursor`.  (e, number of steps of e) and (e + 1, 0) are one place; it is
    written as the second.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from orchestrator.core.values import Json
from orchestrator.training.errors import InvalidWork
from orchestrator.training.trainer import Cursor

#: What to do with a checkpoint of another environment class: nothing is trained, or it is said.
EnvironmentPolicy: TypeAlias = Literal["refuse", "flag"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRef:
    """A committed checkpoint: where its manifest is, and what it was saved as."""

    key: str
    manifest_sha256: str
    branch: str
    cursor: Cursor
    kind: str
    evaluated: bool = False
    #: Digest of its parent's manifest; None for the first of a run.
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is in force from `cursor` on."""

    cursor: Cursor
    seed: int
    hparams: Mapping[str, Json]

    def repeats(self, other: "Order") -> bool:
        """Return whether it changes nothing where `other` is in force."""
        return (self.seed, self.hparams) == (other.seed, other.hparams)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveAs:
    """That a checkpoint is wanted, of which kind, and whether it carries an evaluation."""

    kind: str
    evaluate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """The final checkpoint of an earlier stage, which is a run of its own."""

    run: str
    key: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWork:
    """Train one branch of a run from `start` to `stop`.

    `candidates` are the branch's checkpoints at or before `start`, newest first, over its forks;
    the first good one is continued, none of them good means from the seed.  `earlier` is what was
    in force before `start`, ascending, as far back as falling back may lead.
    """

    run: str
    branch: str
    trainer: str
    dataset: str
    seed: int
    hparams: Mapping[str, Json]
    start: Cursor
    stop: Cursor
    split_seed: int = 0
    #: None where it is not known yet: the answer says what it is.
    trainer_version: str | None = None
    dataset_fingerprint: str | None = None
    candidates: tuple[CheckpointRef, ...] = ()
    earlier: tuple[Order, ...] = ()
    save: SaveAs | None = None
    #: Where to save on the way, ascending, between `start` and `stop`.
    saves: tuple[Cursor, ...] = ()
    inherits: Inherited | None = None
    environment: EnvironmentPolicy = "refuse"

    def __post_init__(self) -> None:
        """Refuse work that no order of events can have led to."""
        if self.stop < self.start:
            raise InvalidWork("stop", str(self.stop), f"not before the start, {self.start}")
        cursors = [ref.cursor for ref in self.candidates]
        if cursors != sorted(cursors, reverse=True) or any(c > self.start for c in cursors):
            raise InvalidWork(
                "candidates", ", ".join(map(str, cursors)), f"newest first, none after {self.start}"
            )
        orders = [order.cursor for order in self.earlier]
        if orders != sorted(orders) or any(c > self.start for c in orders):
            raise InvalidWork(
                "earlier", ", ".join(map(str, orders)), f"oldest first, none after {self.start}"
            )

        if list(self.saves) != sorted(set(self.saves)) or not all(
            self.start < cursor < self.stop for cursor in self.saves
        ):
            found = ", ".join(map(str, self.saves))
            raise InvalidWork("saves", found, f"ascending, after {self.start}, before {self.stop}")

    @property
    def is_mending(self) -> bool:
        """Whether all that is asked is that the newest candidate can be read, or is made again."""
        return bool(self.candidates) and self.candidates[0].cursor == self.start == self.stop

    def orders(self) -> tuple[Order, ...]:
        """Return all that was and is in force, ascending; the last holds from `start` on."""
        return (*self.earlier, Order(cursor=self.start, seed=self.seed, hparams=self.hparams))

    def in_force(self, at: Cursor) -> Order:
        """Return what holds for the step after `at`.

        Raises:
            InvalidWork: `earlier` does not reach back so far.
        """
        found = [order for order in self.orders() if order.cursor <= at]
        if not found:
            raise InvalidWork(
                "earlier",
                f"nothing in force at {at}",
                "name what was in force there: no good checkpoint lies after it",
            )
        return found[-1]

    def covering(self, low: Cursor, high: Cursor) -> tuple[Order, ...]:
        """Return what holds for the steps from `low` to before `high`, each change once.

        Raises:
            InvalidWork: As `in_force`.
        """
        found = [self.in_force(low)] if low < high else []
        for order in self.orders():
            if low < order.cursor < high and not order.repeats(found[-1]):
                found.append(order)
        return tuple(found)

    def as_json(self) -> Json:
        """Return the work as `work_from_json` reads it."""
        found: Json = _plain(asdict(self))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A checkpoint that could not be continued, and what became of it when training passed it.

    "healed": saved again, bit for bit what it was.  "differs": what was trained again is another;
    the trainer or the machine is not what it was, and bits are not to be relied on.  "left": not
    come to, or what it was made from is gone.
    """

    ref: CheckpointRef
    reason: str
    outcome: Literal["healed", "differs", "left"] = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult:
    """What a chunk came to.  `seconds` are measured; everything else repeats with the work."""

    stopped_at: Cursor
    #: Steps since the first of the run, along this branch.
    step: int
    #: Whether `stop` was reached; otherwise the worker was asked to stop.
    complete: bool
    #: The last one; None where nothing was saved: the next chunk starts from the same parent.
    checkpoint: CheckpointRef | None
    #: All that were saved, oldest first, `checkpoint` among them.
    saved: tuple[CheckpointRef, ...]
    #: Of what comes next to it, `metrics`, `batches` and root are counted from here.
    parent: str | None
    trainer_version: str
    dataset_fingerprint: str
    #: Means over the steps since `parent`, and with an evaluation ``held_out_…``.
    metrics: Mapping[str, float]
    batches: int
    merkle_root: str
    ledger: str | None
    environment_class: str
    environment_differs: tuple[str, ...] = ()
    rng_probe: str = ""
    rejected: tuple[Rejected, ...] = ()
    #: Steps before `start` that had to be trained again, and whether memory held the parent.
    repeated_steps: int = 0
    warm: bool = False
    #: Written to the store by this chunk, without what was there already.
    saved_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> Json:
        """Return the result as JSON; a metric that is not finite becomes its name."""
        return _plain(asdict(self))


def work_from_json(value: Json) -> ChunkWork:
    """Return the work that `ChunkWork.as_json` wrote.

    Raises:
        InvalidWork: Not such JSON, or work that cannot be.
    """
    if not isinstance(value, dict):
        raise InvalidWork("work", type(value).__name__, "an object")
    given: dict[str, Any] = dict(value)
    try:
        save, inherits = given.pop("save", None), given.pop("inherits", None)
        return ChunkWork(
            start=_cursor(given.pop("start")),
            stop=_cursor(given.pop("stop")),
            saves=tuple(_cursor(cursor) for cursor in given.pop("saves", ())),
            candidates=tuple(ref_from_json(ref) for ref in given.pop("candidates", ())),
            earlier=tuple(
                Order(**{**order, "cursor": _cursor(order["cursor"])})
                for order in given.pop("earlier", ())
            ),
            save=SaveAs(**save) if save is not None else None,
            inherits=Inherited(**inherits) if inherits is not None else None,
            **given,
        )
    except (KeyError, TypeError) as error:
        raise InvalidWork("work", f"{type(error).__name__}: {error}", "what as_json writes") from (
            error
        )


def ref_from_json(value: Any) -> CheckpointRef:
    """Return the reference that stands in a result's or a work's JSON."""
    return CheckpointRef(**{**value, "cursor": _cursor(value["cursor"])})


def _cursor(value: Any) -> Cursor:
    return Cursor(epoch=value["epoch"], step=value["step"])


def _plain(value: Any) -> Json:
    match value:
        case float() if not math.isfinite(value):
            return repr(value)
        case Mapping():
            return {str(name): _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case _:
            found: Json = value
            return found
