"""Deletes what a plan gives up, in an order in which no crash leaves a checkpoint half there.

G1  A manifest goes first, then, a day after, the bytes that no manifest names.  So what can be
    found is whole, at every moment and wherever it breaks off; what is left over, the next
    collection takes.
G2  A collected checkpoint's manifest moves to the archive, and with it stays the ledger of its
    samples: the chain of evidence outlives the weights.
G3  Where a manifest cannot be read, nobody knows what it names: then no bytes are deleted.
G4  Only the version that was looked at is deleted.  What is saved again meanwhile stays.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.training import layout
from orchestrator.training.checkpoints import CheckpointStore, Found
from orchestrator.training.errors import BadCheckpoint, ObjectChanged, ObjectNotFound
from orchestrator.training.objects import Stat, put_whole
from orchestrator.training.retention import (
    FORGOTTEN_AFTER_MS,
    VERIFIED_KEPT,
    YOUNG_MS,
    Candidate,
    Plan,
    Policy,
    plan,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What went, or with `preview` would go, and what stays why."""

    manifests: tuple[str, ...]
    blobs: tuple[str, ...]
    blob_bytes: int
    keep: Mapping[str, tuple[str, ...]]
    #: In words: what was not touched although the plan or its age would allow it.
    skipped: tuple[str, ...] = ()
    preview: bool = False


def make_plan(
    store: CheckpointStore,
    policies: Sequence[Policy],
    *,
    referenced: Mapping[str, str],
    is_own: Callable[[str], bool] = lambda branch: True,
) -> Plan:
    """Return a plan of what is in the store now; the newest of each branch are verified for it.

    `is_own` tells, by its name, a branch of the run whose plan it is from one of a run that shares
    the storage.

    Raises:
        UnsafePlan: See `retention.plan`.
    """
    found, _ = store.list_manifests()
    own = [candidate_of(one) for one in found if is_own(one.manifest.branch)]
    others = [candidate_of(one) for one in found if not is_own(one.manifest.branch)]
    return plan(
        own,
        policies,
        verified=newest_verified(store, own),
        referenced=referenced,
        now_ms=store.objects.now_ms(),
        others=others,
    )


def candidate_of(found: Found) -> Candidate:
    """Return what retention decides by."""
    return Candidate(
        manifest_sha256=found.manifest_sha256,
        key=found.key,
        branch=found.manifest.branch,
        step=found.manifest.step,
        parent=found.manifest.parent,
        modified_at_ms=found.modified_at_ms,
        metrics=found.manifest.metrics,
    )


def newest_verified(store: CheckpointStore, checkpoints: Sequence[Candidate]) -> frozenset[str]:
    """Return the newest of each branch that load, as many as safety keeps; reads them whole."""
    good: set[str] = set()
    missing: dict[str, int] = {}
    newest_first = sorted(checkpoints, key=lambda c: (c.step, c.modified_at_ms), reverse=True)
    for one in newest_first:
        if missing.setdefault(one.branch, VERIFIED_KEPT) == 0:
            continue
        try:
            store.load(one.manifest_sha256, one.key)
        except BadCheckpoint:
            continue
        good.add(one.manifest_sha256)
        missing[one.branch] -= 1
    return frozenset(good)


def collect(store: CheckpointStore, plan: Plan, *, preview: bool) -> Collected:
    """Carry out a plan and sweep what nothing names; with `preview` only say what would go.

    Safe to break off and to repeat.

    Raises:
        ObjectStoreUnavailable: No answer; what was deleted until then stays deleted.
    """
    return _Collection(store, plan, preview=preview).run()


class _Collection:
    """One collection."""

    def __init__(self, store: CheckpointStore, plan: Plan, *, preview: bool) -> None:
        self._store = store
        self._objects = store.objects
        self._plan = plan
        self._preview = preview
        self._now_ms = store.objects.now_ms()
        self._skipped: list[str] = []

    def run(self) -> Collected:
        """Delete manifests, then bytes."""
        gone = tuple(one.key for one in self._plan.delete if self._delete_manifest(one))
        blobs = self._sweep(frozenset(gone) if self._preview else frozenset())
        if not self._preview:
            self._objects.tidy(self._now_ms - YOUNG_MS)
        return Collected(
            manifests=gone,
            blobs=tuple(blobs),
            blob_bytes=sum(blobs.values()),
            keep=self._plan.keep,
            skipped=tuple(self._skipped),
            preview=self._preview,
        )

    def _delete_manifest(self, one: Candidate) -> bool:
        """Archive and delete one manifest (G2); return whether it is, or would be, gone."""
        try:
            stat = self._objects.stat(one.key)
            self._store.manifest(one.manifest_sha256, one.key)
        except (BadCheckpoint, ObjectNotFound):
            return self._skip(one.key, "gone, or another one by now")
        if self._now_ms - stat.modified_at_ms < YOUNG_MS:
            return self._skip(one.key, "saved again since the plan was made")
        if self._preview:
            return True
        data = self._objects.read(one.key)
        return self._move(one.key, data, stat)

    def _move(self, key: str, data: bytes, stat: Stat) -> bool:
        archived = layout.archived(key)
        quarantine = layout.quarantine(self._store.run, archived)
        put_whole(self._objects, archived, data, hashlib.sha256(data).hexdigest(), quarantine)
        try:
            self._objects.delete(key, expected=stat.version)
        except ObjectChanged:
            return self._skip(key, "saved again at this moment")
        return True

    def _sweep(self, would_be_gone: frozenset[str]) -> dict[str, int]:
        """Delete bytes that nothing names (G1, G3); return their keys and sizes."""
        named = self._named(would_be_gone)
        if named is None:
            return {}
        swept: dict[str, int] = {}
        for listed in list(self._objects.list(layout.blobs(self._store.run))):
            if listed.key.rpartition("/")[2] in named or not self._is_forgotten(
                listed.modified_at_ms
            ):
                continue
            if self._preview or self._delete_blob(listed.key):
                swept[listed.key] = listed.bytes
        return swept

    def _delete_blob(self, key: str) -> bool:
        try:
            # Looked at again, as late as can be: whoever relies on it has made it young.
            stat = self._objects.stat(key)
            if not self._is_forgotten(stat.modified_at_ms):
                return False
            self._objects.delete(key, expected=stat.version)
        except (ObjectChanged, ObjectNotFound):
            return self._skip(key, "written again at this moment")
        return True

    def _is_forgotten(self, modified_at_ms: int) -> bool:
        return self._now_ms - modified_at_ms > FORGOTTEN_AFTER_MS

    def _named(self, would_be_gone: frozenset[str]) -> frozenset[str] | None:
        """Return the digests of all bytes that are needed; None if that cannot be known."""
        live, unreadable = self._store.list_manifests()
        archived, unreadable_archived = self._store.list_archived()
        for bad in (*unreadable, *unreadable_archived):
            self._skip(bad.key, f"unreadable, so no bytes are deleted: {bad.reason}")
        if unreadable or unreadable_archived:
            return None
        stay = [one for one in live if one.key not in would_be_gone]
        go = [one for one in live if one.key in would_be_gone]
        named = [one.manifest.references for one in stay]
        named += [one.manifest.evidence for one in (*archived, *go)]
        return frozenset().union(*named)

    def _skip(self, key: str, why: str) -> bool:
        self._skipped.append(f"{key}: {why}")
        return False
