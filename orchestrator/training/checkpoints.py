"""Saves states of a run so that none is ever half there, and loads them so that none is believed.

K1  Two phases: bytes first, under their digests; then the manifest, under the name of its work.  A
    manifest that can be read has everything it names.
K2  Saving again is free of harm: the same work, the same bytes, the same manifest, however many do
    it at once.  Other bits for the same work are `NonDeterminismError`; what was first stays.
K3  "It is there" is not "it is good".  What is met under a key is compared; if it is damaged it is
    set aside and written anew, so that saving again mends.
K4  Loading compares everything with the digest that the caller knows, and raises `BadCheckpoint`
    for whatever does not fit.  A store that does not answer is no bad checkpoint.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from orchestrator.training import layout
from orchestrator.training.errors import BadCheckpoint, ObjectNotFound
from orchestrator.training.manifest import Blob, Description, Manifest, encode, manifest_of
from orchestrator.training.objects import Hook, ObjectStore, no_hook
from orchestrator.training.objects_memory import MemoryObjects
from orchestrator.training.publishing import Publisher, Written, key_of, read_manifest
from orchestrator.training.state import META, State
from orchestrator.training.tensors import Data

#: Parts of one checkpoint that are written at once.
THREADS_MAX = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint that is in the store; `seconds` are measured, all else repeats."""

    manifest_sha256: str
    key: str
    state_sha256: str
    #: Of the state and the manifest, and what of it this save wrote.
    state_bytes: int
    bytes: int
    #: Keys under which something damaged was found, and mended.
    mended: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A checkpoint that is what it was saved as."""

    manifest: Manifest
    manifest_sha256: str
    key: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A checkpoint that cannot be continued, and why; `step` is None where that is not told."""

    key: str
    manifest_sha256: str | None
    step: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A manifest in the store; whether its bytes are good is not said."""

    manifest: Manifest
    manifest_sha256: str
    key: str
    modified_at_ms: int


class CheckpointStore:
    """The checkpoints of one run.  For any number of threads, processes and machines.

    Args:
        objects: Where they are kept; this process's memory by default.
        run: The run's id.
        hook: Called before and after each write, with its name: "before blob model", "after blob
            model", … "before manifest", "after manifest".
    """

    def __init__(
        self, objects: ObjectStore | None = None, run: str = "run-1", *, hook: Hook = no_hook
    ) -> None:
        self.objects: ObjectStore = objects if objects is not None else MemoryObjects()
        self.run = run
        self._hook = hook
        self._publisher = Publisher(self.objects, run)

    def save(self, state: State, description: Description, beside: Sequence[Data] = ()) -> Saved:
        """Save a state, and other bytes that its description names.  Safe to repeat (K2).

        Args:
            state: What to save.
            description: What to say of it.
            beside: Bytes to store as `put_blob` does, at once with the state's.

        Raises:
            NonDeterminismError: This work was saved before, with other bits.
            TrainerMisbehaved: The state or the description cannot be written.
            ObjectStoreUnavailable: No answer; do it again.
        """
        return self.publish(state.encode(), description, beside)

    def publish(
        self, encoded: Mapping[str, Data], description: Description, beside: Sequence[Data] = ()
    ) -> Saved:
        """Save a state that is encoded already; see `save`."""
        began = time.perf_counter()
        written = Written()
        # At once: what takes long is waiting for a disk or a network, and those take several.
        parts: list[tuple[str, Data]] = [*encoded.items(), *(("beside", data) for data in beside)]
        with ThreadPoolExecutor(min(len(parts), THREADS_MAX), "checkpoint-blob") as pool:
            stored_as = list(pool.map(lambda part: self._store(part[0], part[1], written), parts))
        blobs = {
            name: Blob(
                sha256=sha256, bytes=len(data), format="json" if name == META else "safetensors"
            )
            for (name, data), sha256 in zip(encoded.items(), stored_as, strict=False)
        }
        stored = time.perf_counter()
        manifest = manifest_of(self.run, description, blobs)
        data, manifest_sha256 = encode(manifest)
        self._hook("before manifest")
        self._publisher.publish(manifest, data, written)
        self._hook("after manifest")
        return Saved(
            manifest_sha256=manifest_sha256,
            key=key_of(manifest),
            state_sha256=manifest.state_sha256,
            state_bytes=len(data) + sum(blob.bytes for blob in blobs.values()),
            bytes=written.bytes,
            mended=tuple(sorted(written.mended)),
            seconds={"blobs": stored - began, "manifest": time.perf_counter() - stored},
        )

    def load(self, manifest_sha256: str, key: str) -> Loaded:
        """Return the checkpoint that was committed under this digest and key (K4).

        Raises:
            BadCheckpoint: It is not what was committed, or not there.
            ObjectStoreUnavailable: No answer; nothing is known.
        """
        manifest = self.manifest(manifest_sha256, key)
        parts = {name: self._part(key, name, blob) for name, blob in manifest.blobs.items()}
        try:
            state = State.decode(parts)
        except ValueError as error:
            raise BadCheckpoint(key, f"unreadable although unchanged: {error}") from error
        return Loaded(manifest=manifest, manifest_sha256=manifest_sha256, key=key, state=state)

    def manifest(self, manifest_sha256: str, key: str) -> Manifest:
        """Return a manifest that is what was committed; its bytes are not looked at.

        Raises:
            BadCheckpoint: It is not.
        """
        manifest, found = read_manifest(self.objects, self.run, key)
        return self._checked(manifest, found, key, manifest_sha256)

    def manifest_for_lineage(self, manifest_sha256: str, key: str) -> Manifest:
        """Return a manifest that is what was committed, even if its checkpoint was collected.

        Raises:
            BadCheckpoint: It is not.
        """
        try:
            return self.manifest(manifest_sha256, key)
        except BadCheckpoint:
            archived = layout.archived(key)
            manifest, found = read_manifest(self.objects, self.run, key, at=archived)
            return self._checked(manifest, found, archived, manifest_sha256)

    @staticmethod
    def _checked(manifest: Manifest, found: str, key: str, manifest_sha256: str) -> Manifest:
        if found != manifest_sha256:
            raise BadCheckpoint(key, f"its manifest is {found[:12]}…, not {manifest_sha256[:12]}…")
        return manifest

    def newest_good(
        self, candidates: Sequence[tuple[str, str]]
    ) -> tuple[Loaded | None, list[Rejected]]:
        """Return the first of (manifest_sha256, key) that loads, and those before it that do not.

        Raises:
            ObjectStoreUnavailable: No answer; nothing is known.
        """
        rejected: list[Rejected] = []
        for manifest_sha256, key in candidates:
            try:
                return self.load(manifest_sha256, key), rejected
            except BadCheckpoint as error:
                rejected.append(_rejected(key, manifest_sha256, error.reason))
        return None, rejected

    def list_manifests(self) -> tuple[list[Found], list[Rejected]]:
        """Return all manifests of the run by branch and step, and those that cannot be read.

        For when no log says what was committed.  What is found was saved whole, possibly by a
        worker whose chunk was never reported.
        """
        return self._listed(layout.manifests(self.run))

    def list_archived(self) -> tuple[list[Found], list[Rejected]]:
        """Return the manifests of checkpoints that were collected, and those unreadable."""
        return self._listed(layout.archive(self.run))

    def _listed(self, prefix: str) -> tuple[list[Found], list[Rejected]]:
        found: list[Found] = []
        rejected: list[Rejected] = []
        for listed in self.objects.list(prefix):
            try:
                manifest, sha256 = read_manifest(
                    self.objects, self.run, layout.live(listed.key), at=listed.key
                )
            except BadCheckpoint as error:
                rejected.append(_rejected(listed.key, None, error.reason))
                continue
            at = listed.modified_at_ms
            found.append(
                Found(manifest=manifest, manifest_sha256=sha256, key=listed.key, modified_at_ms=at)
            )
        return sorted(found, key=lambda f: (f.manifest.branch, f.manifest.step)), rejected

    def put_blob(self, data: Data) -> str:
        """Store bytes beside the checkpoints, and return their digest.  Safe to repeat.

        They stay for a day, and then as long as a manifest names them (`Manifest.references`).
        """
        return self._store("beside", data, Written())

    @staticmethod
    def digest_of_blob(data: Data) -> str:
        """Return what `put_blob` would return, without storing anything."""
        return hashlib.sha256(data).hexdigest()

    def read_blob(self, sha256: str) -> bytes:
        """Return the bytes of this digest.

        Raises:
            BadCheckpoint: They are not there, or not what they were.
        """
        key = layout.blob(self.run, sha256)
        try:
            data = self.objects.read(key)
        except ObjectNotFound as error:
            raise BadCheckpoint(key, "missing") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BadCheckpoint(key, f"its {len(data)} bytes are not what was written")
        return data

    def _store(self, name: str, data: Data, written: Written) -> str:
        self._hook(f"before blob {name}")
        sha256 = self._publisher.put(data, written)
        self._hook(f"after blob {name}")
        return sha256

    def _part(self, key: str, name: str, blob: Blob) -> bytes:
        try:
            data = self.read_blob(blob.sha256)
        except BadCheckpoint as error:
            raise BadCheckpoint(key, f"part {name!r} ({error.key}): {error.reason}") from error
        return data


def _rejected(key: str, manifest_sha256: str | None, reason: str) -> Rejected:
    try:
        step = layout.step_of(key)
    except BadCheckpoint:
        return Rejected(key=key, manifest_sha256=manifest_sha256, step=None, reason=reason)
    return Rejected(key=key, manifest_sha256=manifest_sha256, step=step, reason=reason)
