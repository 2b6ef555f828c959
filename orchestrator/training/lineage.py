"""Walks from a model to its seed: checkpoint by checkpoint, over branches, forks and stages.

LI1  Trust begins at the history of a run: its chain is recomputed, and what it records of a
     checkpoint (digest, parent, orders, root and ledger of its batches) is held against the store.
LI2  A link is a digest.  A manifest names its parent by digest, so that a walk that arrives at the
     seed has seen all there was, whatever the histories of other runs say or no longer say.
LI3  What does not hold is a `Problem` that says what was found and what was wanted; the walk goes
     on where the histories know the way, so that one report names all damage.
LI4  What is gone by right is said and no problem: the weights of a collected checkpoint, the
     history of a run that retention removed.
LI5  Nothing is written.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.errors import NotProvable, ObjectNotFound
from orchestrator.training.ledger import Ledger
from orchestrator.training.lineage_checks import (
    Checked,
    Problem,
    changes,
    check,
    check_join,
    references_of,
)
from orchestrator.training.lineage_log import (
    Evaluated,
    OrderTaken,
    Recorded,
    RunName,
    TrainingLog,
    owner_of,
)
from orchestrator.training.work import CheckpointRef

#: Longer than any run: a year of checkpoints every ten seconds.
LINKS_MAX = 4_000_000


class Histories(Protocol):
    """Where the histories of other runs are."""

    def find(self, name: RunName) -> TrainingLog | None:
        """Return what a run's history says; None if it is gone, or no training's."""


#: Opens the checkpoints of a storage at a store's address.
OpenAt: TypeAlias = Callable[[str, str], CheckpointStore]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One checkpoint on the way, and what was seen of it."""

    storage: str
    ref: CheckpointRef
    recorded: Recorded | None
    checked: Checked
    #: How code, data, hyperparameters, seed and environment differ from the parent's, in words.
    changes: tuple[str, ...] = ()
    #: Orders of persons that took effect between the parent and it.
    orders: tuple[OrderTaken, ...] = ()
    #: It is the last of an earlier stage, from which the one after it in the walk began.
    ends_stage: bool = False


class Look(Protocol):
    """Is shown every link on the way, with the batches that lead to its root if they do."""

    def see(self, link: Link, ledger: Ledger | None, stored: bytes | None) -> None:
        """Take one link; the model's is the first."""


@dataclass(slots=True, kw_only=True)
class Lineage:
    """What a walk found; from the model to the seed."""

    run: TrainingLog
    links: list[Link] = field(default_factory=list)
    runs: list[TrainingLog] = field(default_factory=list)
    stores: dict[str, str] = field(default_factory=dict)
    evaluated: Evaluated | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seed: int | None = None
    #: Whether the first checkpoint was reached.
    is_complete: bool = False

    def __bool__(self) -> bool:
        """Return whether everything from the model to the seed was there, and held."""
        return self.is_complete and not self.problems


def trace(
    log: TrainingLog,
    histories: Histories,
    open_at: OpenAt,
    *,
    begin: str | None = None,
    look: Look | None = None,
) -> Lineage:
    """Return what the walk from the model of a run to its seed found.

    Args:
        log: What the run's history says.
        histories: For the runs that it began from.
        open_at: Opens a store; is given its address and the name of the storage in it.
        begin: Digest of the manifest to walk from, or its beginning; None for the model's, or, in
            a run that has none yet, the newest.
        look: See there.

    Raises:
        NotProvable: There is no such checkpoint.
        ObjectStoreUnavailable: No answer; nothing is known.
    """
    walk = _Walk(log, histories, open_at, look)
    return walk.walk(walk.begin(begin))


