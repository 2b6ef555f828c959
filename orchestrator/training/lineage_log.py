"""What the history of a training says, as facts: who saved what, by which work, under which orders.

LL1  Nothing here is believed because it stands here: a history counts as far as its hash chain
     holds, which whoever reads it has recomputed and says in `Chain`.
LL2  Pure: a history that was exported is read as well as one in a store.
LL3  A step is known by the last part of its task's name, so that an application may keep its tasks
     in a module of its own; its arguments and results are those of `work`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from orchestrator.core.values import Json
from orchestrator.training.errors import BadRecord, InvalidWork
from orchestrator.training.records import order_from_json, result_from_json
from orchestrator.training.trainer import Cursor
from orchestrator.training.work import (
    CheckpointRef,
    ChunkResult,
    ChunkWork,
    Inherited,
    Order,
    ref_from_json,
    work_from_json,
)

PREPARE, TRAIN, EVALUATE, REGISTER = "prepare", "train_chunk", "evaluate", "register"
#: The first step of a run that goes on with what an earlier run of its id prepared.
GO_ON = "go_on"


@dataclass(frozen=True, slots=True)
class RunName:
    """A run of a workflow, whose storage is named after it."""

    workflow_id: str
    run: int

    def __str__(self) -> str:
        return f"{self.workflow_id} run {self.run}"


def owner_of(storage: str) -> RunName | None:
    """Return the run that a storage is named after; None where it is named otherwise."""
    workflow_id, _, run = storage.rpartition(".")
    return RunName(workflow_id, int(run)) if workflow_id and run.isdecimal() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What recomputing a history's hash chain found; `broken` says where and why it does not."""

    events: int
    head: str
    broken: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A step was scheduled; values by reference have been fetched."""

    seq: int
    step: int
    task: str
    args: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A step has its result."""

    seq: int
    step: int
    attempt: int
    result: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A person's order arrived."""

    seq: int
    at_ms: int
    signal: str
    payload: Json


Entry: TypeAlias = Ordered | Answered | Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A checkpoint that a step answered with, and what it was ordered to do."""

    ref: CheckpointRef
    run: RunName
    seq: int
    attempt: int
    result: ChunkResult
    #: What was in force for the last step before it.
    order: Order
    #: What was in force where.
    orders: tuple[Order, ...]
    #: How often was saved then, and why, as the work was told.
    interval: Mapping[str, Json]

    @property
    def is_last(self) -> bool:
        """Whether root, ledger and metrics of the result are those of this checkpoint."""
        return self.result.ledger is not None and self.result.checkpoint == self.ref


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTaken:
    """An order of a person, and from where on it held; see `effect_of`."""

    run: RunName
    seq: int
    at_ms: int
    signal: str
    by: str
    reason: str
    #: What was ordered, beside who and why.
    wants: Mapping[str, Json]
    #: The branch, and the position on it, that was trained from next; None if nothing was.
    branch: str | None
    at: Cursor | None
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What a run ended with: a checkpoint, and the digest of its model."""

    seq: int
    manifest_sha256: str
    model_sha256: str
    metrics: Mapping[str, Json] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TrainingLog:
    """See the module.  `refs` are all checkpoints that the history names, by their digest."""

    name: RunName
    chain: Chain
    #: The run that started this one, if any.
    parent: RunName | None = None
    #: The run of the same id that goes on as this one, and the one that this goes on as.
    continued_from: RunName | None = None
    continued_by: RunName | None = None
    storage: str = ""
    store: str = ""
    steps_per_epoch: int | None = None
    inherits: Inherited | None = None
    recorded: dict[str, Recorded] = field(default_factory=dict)
    refs: dict[str, CheckpointRef] = field(default_factory=dict)
    newest: CheckpointRef | None = None
    orders: list[OrderTaken] = field(default_factory=list)
    evaluated: Evaluated | None = None
    #: Key of the registry's entry.
    registered: str | None = None
    #: What was rejected on the way and what became of it, in words.
    rejected: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kin:
    """The runs beside a run: see `TrainingLog`."""

    parent: RunName | None = None
    continued_from: RunName | None = None
    continued_by: RunName | None = None


