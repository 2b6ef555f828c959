"""What is verified of one checkpoint, and of the way from its parent to it.

LC1  The manifest is the one of the recorded digest; what it says of parent, place, data, root,
     orders and environment is what the history says.
LC2  Every part of the state is the bytes of its digest; of a collected checkpoint, which has none
     any more, the manifest in the archive counts.
LC3  The ledger's batches lead to the recorded root, and are those of every step since the parent,
     none twice and none left out: else "was not used" would mean nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from orchestrator.core.values import Json
from orchestrator.training import layout
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.environment import Environment, differences
from orchestrator.training.errors import (
    BadCheckpoint,
    BadRecord,
    EvidenceRefused,
    ObjectNotFound,
)
from orchestrator.training.evidence import Committed, verify_ledger
from orchestrator.training.ledger import Ledger
from orchestrator.training.lineage_log import Recorded
from orchestrator.training.manifest import Facts, Manifest
from orchestrator.training.publishing import key_of
from orchestrator.training.trainer import Cursor
from orchestrator.training.work import CheckpointRef


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not hold."""

    subject: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.subject}: found {self.found}; wanted {self.wanted}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was seen of a checkpoint; `verified` says in words what held."""

    manifest: Manifest | None = None
    is_collected: bool = False
    ledger: Ledger | None = None
    #: The ledger as it is stored.
    stored: bytes | None = None
    verified: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def without_bytes(self) -> "Checked":
        """Return it without the batches, which are large."""
        return replace(self, ledger=None, stored=None)


class _Notebook:
    """What held and what did not, of one checkpoint."""

    def __init__(self, ref: CheckpointRef) -> None:
        self._subject = f"checkpoint {ref.manifest_sha256[:12]}… ({ref.key})"
        self.verified: list[str] = []
        self.problems: list[Problem] = []

    def bad(self, what: str, found: object, wanted: object) -> None:
        subject = f"{what} of {self._subject}" if what else self._subject
        self.problems.append(Problem(subject, str(found), str(wanted)))

    def compare(self, pairs: Mapping[str, tuple[object, object]]) -> None:
        for what, (found, wanted) in pairs.items():
            if found != wanted:
                self.bad(what, found, wanted)


def check(
    store: CheckpointStore, ref: CheckpointRef, recorded: Recorded | None, per_epoch: int | None
) -> Checked:
    """Return what can be seen of a checkpoint; `per_epoch` is how many steps an epoch has.

    Raises:
        ObjectStoreUnavailable: No answer; nothing is known.
    """
    book = _Notebook(ref)
    manifest, is_collected = _manifest(store, ref, recorded, book)
    if manifest is None:
        return Checked(problems=tuple(book.problems))
    book.verified.append("manifest, collected" if is_collected else "manifest")
    before = len(book.problems)
    book.compare(_against_reference(manifest, ref))
    if recorded is not None:
        book.compare(_against_history(manifest, recorded))
        if len(book.problems) == before:
            book.verified.append(f"event {recorded.seq} of {recorded.run}")
    if not is_collected:
        _check_parts(store, manifest, book)
    ledger, stored = _ledger(store, manifest, per_epoch, book)
    return Checked(
        manifest=manifest,
        is_collected=is_collected,
        ledger=ledger,
        stored=stored,
        verified=tuple(book.verified),
        problems=tuple(book.problems),
    )


def check_join(parent: Checked, child: Checked, ref: CheckpointRef) -> list[Problem]:
    """Return what does not fit where a checkpoint follows its parent (LC3)."""
    book = _Notebook(ref)
    before, after = parent.manifest, child.manifest
    if before is None or after is None:
        return []
    batches = _count(after.data.get("batches"))
    book.compare(
        {
            "steps since the parent": (after.step - before.step, batches),
            "data": (after.data.get("dataset"), before.data.get("dataset")),
            "run": (after.run, before.run),
        }
    )
    places = [batch.place for batch in child.ledger] if child.ledger is not None else []
    if places and places[0] != (before.epoch, before.chunk):
        book.bad("the first batch", _place(places[0]), f"epoch {before.epoch} step {before.chunk}")
    return book.problems


def changes(parent: Manifest | None, child: Manifest | None) -> tuple[str, ...]:
    """Return in words how a checkpoint's fingerprints and orders differ from its parent's."""
    if parent is None or child is None:
        return ()
    return tuple(_changes(parent, child))


def _changes(parent: Manifest, child: Manifest) -> Iterator[str]:
    if parent.branch != child.branch:
        yield f"branch {child.branch} leaves {parent.branch}"
    if parent.cursor.get("seed") != child.cursor.get("seed"):
        yield f"seed {parent.cursor.get('seed')} → {child.cursor.get('seed')}"
    yield from _differing(parent.hparams, child.hparams, "")
    yield from _differing(parent.code, child.code, "code ")
    if parent.data.get("dataset") != child.data.get("dataset"):
        yield f"data {_short(parent.data.get('dataset'))} → {_short(child.data.get('dataset'))}"
    if parent.rng.get("probe") != child.rng.get("probe"):
        yield "the generators draw other numbers for the same keys"
    if parent.env != child.env:
        try:
            there, here = Environment.from_json(parent.env), Environment.from_json(child.env)
            yield from (f"environment: {words}" for words in differences(there, here))
        except BadRecord as error:
            yield f"environment: {error}"


def _differing(before: Facts, after: Facts, prefix: str) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was != now:
            yield f"{prefix}{name} {_short(was)} → {_short(now)}"


def _manifest(
    store: CheckpointStore, ref: CheckpointRef, recorded: Recorded | None, book: _Notebook
) -> tuple[Manifest | None, bool]:
    """Return the manifest and whether only the archive has it; none of another digest."""
    where = f"event {recorded.seq} of {recorded.run}" if recorded else "its successor"
    try:
        return store.manifest(ref.manifest_sha256, ref.key), False
    except BadCheckpoint as error:
        reason = error.reason
    try:
        store.objects.stat(ref.key)
    except ObjectNotFound:
        try:
            return store.manifest_for_lineage(ref.manifest_sha256, ref.key), True
        except BadCheckpoint as error:
            # The archive's reason, unless it has none either.
            archived = error.reason
            reason = archived if _is_there(store, layout.archived(ref.key)) else reason
    book.bad("", reason, f"the manifest that {where} names")
    return None, False


def _is_there(store: CheckpointStore, key: str) -> bool:
    try:
        store.objects.stat(key)
    except ObjectNotFound:
        return False
    return True


def _against_reference(
    manifest: Manifest, ref: CheckpointRef
) -> Mapping[str, tuple[object, object]]:
    place = Cursor(manifest.epoch, manifest.chunk)
    return {
        "the place": (str(place), str(ref.cursor)),
        "the branch": (manifest.branch, ref.branch),
        "the kind": (manifest.kind, ref.kind),
        "the parent": (manifest.parent, ref.parent),
    }


def _against_history(manifest: Manifest, recorded: Recorded) -> Mapping[str, tuple[object, object]]:
    result, data = recorded.result, manifest.data
    pairs: dict[str, tuple[object, object]] = {
        "the data": (data.get("dataset"), result.dataset_fingerprint),
        "the trainer's version": (manifest.code.get("version"), result.trainer_version),
        "the environment": (manifest.env.get("class"), result.environment_class),
        "the generators": (manifest.rng.get("probe"), result.rng_probe),
        "the seed in force": (manifest.cursor.get("seed"), recorded.order.seed),
        "the hyperparameters in force": (
            dict(manifest.hparams),
            dict(recorded.order.hparams),
        ),
    }
    if recorded.is_last:
        pairs |= {
            "the Merkle root": (data.get("merkle"), result.merkle_root),
            "the ledger": (data.get("ledger"), result.ledger),
            "the number of batches": (data.get("batches"), result.batches),
        }
    return pairs


def _check_parts(store: CheckpointStore, manifest: Manifest, book: _Notebook) -> None:
    read = 0
    for name, blob in manifest.blobs.items():
        try:
            read += len(store.read_blob(blob.sha256))
        except BadCheckpoint as error:
            book.bad(f"part {name!r}", f"{error.reason} ({error.key})", f"sha256 {blob.sha256}")
            return
    book.verified.append(f"{len(manifest.blobs)} parts, {read} bytes")


def _ledger(
    store: CheckpointStore, manifest: Manifest, per_epoch: int | None, book: _Notebook
) -> tuple[Ledger | None, bytes | None]:
    """Return the batches, if they lead to the root and leave no step out."""
    data = manifest.data
    digest, root, batches = data.get("ledger"), data.get("merkle"), _count(data.get("batches"))
    if not isinstance(digest, str) or not isinstance(root, str):
        book.bad("the ledger", "none", "the digests of a ledger and of its root")
        return None, None
    try:
        stored = store.read_blob(digest)
        ledger = verify_ledger(stored, Committed(root=root, batches=batches))
    except BadCheckpoint as error:
        book.bad("the ledger", f"{error.reason} ({error.key})", f"sha256 {digest}")
        return None, None
    except EvidenceRefused as error:
        book.bad("the ledger", error.found, error.wanted)
        return None, None
    places = [batch.place for batch in ledger]
    ends = [*places[1:], (manifest.epoch, manifest.chunk)] if places else []
    for place, following in zip(places, ends, strict=True):
        if following not in _after(place, per_epoch):
            book.bad("the ledger", f"{_place(following)} after {_place(place)}", "every step")
            return None, None
    book.verified.append(f"{batches} batches under their root")
    return ledger, stored


def _after(place: tuple[int, int], per_epoch: int | None) -> tuple[tuple[int, int], ...]:
    """Return where the step after one may be: either, where the length of epochs is not known."""
    epoch, step = place
    in_epoch, next_epoch = (epoch, step + 1), (epoch + 1, 0)
    if per_epoch is None:
        return (in_epoch, next_epoch)
    return (in_epoch,) if step + 1 < per_epoch else (next_epoch,)


def _place(place: tuple[int, int]) -> str:
    return f"epoch {place[0]} step {place[1]}"


def _count(value: Json) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _short(value: Json) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) > 24 else text


def references_of(store: CheckpointStore) -> dict[str, CheckpointRef]:
    """Return the references to all checkpoints of a storage, collected ones too, by digest."""
    everything = (*store.list_archived()[0], *store.list_manifests()[0])
    return {
        one.manifest_sha256: reference_to(one.manifest, one.manifest_sha256) for one in everything
    }


def reference_to(manifest: Manifest, digest: str) -> CheckpointRef:
    """Return the reference that a chunk's result would have held."""
    return CheckpointRef(
        key=key_of(manifest),
        manifest_sha256=digest,
        branch=manifest.branch,
        cursor=Cursor(manifest.epoch, manifest.chunk),
        kind=manifest.kind,
        parent=manifest.parent,
    )
