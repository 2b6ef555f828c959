"""Verifies a proof that a sample was, or was not, trained on: from the file and one digest alone.

    python -m orchestrator.training.lineage_proof PROOF.json MODEL_MANIFEST_SHA256

LP1  Trust is in the digest of the model's manifest, which the run's history records.  Each manifest
     names its parent by digest and the Merkle root of its batches; all else is recomputed here.
LP2  For "used" every batch shown leads to the root of a manifest on the way.  For "unused" the
     batches of every manifest from the model to the seed are shown, and none holds the sample.
     A sample is an id or a digest, in the one form that a batch has it: in any other it would be
     in no batch whatever was trained on.
LP3  Stands alone: the standard library, and nothing of this package.  An auditor reads one file.

Formats: `manifest` (canonical JSON), `ledger` (the bytes of a batch), `merkle` (RFC 6962).
"""

import base64
import hashlib
import json
import re
import struct
import sys
from pathlib import Path
from typing import Any, TypeAlias

FORMAT = "orc:lineage-proof:1"
#: A list of a batch, "ids" or "digests", and what of it is looked for.
Sample: TypeAlias = tuple[str, int | str]


class Refused(Exception):
    """The file does not prove what it claims; the text says where."""


def verify(document: dict[str, Any], model: str) -> str:
    """Return what the document proves of the model whose manifest has the digest `model`.

    Raises:
        Refused: It proves nothing.
    """
    try:
        if document["format"] != FORMAT:
            raise Refused(f"format {document['format']}, this reads {FORMAT}")
        roots = _roots(document["manifests"], model)
        claim, sample = document["claim"], _sample(document["sample"])
        if claim == "used":
            return _used(document["batches"], sample, roots)
        if claim == "unused":
            return _unused(document["ledgers"], sample, roots)
    except (KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise Refused(f"no such file: {type(error).__name__}: {error}") from error
    raise Refused(f"claim {claim!r}")


def verify_batch(batch: dict[str, Any], root: str) -> bytes:
    """Return the bytes of a batch that leads to `root`, as the leaf commits to them.

    Raises:
        Refused: It does not.
    """
    ids, digests = batch["ids"], [bytes.fromhex(one) for one in batch["digests"]]
    if len(ids) != len(digests) or any(len(one) != 32 for one in digests):
        raise Refused("a batch without a digest for every id")
    data = b"orc:batch:1\0" + struct.pack("<QQI", batch["epoch"], batch["step"], len(ids))
    data += struct.pack(f"<{len(ids)}q", *ids) + b"".join(digests)
    found = hashlib.sha256(b"\0" + data).digest()
    at, last = batch["index"], batch["size"] - 1
    if not 0 <= at <= last:
        raise Refused(f"batch {at} of {last + 1}")
    for part in map(bytes.fromhex, batch["path"]):
        if last == 0 or len(part) != 32:
            raise Refused("a way that leads past the root")
        if at & 1 or at == last:
            found = hashlib.sha256(b"\1" + part + found).digest()
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = hashlib.sha256(b"\1" + found + part).digest()
        at, last = at >> 1, last >> 1
    if last or found.hex() != root:
        place = f"epoch {batch['epoch']} step {batch['step']}"
        raise Refused(f"the batch of {place} does not lead to the root {root}")
    return data


def _roots(manifests: list[str], model: str) -> dict[str, tuple[str, int]]:
    """Return root and number of batches by manifest, from the model to the seed (LP1)."""
    roots: dict[str, tuple[str, int]] = {}
    wanted: str | None = model
    step: int | None = None
    for text in manifests:
        found = hashlib.sha256(text.encode()).hexdigest()
        if found != wanted:
            raise Refused(f"manifest {found} where {wanted or 'none'} belongs")
        inner = json.loads(text)
        if step is not None and inner["step"] != step:
            raise Refused(f"manifest {found} is of step {inner['step']}, its batches end at {step}")
        roots[found] = (inner["data"]["merkle"], inner["data"]["batches"])
        step = inner["step"] - inner["data"]["batches"]
        if not inner["parent"]:
            if step:
                raise Refused(f"manifest {found} begins a run, and {step} steps lie before it")
            step = None
        wanted = inner["parent"] or inner["data"].get("inherits")
    if wanted is not None:
        raise Refused(f"the way ends before manifest {wanted}")
    return roots


def _used(batches: list[Any], sample: Sample, roots: dict[str, tuple[str, int]]) -> str:
    if not batches:
        raise Refused("no batch is shown")
    shown: set[tuple[str, int]] = set()
    for batch in batches:
        root, size = roots[batch["manifest"]]
        if batch["size"] != size:
            raise Refused(f"a way among {batch['size']} batches where there are {size}")
        verify_batch(batch, root)
        place = (batch["manifest"], batch["index"])
        if place in shown:
            raise Refused(f"batch {place[1]} of manifest {place[0]} is shown twice")
        shown.add(place)
        if not _holds(batch, sample):
            raise Refused(f"the batch of epoch {batch['epoch']} step {batch['step']} is without it")
    return f"was trained on, in {len(batches)} batches"


def _unused(ledgers: dict[str, Any], sample: Sample, roots: Any) -> str:
    looked_at = 0
    for manifest, (root, size) in roots.items():
        batches = list(_batches(base64.b64decode(ledgers[manifest], validate=True)))
        leaves = [hashlib.sha256(b"\0" + data).digest() for data, _ in batches]
        if len(batches) != size or _root(leaves).hex() != root:
            raise Refused(f"the batches of manifest {manifest} do not lead to the root {root}")
        for _, batch in batches:
            if _holds(batch, sample):
                raise Refused(f"epoch {batch['epoch']} step {batch['step']} holds it")
        looked_at += len(batches)
    return f"was not trained on: it is in none of {looked_at} batches, which are all there were"


def _batches(data: bytes) -> Any:
    """Yield the batches of a stored ledger: as their leaf commits to them, and as an object."""
    if data[:12] != b"orc:ledger:1":
        raise Refused("no ledger")
    samples, count = struct.unpack_from("<QQ", data, 12)
    ids = struct.unpack_from(f"<{samples}q", data, 28)
    table = 28 + 8 * samples
    at = table + 32 * samples
    for _ in range(count):
        epoch, step, size = struct.unpack_from("<QQI", data, at)
        rows = struct.unpack_from(f"<{size}I", data, at + 20)
        if any(row >= samples for row in rows):
            raise Refused("a batch of samples that its ledger does not have")
        digests = [data[table + 32 * row : table + 32 * row + 32] for row in rows]
        named = [ids[row] for row in rows]
        leaf = b"orc:batch:1\0" + struct.pack("<QQI", epoch, step, size)
        leaf += struct.pack(f"<{size}q", *named) + b"".join(digests)
        shown = {"epoch": epoch, "step": step, "ids": named}
        yield leaf, shown | {"digests": [one.hex() for one in digests]}
        at += 20 + 4 * size


def _root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    peaks: list[tuple[int, bytes]] = []
    for leaf in leaves:
        size, node = 1, leaf
        while peaks and peaks[-1][0] == size:
            node = hashlib.sha256(b"\1" + peaks.pop()[1] + node).digest()
            size *= 2
        peaks.append((size, node))
    found = peaks.pop()[1]
    while peaks:
        found = hashlib.sha256(b"\1" + peaks.pop()[1] + found).digest()
    return found


def _sample(shown: dict[str, Any]) -> Sample:
    """Return where in a batch the sample would stand, and as what (LP2)."""
    match list(shown.items()):
        # Not `isinstance`: true is 1 to Python.
        case [("id", wanted)] if type(wanted) is int:
            return "ids", wanted
        case [("sha256", str(digest))] if re.fullmatch("[0-9a-f]{64}", digest):
            return "digests", digest
        case _:
            wanted = "a whole id or 64 lower-case hex digits, and that alone"
            raise Refused(f"sample {shown}, not {wanted}")


def _holds(batch: dict[str, Any], sample: Sample) -> bool:
    part, wanted = sample
    return wanted in batch[part]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; one that names a thing twice says one to us, another to its reader."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused(f"a name stands twice among {', '.join(name for name, _ in pairs)}")
    return found


def main(arguments: list[str]) -> int:
    """Verify a file; return 0 if it proves what it claims."""
    if len(arguments) != 2:
        sys.stderr.write("usage: PROOF.json MODEL_MANIFEST_SHA256\n")
        return 2
    try:
        document = json.loads(Path(arguments[0]).read_text(), object_pairs_hook=_object)
        sys.stdout.write(f"sample {document.get('sample')} {verify(document, arguments[1])}\n")
    except (Refused, OSError, ValueError, AttributeError) as error:
        sys.stderr.write(f"proves nothing: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
