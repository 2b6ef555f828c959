"""Writes what a checkpoint is made of, and compares what it meets: the rules K1 to K3.

See `checkpoints` for them.
"""

import hashlib
import threading
from dataclasses import dataclass, field

from orchestrator.core.values import Json
from orchestrator.training import floats, layout
from orchestrator.training.errors import (
    BadCheckpoint,
    NonDeterminismError,
    ObjectChanged,
    ObjectNotFound,
)
from orchestrator.training.manifest import Manifest, decode, work_of
from orchestrator.training.objects import (
    Creation,
    ObjectStore,
    Put,
    holds,
    put_whole,
    set_aside,
)
from orchestrator.training.retention import REFRESH_AFTER_MS
from orchestrator.training.tensors import Data

#: Each further try means that somebody damaged or deleted the manifest at that moment.
_TRIES = 5


@dataclass(slots=True)
class Written:
    """What a save had to write, and under which keys it met damage and mended it."""

    bytes: int = 0
    mended: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, data_bytes: int, *, mended: str | None = None) -> None:
        """Note a write; by any thread."""
        with self._lock:
            self.bytes += data_bytes
            if mended is not None:
                self.mended.append(mended)


class Publisher:
    """Writes blobs and manifests of one run."""

    def __init__(self, objects: ObjectStore, run: str) -> None:
        self._objects = objects
        self._run = run

    def put(self, data: Data, written: Written) -> str:
        """Put bytes under their digest, which is returned."""
        sha256 = hashlib.sha256(data).hexdigest()
        key = layout.blob(self._run, sha256)
        put = self._put_whole(key, data, sha256)
        if put is Put.FOUND:
            self._refresh(key, data, sha256)
            return sha256
        written.add(len(data), mended=key if put is Put.MENDED else None)
        return sha256

    def publish(self, manifest: Manifest, data: bytes, written: Written) -> None:
        """Put a manifest, encoded as `data`, under the name of its work (K2, K3).

        Raises:
            NonDeterminismError: Another good one is there.
        """
        key, sha256 = key_of(manifest), hashlib.sha256(data).hexdigest()
        for _ in range(_TRIES):
            if self._objects.create(key, data, sha256) is Creation.CREATED:
                written.add(len(data))
            if holds(self._objects, key, len(data), sha256):
                return
            try:
                other, _ = read_manifest(self._objects, self._run, key)
            except BadCheckpoint:
                self._mend(key, data, sha256, written)
            else:
                raise NonDeterminismError(key, _differences(other, manifest))
        raise ObjectChanged(key, sha256)

    def _put_whole(self, key: str, data: Data, sha256: str) -> Put:
        return put_whole(self._objects, key, data, sha256, layout.quarantine(self._run, key))

    def _refresh(self, key: str, data: Data, sha256: str) -> None:
        """Make a blob young again: no collection may take it for forgotten (see `retention`)."""
        try:
            stat = self._objects.stat(key)
            if self._objects.now_ms() - stat.modified_at_ms > REFRESH_AFTER_MS:
                self._objects.replace(key, data, sha256=sha256, expected=stat.version)
        except (ObjectChanged, ObjectNotFound):
            # Somebody refreshes or collects it at this moment: then it has to be put again.
            self._put_whole(key, data, sha256)

    def _mend(self, key: str, data: bytes, sha256: str, written: Written) -> None:
        try:
            version = set_aside(self._objects, key, layout.quarantine(self._run, key))
            self._objects.replace(key, data, sha256=sha256, expected=version)
        except (ObjectChanged, ObjectNotFound):
            return
        written.add(len(data), mended=key)


def key_of(manifest: Manifest) -> str:
    """Return where a manifest is kept."""
    work = work_of(manifest.run, manifest)
    return layout.manifest(manifest.run, manifest.branch, manifest.step, work)


def read_manifest(
    objects: ObjectStore, run: str, key: str, *, at: str | None = None
) -> tuple[Manifest, str]:
    """Return the manifest of a key, which lies there or `at` another, and its digest.

    Raises:
        BadCheckpoint: There is none, it is damaged, or it is not the one of this run and key.
    """
    try:
        manifest, sha256 = decode(objects.read(at or key))
    except ObjectNotFound as error:
        raise BadCheckpoint(key, "nothing is stored there") from error
    except ValueError as error:
        raise BadCheckpoint(key, f"its manifest is damaged: {error}") from error
    if manifest.run != run:
        raise BadCheckpoint(key, f"its manifest is of run {manifest.run!r}, not {run!r}")
    if key_of(manifest) != key:
        raise BadCheckpoint(key, f"its manifest belongs under {key_of(manifest)}")
    return manifest, sha256


def _differences(first: Manifest, second: Manifest) -> tuple[str, ...]:
    """Return in words what two checkpoints of one work do not agree on."""
    parts = sorted(first.blobs.keys() | second.blobs.keys())
    found = [f"state {n!r}" for n in parts if first.blobs.get(n) != second.blobs.get(n)]
    found += [
        f"{kind} {name!r}"
        for kind in ("data", "metrics", "rng")
        for name in sorted(getattr(first, kind).keys() | getattr(second, kind).keys())
        if _bits(getattr(first, kind).get(name)) != _bits(getattr(second, kind).get(name))
    ]
    return tuple(found)


def _bits(value: Json) -> bytes:
    # Not ``==``: NaN is the same loss as NaN, and 0.0 is another than -0.0.
    return floats.encode(value)
