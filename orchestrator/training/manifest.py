"""What a checkpoint is: which bytes, of which run, from which parent, made of what.

M1  A manifest is immutable, and its digest stands for the checkpoint: whoever knows it from the log
    can tell whether bytes, parent, data and orders are what was committed.
M2  One manifest has one encoding, an envelope ``{"sha256": …, "manifest": {…}}`` in the JSON of
    `floats`.  Nothing else is read: no field more, none less, none of another type.
M3  It says nothing of when, where or by whom it was made: the same work gives the same manifest.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from orchestrator.core.values import Json
from orchestrator.training import floats
from orchestrator.training.errors import TrainerMisbehaved
from orchestrator.training.state import META, digest_of

#: Raised when a field changes its meaning; an unknown one is not read.
SCHEMA = 1
#: A manifest holds no tensors; a megabyte of it is a mistake.
MANIFEST_BYTES_MAX = 1 << 20

Facts: TypeAlias = Mapping[str, Json]

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a checkpoint says of itself beside its bytes; see `describing` for who fills it."""

    branch: str
    #: Steps since the first of the run, along this branch.
    step: int
    epoch: int
    #: The step within the epoch.
    chunk: int
    #: Digest of the manifest it was trained on from; None for the first of a run.
    parent: str | None
    #: "initial", "interval", "preempt", "pinned", "final" or a word of the caller's.
    kind: str
    cursor: Facts = field(default_factory=dict)
    rng: Facts = field(default_factory=dict)
    hparams: Facts = field(default_factory=dict)
    data: Facts = field(default_factory=dict)
    code: Facts = field(default_factory=dict)
    env: Facts = field(default_factory=dict)
    metrics: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Bytes by their digest."""

    sha256: str
    bytes: int
    #: "safetensors" or "json".
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Description):
    """A description, of which run it is, and the bytes."""

    run: str
    #: By group of the state, and `state.META`.
    blobs: Mapping[str, Blob]

    @property
    def state_sha256(self) -> str:
        """Digest of the state, as `State.digest` gives it."""
        return digest_of({name: blob.sha256 for name, blob in self.blobs.items()})

    @property
    def references(self) -> frozenset[str]:
        """Digests of all blobs that it needs: the state's, and the ledger of its samples."""
        return self.evidence | {blob.sha256 for blob in self.blobs.values()}

    @property
    def evidence(self) -> frozenset[str]:
        """Digests of what proves things about it without its state: the ledger of its samples."""
        ledger = self.data.get("ledger")
        return frozenset({ledger} if isinstance(ledger, str) else ())


def manifest_of(run: str, description: Description, blobs: Mapping[str, Blob]) -> Manifest:
    """Return the manifest of a checkpoint."""
    said = {one.name: getattr(description, one.name) for one in fields(Description)}
    return Manifest(run=run, blobs=dict(blobs), **said)


def work_of(run: str, description: Description) -> str:
    """Return a digest of the work that a checkpoint came of: all but what came of it.

    Two works at one step that are not the same (another parent, other orders, another environment)
    may well give other bits, and none is wrong.
    """
    said = _said(description)
    named: list[Json] = [*sorted(description.metrics)]
    # What was observed, as opposed to ordered, has to repeat: it does not tell works apart.
    rng: dict[str, Json] = {name: v for name, v in description.rng.items() if name != "streams"}
    work: dict[str, Json] = {**said, "run": run, "metrics": named, "data": None, "rng": rng}
    return hashlib.sha256(floats.encode(work)).hexdigest()


def encode(manifest: Manifest) -> tuple[bytes, str]:
    """Return the one encoding of a manifest, in its envelope, and its digest (M2).

    Raises:
        TrainerMisbehaved: A fact that JSON does not have, or more facts than fit.
    """
    try:
        inner = _plain(manifest)
        inner |= {"schema": SCHEMA}
        digest = hashlib.sha256(floats.encode(inner)).hexdigest()
        data = floats.encode({"sha256": digest, "manifest": inner})
        _manifest(inner)
        if len(data) > MANIFEST_BYTES_MAX:
            raise ValueError(f"{len(data)} bytes")
    except (TypeError, ValueError) as error:
        raise TrainerMisbehaved(
            "the description of a checkpoint",
            str(error),
            f"JSON of at most {MANIFEST_BYTES_MAX} bytes, each field of its type",
        ) from error
    return data, digest


def decode(data: bytes) -> tuple[Manifest, str]:
    """Return what `encode` wrote, and its digest.

    Raises:
        ValueError: Anything else; the text says what.
    """
    if len(data) > MANIFEST_BYTES_MAX:
        raise ValueError(f"{len(data)} bytes, at most {MANIFEST_BYTES_MAX} are a manifest")
    envelope = floats.decode(data)
    if not isinstance(envelope, dict) or envelope.keys() != {"sha256", "manifest"}:
        raise ValueError("no envelope of a manifest")
    inner = envelope["manifest"]
    if not isinstance(inner, dict):
        raise ValueError("the manifest is no object")
    digest = hashlib.sha256(floats.encode(inner)).hexdigest()
    if envelope["sha256"] != digest:
        raise ValueError("the manifest is not what its own digest says")
    return _manifest(inner), digest


def _plain(manifest: Manifest) -> dict[str, Json]:
    blobs: Json = {name: _blob_json(blob) for name, blob in manifest.blobs.items()}
    return {**_said(manifest), "run": manifest.run, "blobs": blobs}


def _said(description: Description) -> dict[str, Json]:
    """Return the fields of a description, and of a manifest only those too."""
    found = {one.name: getattr(description, one.name) for one in fields(Description)}
    return {name: dict(v) if isinstance(v, Mapping) else v for name, v in found.items()}


def _blob_json(blob: Blob) -> Json:
    return {"sha256": blob.sha256, "bytes": blob.bytes, "format": blob.format}


def _manifest(inner: Mapping[str, Json]) -> Manifest:
    """Return the manifest that `inner` says.

    Raises:
        ValueError: A field too many, too few, or of another type.
    """
    given: dict[str, Any] = dict(inner)
    if given.pop("schema", None) != SCHEMA:
        raise ValueError(f"schema {inner.get('schema')}, this version reads {SCHEMA}")
    wanted = {one.name for one in fields(Manifest)}
    if given.keys() != wanted:
        raise ValueError(f"fields {sorted(given.keys() ^ wanted)} are missing or unknown")
    for name, value in given.items():
        if not _fits(name, value):
            raise ValueError(f"field {name!r} is of another type")
    given["blobs"] = {name: _blob(blob) for name, blob in given["blobs"].items()}
    if META not in given["blobs"]:
        raise ValueError(f"no blob {META!r}")
    return Manifest(**given)


def _fits(name: str, value: Any) -> bool:
    match name:
        case "branch" | "kind" | "run":
            return isinstance(value, str) and bool(value)
        case "step" | "epoch" | "chunk":
            return _is_count(value)
        case "parent":
            return value is None or _is_digest(value)
        case _:
            return isinstance(value, dict)


def _blob(value: Any) -> Blob:
    match value:
        case {"sha256": sha256, "bytes": size, "format": "safetensors" | "json" as form} if (
            len(value) == 3 and _is_digest(sha256) and _is_count(size)
        ):
            return Blob(sha256=sha256, bytes=size, format=form)
    raise ValueError("a blob is a digest, a size and a format")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
