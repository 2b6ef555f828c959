"""The ledger of a chunk: every batch since the parent checkpoint, sample by sample.

L1  A batch is bound to where it was trained on (epoch, step) and to what it was: the id and the
    SHA-256 of every sample, in the order of the batch.  Its bytes are a leaf's data.
L2  Batches stand in the order of their steps, each step once.
L3  A ledger has one encoding: the samples once, ascending by id, then the batches as rows of that
    table.  Bytes that differ from what would be written are refused, so that a digest names one
    ledger and one ledger has one digest.
L4  The ledger of steps a to c is that of a to b with that of b to c behind it.

What is committed to is the raw sample: what a trainer makes of it (noise, dropout) follows from
the seed.  All integers are little-endian.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.training.errors import BadRecord, TrainerMisbehaved
from orchestrator.training.merkle import HASH_BYTES, Peaks, leaf_hash

BATCH_MAGIC = b"orc:batch:1\0"
LEDGER_MAGIC = b"orc:ledger:1"
#: Rows of the table are written as 4 bytes.
SAMPLES_MAX = 2**32 - 1

#: Epoch, step, number of samples.
_BATCH = struct.Struct("<QQI")
#: Number of samples, number of batches.
_HEAD = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """One batch that was trained on (L1); `digests[i]` is the SHA-256 of the sample `ids[i]`."""

    epoch: int
    step: int
    ids: tuple[int, ...]
    digests: tuple[bytes, ...]

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.digests), (len(self.ids), len(self.digests))
        assert self.epoch >= 0, self.epoch
        assert self.step >= 0, self.step

    @property
    def place(self) -> tuple[int, int]:
        """Where it was trained on: epoch and step, both counted from 0."""
        return (self.epoch, self.step)

    def leaf_data(self) -> bytes:
        """Return the bytes that the leaf is the hash of (L1)."""
        count = len(self.ids)
        head = _BATCH.pack(self.epoch, self.step, count)
        return b"".join((BATCH_MAGIC, head, struct.pack(f"<{count}q", *self.ids), *self.digests))

    def leaf(self) -> bytes:
        """Return the hash of the leaf."""
        return leaf_hash(self.leaf_data())


class Ledger:
    """Batches in the order they were trained on; grows, never changes."""

    def __init__(self) -> None:
        self._batches: list[BatchRecord] = []
        self._leaves: list[bytes] = []
        self._tree = Peaks()

    def __len__(self) -> int:
        """Return how many batches it holds."""
        return len(self._batches)

    def __iter__(self) -> Iterator[BatchRecord]:
        return iter(self._batches)

    @property
    def leaves(self) -> Sequence[bytes]:
        """The hash of every batch, in order."""
        return tuple(self._leaves)

    @property
    def tree(self) -> Peaks:
        """The tree over its batches, to go on growing without them."""
        return self._tree

    def add(self, epoch: int, step: int, ids: Sequence[int], digests: Sequence[bytes]) -> None:
        """Note the batch of one step, behind all noted before (L2).

        Raises:
            TrainerMisbehaved: The step was noted already, or lies before one that was.
        """
        record = BatchRecord(epoch=epoch, step=step, ids=tuple(ids), digests=tuple(digests))
        if self._batches and record.place <= self._batches[-1].place:
            raise TrainerMisbehaved(
                f"the batch of epoch {epoch} step {step}",
                "epoch {} step {} noted before it".format(*self._batches[-1].place),
                "every step is trained once, in order",
            )
        leaf = record.leaf()
        self._batches.append(record)
        self._leaves.append(leaf)
        self._tree = self._tree.append(leaf)

    def extend(self, later: "Ledger") -> None:
        """Note all batches of a ledger that goes on where this one ends (L4)."""
        for batch in later:
            self.add(*batch.place, batch.ids, batch.digests)

    def root(self) -> str:
        """Return the Merkle root over all batches, in hex; that of nothing for none."""
        return self._tree.root().hex()

    def to_bytes(self) -> bytes:
        """Return the one encoding (L3).

        Raises:
            TrainerMisbehaved: One id stands for two different samples: the data changed meanwhile.
        """
        table: dict[int, bytes] = {}
        for batch in self._batches:
            for sample, digest in zip(batch.ids, batch.digests, strict=True):
                if table.setdefault(sample, digest) != digest:
                    raise TrainerMisbehaved(
                        f"sample {sample}",
                        "two contents under one id in one chunk",
                        "a dataset gives the same sample for an id every time",
                    )
        ids = sorted(table)
        rows = {sample: row for row, sample in enumerate(ids)}
        assert len(ids) <= SAMPLES_MAX, len(ids)
        parts = [LEDGER_MAGIC, _HEAD.pack(len(ids), len(self._batches))]
        parts.append(struct.pack(f"<{len(ids)}q", *ids))
        parts.extend(table[sample] for sample in ids)
        for batch in self._batches:
            count = len(batch.ids)
            parts.append(_BATCH.pack(*batch.place, count))
            parts.append(struct.pack(f"<{count}I", *(rows[sample] for sample in batch.ids)))
        return b"".join(parts)


def ledger_from_bytes(data: bytes) -> Ledger:
    """Return the ledger that `Ledger.to_bytes` wrote; reads no further than `data` is long.

    Raises:
        BadRecord: Other bytes than those it would write (L3).
    """
    reader = _Reader(data)
    if reader.take(len(LEDGER_MAGIC)) != LEDGER_MAGIC:
        raise BadRecord("ledger", repr(data[:12]), f"to begin with {LEDGER_MAGIC!r}")
    samples, batches = _HEAD.unpack(reader.take(_HEAD.size))
    ids = struct.unpack(f"<{samples}q", reader.take(8 * samples))
    if any(later <= earlier for earlier, later in pairwise(ids)):
        raise BadRecord("ledger", "a table of other ids", "each id once, ascending")
    digests = reader.take(HASH_BYTES * samples)
    table = [digests[at : at + HASH_BYTES] for at in range(0, len(digests), HASH_BYTES)]
    ledger = Ledger()
    for _ in range(batches):
        epoch, step, count = _BATCH.unpack(reader.take(_BATCH.size))
        rows = struct.unpack(f"<{count}I", reader.take(4 * count))
        if any(row >= samples for row in rows):
            raise BadRecord("ledger", f"row {max(rows)} in a batch", f"a table of {samples} rows")
        try:
            ledger.add(epoch, step, [ids[row] for row in rows], [table[row] for row in rows])
        except TrainerMisbehaved as error:
            raise BadRecord("ledger", error.found, error.wanted) from error
    if not reader.is_done() or ledger.to_bytes() != data:
        raise BadRecord("ledger", "bytes that it would not write", "its one encoding")
    return ledger


class _Reader:
    """Takes bytes off the front, and never more than there are."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise BadRecord(
                "ledger", f"{len(self._data)} bytes", f"{count} more at byte {self._at}"
            )
        self._at += count
        return self._data[self._at - count : self._at]

    def is_done(self) -> bool:
        return self._at == len(self._data)
