"""Proofs that a sample was, or was not, among the batches under a recorded root.

EV1  A root is trusted because it stands in a checkpoint's manifest, whose digest stands in the hash
     chain of the run.  Nothing else is: what is shown is recomputed up to the root.
EV2  That a sample *was* used is shown by one batch and its way to the root; the other batches stay
     unseen.
EV3  That a sample was *not* used is shown by the whole ledger: its batches lead to the root, so
     they are all there were, and none holds it.
EV4  A sample is meant by its id in the dataset, or by its contents' SHA-256: the second finds it
     under whatever id it was given.
"""

import hashlib
import operator
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.core.values import Json
from orchestrator.training.errors import BadRecord, EvidenceRefused, NotProvable
from orchestrator.training.ledger import BatchRecord, Ledger, ledger_from_bytes
from orchestrator.training.merkle import (
    HASH_BYTES,
    hash_from_json,
    inclusion_proof,
    verify_inclusion,
)

#: An id in the dataset, or the SHA-256 (32 bytes) of the sample (EV4).
Sample: TypeAlias = int | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What a manifest says of the batches since its parent: their Merkle root and their number."""

    root: str
    batches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That a batch is number `index`, counted from 0, of the `size` under a root (EV2)."""

    batch: BatchRecord
    index: int
    size: int
    path: tuple[bytes, ...]

    def as_json(self) -> Json:
        """Return what `proof_from_json` reads; floats do not occur."""
        return {
            "epoch": self.batch.epoch,
            "step": self.batch.step,
            "ids": list(self.batch.ids),
            "digests": [digest.hex() for digest in self.batch.digests],
            "index": self.index,
            "size": self.size,
            "path": [part.hex() for part in self.path],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """That none of the batches under a root holds a sample; `samples` counts what was looked at."""

    root: str
    batches: int
    samples: int


def commitment(ledger: Ledger) -> Committed:
    """Return what a manifest says of a ledger."""
    return Committed(root=ledger.root(), batches=len(ledger))


def prove_used(ledger: Ledger, sample: Sample) -> Proof:
    """Return the proof that the first batch with `sample` was trained on.

    Raises:
        NotProvable: No batch holds it.
    """
    for index, batch in enumerate(ledger):
        if _holds(batch, sample):
            path = inclusion_proof(ledger.leaves, index)
            return Proof(batch=batch, index=index, size=len(ledger), path=path)
    raise NotProvable(f"that {named(sample)} was used", f"none of {len(ledger)} batches holds it")


def prove_unused(ledger: Ledger, sample: Sample) -> Absence:
    """Return what can be said of a ledger without `sample`; it is shown with the ledger (EV3).

    Raises:
        NotProvable: A batch holds it.
    """
    looked_at = 0
    for batch in ledger:
        if _holds(batch, sample):
            where = "epoch {} step {}".format(*batch.place)
            raise NotProvable(f"that {named(sample)} was not used", f"it was, in {where}")
        looked_at += len(batch.ids)
    return Absence(root=ledger.root(), batches=len(ledger), samples=looked_at)


def verify_used(proof: Proof, sample: Sample, committed: Committed) -> None:
    """Return if `proof` shows that `sample` was trained on; needs nothing else (EV1, EV2).

    Raises:
        EvidenceRefused: It does not; the text says what it shows instead.
    """
    subject = f"the proof for {named(sample)}"
    if not _holds(proof.batch, sample):
        found = "a batch without it, epoch {} step {}".format(*proof.batch.place)
        raise EvidenceRefused(subject, found, "a batch that holds it")
    if proof.size != committed.batches:
        raise EvidenceRefused(subject, f"{proof.size} batches", f"{committed.batches}")
    leads = verify_inclusion(
        proof.batch.leaf(),
        index=proof.index,
        size=proof.size,
        proof=proof.path,
        root=hash_from_json(committed.root, "the recorded root"),
    )
    if not leads:
        raise EvidenceRefused(subject, "a way to another root", f"the root {committed.root}")


def verify_unused(ledger: bytes, sample: Sample, committed: Committed) -> Absence:
    """Return what was looked at, if the stored ledger shows that `sample` was not used (EV1, EV3).

    Raises:
        EvidenceRefused: It is not the ledger of that root, or is none.
        NotProvable: It is, and a batch holds the sample.
    """
    return prove_unused(verify_ledger(ledger, committed), sample)


def verify_ledger(ledger: bytes, committed: Committed) -> Ledger:
    """Return the stored ledger, if its batches are those under the recorded root (EV1).

    Raises:
        EvidenceRefused: They are not, or it cannot be read.
    """
    try:
        found = ledger_from_bytes(ledger)
    except BadRecord as error:
        raise EvidenceRefused("the ledger", str(error), "one that can be read") from error
    if commitment(found) != committed:
        raise EvidenceRefused(
            "the ledger",
            f"{len(found)} batches under {found.root()}",
            f"{committed.batches} under {committed.root}",
        )
    return found


def proof_from_json(value: Json) -> Proof:
    """Return the proof that `Proof.as_json` wrote.

    Raises:
        BadRecord: Not such JSON.
    """
    wanted = {"epoch", "step", "ids", "digests", "index", "size", "path"}
    if not isinstance(value, dict) or value.keys() != wanted:
        raise BadRecord("a proof", repr(value)[:60], f"an object of {', '.join(sorted(wanted))}")
    ids, digests = _list(value["ids"], "ids"), _list(value["digests"], "digests")
    if len(ids) != len(digests):
        raise BadRecord("a proof", f"{len(ids)} ids, {len(digests)} digests", "as many of both")
    batch = BatchRecord(
        epoch=_whole(value["epoch"], 0, 2**64 - 1),
        step=_whole(value["step"], 0, 2**64 - 1),
        ids=tuple(_whole(sample, -(2**63), 2**63 - 1) for sample in ids),
        digests=tuple(hash_from_json(digest, "a proof's digest") for digest in digests),
    )
    return Proof(
        batch=batch,
        index=_whole(value["index"], 0, 2**63 - 1),
        size=_whole(value["size"], 0, 2**63 - 1),
        path=tuple(hash_from_json(p, "a proof's path") for p in _list(value["path"], "path")),
    )


def dataset_fingerprint(
    name: str, parts: Mapping[str, Sequence[int]], sample_digest: Callable[[int], bytes]
) -> str:
    """Return the SHA-256, in hex, over a dataset: its name, its parts, every sample of them.

    `parts` are ids by the name of the part ("training", "held out"), whose order counts.
    """
    found = hashlib.sha256(f"orc:dataset:1\0{name}\0{len(parts)}\0".encode())
    for part, ids in parts.items():
        found.update(f"{part}\0".encode() + struct.pack(f"<Q{len(ids)}q", len(ids), *ids))
        for sample in ids:
            found.update(sample_digest(sample))
    return found.hexdigest()


def named(sample: Sample) -> str:
    """Return how a sample is called in a message."""
    return (
        f"the sample of digest {sample.hex()}" if isinstance(sample, bytes) else f"sample {sample}"
    )


def sample_from_text(text: str) -> Sample:
    """Return the sample that a person means: an id in decimals, or a SHA-256 in 64 hex digits.

    Raises:
        NotProvable: It is neither.
    """
    if len(text) == 2 * HASH_BYTES:
        try:
            return hash_from_json(text.lower(), "a sample")
        except BadRecord as error:
            raise NotProvable(f"anything of sample {text!r}", error.found) from error
    if re.fullmatch(r"-?[0-9]{1,19}", text) is None:
        raise NotProvable(
            f"anything of sample {text[:80]!r}", "it is neither an id nor a SHA-256 in hex"
        )
    return int(text)


def _holds(batch: BatchRecord, sample: Sample) -> bool:
    # A digest of another length, or an id that is no integer, is in no batch: without this it
    # would pass for a sample that was not used.
    if isinstance(sample, bytes):
        if len(sample) != HASH_BYTES:
            raise NotProvable(f"anything of {named(sample)}", f"it has {len(sample)} bytes, not 32")
        return sample in batch.digests
    return operator.index(sample) in batch.ids


def _list(value: Json, name: str) -> list[Json]:
    if not isinstance(value, list):
        raise BadRecord(f"a proof's {name}", repr(value)[:60], "a list")
    return value


def _whole(value: Json, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise BadRecord("a number in a proof", repr(value)[:60], f"a whole one, {low} to {high}")
    return value