def read_log(
    name: RunName, chain: Chain, entries: Iterable[Entry], *, kin: Kin = Kin()
) -> TrainingLog | None:
    """Return what a history says of a training; None if it is the history of something else.

    Raises:
        BadRecord: A training's step with arguments or a result that no training has.
    """
    everything = list(entries)
    log = TrainingLog(
        name=name,
        chain=chain,
        parent=kin.parent,
        continued_from=kin.continued_from,
        continued_by=kin.continued_by,
    )
    ordered: dict[int, Ordered] = {}
    for entry in everything:
        if isinstance(entry, Ordered):
            ordered[entry.step] = entry
            _take_order(log, entry)
        elif isinstance(entry, Answered) and entry.step in ordered:
            _take_answer(log, ordered[entry.step], entry)
    taken = _orders_taken(name, everything)
    # What arrived as the run went on as new is in the next one's history, too, and taken there.
    log.orders = [one for one in taken if one.at is not None or kin.continued_by is None]
    return log if log.storage else None


def in_force_before(orders: Iterable[Order], at: Cursor) -> Order:
    """Return what held for the step that led to `at`; what holds at the start for the start."""
    first, *later = orders
    return [first, *(order for order in later if order.cursor < at)][-1]


def _kind(task: str) -> str:
    return task.rpartition(".")[2]


def _take_order(log: TrainingLog, ordered: Ordered) -> None:
    if _kind(ordered.task) not in (TRAIN, EVALUATE):
        return
    work, _ = _work_of(ordered)
    _know(log, work.candidates)
    log.inherits = work.inherits or log.inherits
    if work.candidates:
        log.newest = work.candidates[0]


def _take_answer(log: TrainingLog, ordered: Ordered, answer: Answered) -> None:
    match _kind(ordered.task), answer.result:
        case "prepare", {"storage": str(storage), "store": str(store)}:
            log.storage, log.store = storage, store
            _take_prepared(log, ordered, answer)
        case "go_on", {"storage": str(storage), "store": str(store)}:
            log.storage, log.store = storage, store
            _take_inherits(log, _object(_argument(ordered, 0)))
        case "train_chunk", {"result": result}:
            work, interval = _work_of(ordered)
            _take_result(log, result_from_json(result), answer, work.orders(), interval)
        case "evaluate", {"manifest_sha256": str(manifest), "model_sha256": str(model), **more}:
            metrics = more.get("metrics")
            log.evaluated = Evaluated(
                seq=answer.seq,
                manifest_sha256=manifest,
                model_sha256=model,
                metrics=metrics if isinstance(metrics, dict) else {},
            )
        case "register", {"key": str(key)}:
            log.registered = key
        case _:
            # Of no training, or of what needs no lineage: cleaning up, or a step that was skipped.
            return


def _take_prepared(log: TrainingLog, ordered: Ordered, answer: Answered) -> None:
    result, plan = _object(answer.result), _object(_argument(ordered, 0))
    steps = result.get("steps_per_epoch")
    log.steps_per_epoch = steps if isinstance(steps, int) else None
    start = plan.get("start")
    if isinstance(start, dict):
        _know(log, [_ref(ref) for ref in _list(start.get("refs"))])
        log.newest = next(reversed(log.refs.values()), None)
    _take_inherits(log, plan)
    if result.get("first") is not None:
        order = order_from_json(
            {
                "cursor": {"epoch": 0, "step": 0},
                "seed": plan.get("seed"),
                "hparams": _object(result.get("hparams")),
            }
        )
        _take_result(log, result_from_json(result["first"]), answer, (order,), {})


