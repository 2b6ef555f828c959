"""A Merkle tree over ordered leaves, hashed as RFC 6962 says; proofs and their verification.

M1  A leaf is SHA-256(0x00 ‖ data), a node SHA-256(0x01 ‖ left ‖ right), the root of nothing is
    SHA-256 of nothing.  The first byte keeps a node from being shown as a leaf.
M2  A tree of n leaves splits at the largest power of two below n.  No leaf is doubled to make the
    numbers even: two lists of leaves never share a root (CVE-2012-2459).
M3  What is verified needs the claim, the proof and a root that is trusted, never the other leaves.
M4  The root is a function of the leaves alone, in whatever pieces they were appended.

Works on hashes of leaves; what a leaf's data is, the caller knows.

Source: RFC 6962 section 2.1; the verification is RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.core.values import Json
from orchestrator.training.errors import BadRecord

#: The root of no leaves.
EMPTY_ROOT = hashlib.sha256().digest()
HASH_BYTES = 32
#: Leaves of one tree: steps between two checkpoints are counted in thousands.  Bounds a stored
#: size, and with it the peaks (one for each bit).
LEAVES_MAX = 2**63 - 1


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf (M1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash over two subtrees (M1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Peaks:
    """A tree that only grows: how many leaves it has, and the roots of its full subtrees.

    The subtrees stand in order, the largest first; their sizes are the bits of `size`.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        assert 0 <= self.size <= LEAVES_MAX, self.size
        assert len(self.peaks) == self.size.bit_count(), self

    def append(self, leaf: bytes) -> "Peaks":
        """Return the tree with one more leaf, given by its hash."""
        peaks, size = [*self.peaks, leaf], self.size
        # As in counting: every bit that carries joins two subtrees of one size.
        while size & 1:
            right, left = peaks.pop(), peaks.pop()
            peaks.append(node_hash(left, right))
            size >>= 1
        return Peaks(self.size + 1, tuple(peaks))

    def extend(self, leaves: Iterable[bytes]) -> "Peaks":
        """Return the tree with these leaves behind its own (M4)."""
        tree = self
        for leaf in leaves:
            tree = tree.append(leaf)
        return tree

    def root(self) -> bytes:
        """Return the root over all leaves so far (M2)."""
        if not self.peaks:
            return EMPTY_ROOT
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = node_hash(peak, found)
        return found

    def as_json(self) -> Json:
        """Return what `peaks_from_json` reads: at most 64 hashes, whatever the size."""
        return {"size": self.size, "peaks": [peak.hex() for peak in self.peaks]}


def peaks_from_json(value: Json) -> Peaks:
    """Return the tree that `Peaks.as_json` wrote.

    Raises:
        BadRecord: Not such JSON.
    """
    if not isinstance(value, dict) or value.keys() != {"size", "peaks"}:
        raise BadRecord("a growing tree", repr(value)[:60], "an object of size and peaks")
    size, peaks = value["size"], value["peaks"]
    if type(size) is not int or not 0 <= size <= LEAVES_MAX:
        raise BadRecord("a growing tree's size", repr(size)[:60], f"0 to {LEAVES_MAX}")
    if not isinstance(peaks, list) or len(peaks) != size.bit_count():
        raise BadRecord("a growing tree's peaks", repr(peaks)[:60], f"{size.bit_count()} hashes")
    return Peaks(size, tuple(hash_from_json(peak, "a growing tree's peak") for peak in peaks))


def hash_from_json(value: Json, subject: str) -> bytes:
    """Return the hash whose 64 hex digits `value` is.

    Raises:
        BadRecord: It is something else; the error names `subject`.
    """
    digits = isinstance(value, str) and len(value) == 2 * HASH_BYTES
    if not digits or not set(str(value)) <= set("0123456789abcdef"):
        raise BadRecord(subject, repr(value)[:60], "64 hex digits")
    return bytes.fromhex(str(value))


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of leaves."""
    return Peaks().extend(leaves).root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return what leads from leaf `index`, counted from 0, to the root: nearest neighbour first."""
    assert 0 <= index < len(leaves), (index, len(leaves))
    if len(leaves) == 1:
        return ()
    split = _split(len(leaves))
    if index < split:
        return (*inclusion_proof(leaves[:split], index), root_of(leaves[split:]))
    return (*inclusion_proof(leaves[split:], index - split), root_of(leaves[:split]))


def verify_inclusion(
    leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Return whether a leaf, by its hash, is number `index` of `size` under `root` (M3)."""
    if not 0 <= index < size or any(len(part) != HASH_BYTES for part in (leaf, *proof)):
        return False
    at, last, found = index, size - 1, leaf
    for neighbour in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(neighbour, found)
            # The last node of a level without a neighbour rises as it is.
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, neighbour)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def consistency_proof(leaves: Sequence[bytes], first: int) -> tuple[bytes, ...]:
    """Return what shows that the tree of the first `first` leaves is the beginning of this one."""
    assert 0 <= first <= len(leaves), (first, len(leaves))
    return _consistency(leaves, first, whole=True) if 0 < first < len(leaves) else ()


def verify_consistency(
    *, first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether the tree of `second` leaves begins with that of `first` (M3)."""
    if not 0 <= first <= second or any(len(part) != HASH_BYTES for part in proof):
        return False
    if first in (0, second):
        # Nothing is the beginning of everything; a tree is the beginning of itself.
        expected = EMPTY_ROOT if first == 0 else second_root
        return not proof and first_root == expected
    # A first tree that is one full subtree is not in the proof: it is the first root itself.
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    if not path:
        return False
    old = new = path[0]
    for neighbour in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(neighbour, old), node_hash(neighbour, new)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, neighbour)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _consistency(leaves: Sequence[bytes], first: int, *, whole: bool) -> tuple[bytes, ...]:
    """Return RFC 6962's SUBPROOF; `whole` while the first tree's root is known to the verifier."""
    if first == len(leaves):
        return () if whole else (root_of(leaves),)
    split = _split(len(leaves))
    if first <= split:
        return (*_consistency(leaves[:split], first, whole=whole), root_of(leaves[split:]))
    rest = _consistency(leaves[split:], first - split, whole=False)
    return (*rest, root_of(leaves[:split]))


def _split(size: int) -> int:
    """Return the largest power of two below `size`, which is at least 2 (M2)."""
    return 1 << ((size - 1).bit_length() - 1)