class _Walk:
    """One walk."""

    def __init__(
        self, log: TrainingLog, histories: Histories, open_at: OpenAt, look: Look | None
    ) -> None:
        self.found = Lineage(run=log)
        self._histories = histories
        self._open_at = open_at
        self._look = look
        self._known: dict[RunName, TrainingLog | None] = {}
        self._stores: dict[str, CheckpointStore] = {}
        self._listed: dict[str, dict[str, CheckpointRef]] = {}
        self._enter(log)

    def begin(self, begin: str | None) -> CheckpointRef:
        """Return the checkpoint to walk from; see `trace`.

        Raises:
            NotProvable: See there.
        """
        log = self.found.run
        known = {name: ref for one in self._chain(log) for name, ref in one.refs.items()}
        if begin is not None:
            found = [ref for digest, ref in known.items() if digest.startswith(begin)]
            if len(found) == 1:
                return found[0]
            how_many = "no checkpoint" if not found else f"{len(found)} checkpoints"
            raise NotProvable(f"the lineage of {begin}", f"{how_many} of {log.name} begins so")
        if log.evaluated is not None and log.evaluated.manifest_sha256 in known:
            return known[log.evaluated.manifest_sha256]
        newest = next((one.newest for one in self._chain(log) if one.newest is not None), None)
        if newest is None:
            raise NotProvable(f"the lineage of {log.name}", "it has no checkpoint yet")
        return newest

    def walk(self, ref: CheckpointRef) -> Lineage:
        """Walk from `ref`."""
        found, log = self.found, self.found.run
        storage: str = log.storage
        child: Link | None = None
        for link in self._links(log, storage, ref):
            if child is not None:
                self._join(child, link)
            child = link
        if child is not None:
            self._finish(child, None, changed=())
            self._arrive(child)
        self._check_model(ref)
        return found

    def _links(self, log: TrainingLog, storage: str, ref: CheckpointRef) -> Iterator[Link]:
        """Yield the checkpoints from `ref` on, until there is none before or none is known."""
        ends_stage = False
        for _ in range(LINKS_MAX):
            link = self._link(log, storage, ref, ends_stage=ends_stage)
            yield link
            manifest = link.checked.manifest
            parent = manifest.parent if manifest else ref.parent
            ends_stage = False
            if parent is None:
                before = self._stage_before(link, log)
                if before is None:
                    return
                log, storage, ref = before
                ends_stage = True
                continue
            known = self._ref_of(parent, log, storage)
            if known is None:
                self._missing(f"checkpoint {parent[:12]}… of {storage}", "no history or store")
                return
            ref = known
        raise AssertionError(f"more than {LINKS_MAX} checkpoints: {self.found.run.name}")

    def _link(
        self, log: TrainingLog, storage: str, ref: CheckpointRef, *, ends_stage: bool
    ) -> Link:
        recorded = self._recorded(ref.manifest_sha256, log, storage)
        counts = (one.steps_per_epoch for one in self._logs(log, storage))
        steps = next((count for count in counts if count is not None), None)
        checked = check(self._store(log, storage), ref, recorded, steps)
        return Link(
            storage=storage,
            ref=ref,
            recorded=recorded,
            checked=checked,
            ends_stage=ends_stage,
        )

    def _join(self, child: Link, parent: Link) -> None:
        changed: tuple[str, ...]
        if parent.ends_stage:
            changed = (f"begins from the state that {parent.storage} ended with",)
        else:
            changed = changes(parent.checked.manifest, child.checked.manifest)
            self.found.problems += check_join(parent.checked, child.checked, child.ref)
        self._finish(child, None if parent.ends_stage else parent, changed)

    def _finish(self, link: Link, parent: Link | None, changed: tuple[str, ...]) -> None:
        """Enter a link whose parent is known, and show it to whoever looks."""
        checked = link.checked
        full = Link(
            storage=link.storage,
            ref=link.ref,
            recorded=link.recorded,
            checked=checked.without_bytes(),
            changes=changed,
            orders=tuple(self._orders_between(parent, link)) if parent else (),
            ends_stage=link.ends_stage,
        )
        self.found.links.append(full)
        self.found.problems += checked.problems
        if self._look is not None:
            self._look.see(full, checked.ledger, checked.stored)

    def _arrive(self, first: Link) -> None:
        manifest = first.checked.manifest
        if manifest is None or manifest.parent is not None or first.ref.parent is not None:
            return
        seed = manifest.cursor.get("seed")
        self.found.seed = seed if isinstance(seed, int) else None
        self.found.is_complete = not manifest.data.get("inherits")

    # --- histories -------------------------------------------------------------------------------

    def _enter(self, log: TrainingLog) -> None:
        self._known[log.name] = log
        self.found.runs.append(log)
        if log.chain.broken:
            self.found.problems.append(
                Problem(f"the history of {log.name}", log.chain.broken, "an unbroken hash chain")
            )

    def _log(self, name: RunName | None) -> TrainingLog | None:
        if name is None:
            return None
        if name not in self._known:
            found = self._known[name] = self._histories.find(name)
            if found is not None:
                self._enter(found)
        return self._known[name]

    def _logs(self, log: TrainingLog, storage: str) -> Iterator[TrainingLog]:
        """Yield the histories of those who saved in a storage, nearest first, read when asked for.

        A run, those it goes on from and as, and those whose fork it is; at last its owner's.
        """
        seen = {log.name}
        waiting: deque[RunName] = deque()
        one: TrainingLog | None = log
        while one is not None or waiting:
            if one is not None and one.storage == storage:
                yield one
                kin = (one.continued_from, one.parent, owner_of(storage), one.continued_by)
                waiting += [name for name in kin if name is not None and name not in seen]
                seen |= {*waiting}
            one = self._log(waiting.popleft()) if waiting else None

    def _chain(self, log: TrainingLog) -> Iterator[TrainingLog]:
        """Yield a run and those that it goes on from, as far back as they are there."""
        one: TrainingLog | None = log
        while one is not None:
            yield one
            one = self._log(one.continued_from)

    def _recorded(self, digest: str, log: TrainingLog, storage: str) -> Recorded | None:
        for one in self._logs(log, storage):
            if digest in one.recorded:
                return one.recorded[digest]
        gone = [name for name in self._needed(log, storage) if self._log(name) is None]
        for name in gone:
            self._note(f"the history of {name} is not there: digests alone lead through {storage}")
        if not gone:
            self._missing(f"checkpoint {digest[:12]}… of {storage}", "no event of a history")
        return None

    def _needed(self, log: TrainingLog, storage: str) -> list[RunName]:
        """Return the runs without whose histories nobody knows all that was saved in a storage."""
        names = [owner_of(storage)]
        for one in self._logs(log, storage):
            names += [one.continued_from, one.continued_by]
        return list(dict.fromkeys(name for name in names if name is not None))

    def _ref_of(self, digest: str, log: TrainingLog, storage: str) -> CheckpointRef | None:
        for one in self._logs(log, storage):
            if digest in one.refs:
                return one.refs[digest]
        if storage not in self._listed:
            self._listed[storage] = references_of(self._store(log, storage))
        return self._listed[storage].get(digest)

    def _stage_before(
        self, link: Link, log: TrainingLog
    ) -> tuple[TrainingLog, str, CheckpointRef] | None:
        """Return the last checkpoint of the stage that a first one began from, and whose it is."""
        manifest = link.checked.manifest
        digest = manifest.data.get("inherits") if manifest else None
        inherits = log.inherits
        if not isinstance(digest, str):
            return None
        if inherits is None or inherits.manifest_sha256 != digest:
            said = inherits.manifest_sha256[:12] if inherits else "none"
            self._missing(f"the stage that ended with {digest[:12]}…", f"{said} in the history")
            return None
        before = self._log(owner_of(inherits.run))
        store = log.store
        log = before or TrainingLog(name=log.name, chain=log.chain, store=store)
        found = self._ref_of(digest, log, inherits.run)
        if found is None:
            self._missing(f"checkpoint {digest[:12]}… of {inherits.run}", "no history or store")
            return None
        return log, inherits.run, found

    def _orders_between(self, parent: Link, link: Link) -> Iterator[OrderTaken]:
        name = link.recorded.run if link.recorded else None
        log = self._known.get(name) if name is not None else None
        for order in log.orders if log is not None else ():
            if order.at is None or order.branch != link.ref.branch:
                continue
            if parent.ref.cursor <= order.at < link.ref.cursor:
                yield order

    # --- the model -------------------------------------------------------------------------------

    def _check_model(self, ref: CheckpointRef) -> None:
        log, found = self.found.run, self.found
        evaluated = log.evaluated
        if evaluated is None or evaluated.manifest_sha256 != ref.manifest_sha256:
            return
        found.evaluated = evaluated
        manifest = found.links[0].checked.manifest if found.links else None
        model = manifest.blobs.get("model") if manifest else None
        if model is not None and model.sha256 != evaluated.model_sha256:
            subject = f"the model that event {evaluated.seq} of {log.name} evaluated"
            found.problems.append(Problem(subject, evaluated.model_sha256, model.sha256))
        if log.registered is not None:
            self._check_registry(log.registered, evaluated)

    def _check_registry(self, key: str, evaluated: Evaluated) -> None:
        """Hold the registry's entry against what was evaluated."""
        wanted = (evaluated.manifest_sha256, evaluated.model_sha256)
        try:
            card = json.loads(self._store(self.found.run, self.found.run.storage).objects.read(key))
            found = (card["manifest_sha256"], card["model_sha256"])
        except (ObjectNotFound, ValueError, KeyError, TypeError) as error:
            self.found.problems.append(Problem(f"the registry's {key}", str(error), str(wanted)))
            return
        if found != wanted:
            self.found.problems.append(Problem(f"the registry's {key}", str(found), str(wanted)))

    # --- stores ----------------------------------------------------------------------------------

    def _store(self, log: TrainingLog, storage: str) -> CheckpointStore:
        if storage not in self._stores:
            self._stores[storage] = self._open_at(log.store, storage)
            self.found.stores[storage] = log.store
        return self._stores[storage]

    def _note(self, text: str) -> None:
        if text not in self.found.notes:
            self.found.notes.append(text)

    def _missing(self, subject: str, found: str) -> None:
        self.found.problems.append(Problem(subject, found, "one that names it"))