def _take_inherits(log: TrainingLog, plan: Mapping[str, Json]) -> None:
    inherits = plan.get("inherits")
    if isinstance(inherits, dict):
        log.inherits = Inherited(
            run=str(inherits.get("storage")),
            key=str(inherits.get("key")),
            manifest_sha256=str(inherits.get("manifest_sha256")),
        )


def _take_result(
    log: TrainingLog,
    result: ChunkResult,
    answer: Answered,
    orders: tuple[Order, ...],
    interval: Mapping[str, Json],
) -> None:
    for ref in result.saved:
        recorded = Recorded(
            ref=ref,
            run=log.name,
            seq=answer.seq,
            attempt=answer.attempt,
            result=result,
            order=in_force_before(orders, ref.cursor),
            orders=orders,
            interval=interval,
        )
        log.recorded.setdefault(ref.manifest_sha256, recorded)
    _know(log, result.saved)
    log.newest = result.checkpoint or log.newest
    log.rejected += [
        f"event {answer.seq}: {one.ref.cursor} of {one.ref.branch} could not be continued "
        f"({one.reason}); {one.outcome}"
        for one in result.rejected
    ]


def _orders_taken(run: RunName, entries: list[Entry]) -> Iterator[OrderTaken]:
    """Yield the orders of persons, each with the work that was ordered next."""
    for index, told in enumerate(entries):
        if not isinstance(told, Told):
            continue
        wants = dict(told.payload) if isinstance(told.payload, dict) else {}
        by, reason = wants.pop("by", ""), wants.pop("reason", "")
        following = _next_work(entries[index:])
        yield OrderTaken(
            run=run,
            seq=told.seq,
            at_ms=told.at_ms,
            signal=told.signal,
            by=str(by),
            reason=str(reason),
            wants=wants,
            branch=following.branch if following else None,
            at=following.start if following else None,
            effect=effect_of(told.signal, wants, following),
        )


def _next_work(entries: list[Entry]) -> ChunkWork | None:
    """Return the first work that trains: one that only saves comes before an order is taken."""
    for entry in entries:
        if isinstance(entry, Ordered) and _kind(entry.task) == TRAIN:
            work, _ = _work_of(entry)
            if work.stop > work.start:
                return work
    return None


def effect_of(signal: str, wants: Mapping[str, Json], following: ChunkWork | None) -> str:
    """Return in words what the work ordered after an order shows of it."""
    if following is None:
        return "nothing was trained after it"
    match signal, wants:
        case "decide", {"decision": "adjust", "hparams": dict(values)}:
            held = all(following.hparams.get(name) == value for name, value in values.items())
        case "reseed", {"seed": seed}:
            held = following.seed == seed
        case "rollback", {"to": str(digest)}:
            newest = following.candidates[:1]
            held = any(ref.manifest_sha256.startswith(digest) for ref in newest)
        case _:
            return "training went on"
    return "in force" if held else "not in force: refused, or overtaken by another"


def _know(log: TrainingLog, refs: Iterable[CheckpointRef]) -> None:
    for ref in refs:
        log.refs.setdefault(ref.manifest_sha256, ref)


def _work_of(ordered: Ordered) -> tuple[ChunkWork, Mapping[str, Json]]:
    interval = _argument(ordered, 1)
    try:
        work = work_from_json(_argument(ordered, 0))
    except InvalidWork as error:
        raise BadRecord(f"event {ordered.seq}", str(error), "the work of a chunk") from error
    return work, interval if isinstance(interval, dict) else {}


def _argument(ordered: Ordered, index: int) -> Json:
    args = ordered.args
    return args[index] if isinstance(args, list) and index < len(args) else None


def _ref(value: Any) -> CheckpointRef:
    try:
        return ref_from_json(value)
    except (KeyError, TypeError) as error:
        raise BadRecord("a checkpoint", repr(value)[:60], "what a result holds") from error


def _object(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise BadRecord("a part of a training's history", repr(value)[:60], "an object")
    return value


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
