"""A ledger has one encoding, and cutting a training into chunks changes nothing in it."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.training.errors import BadRecord, TrainerMisbehaved
from orchestrator.training.ledger import Ledger, ledger_from_bytes
from orchestrator.training.merkle import EMPTY_ROOT, Peaks, root_of
from tests.training.evidence_batches import Batch, batches, ledger_of, sample_digest, two_epochs


def test_a_leaf_is_the_hash_of_place_ids_and_digests() -> None:
    # Written out, so that who verifies a run in ten years needs this line and nothing else.
    ids, digests = [4, -1], [sample_digest(4), sample_digest(-1)]
    ledger = Ledger()
    ledger.add(2, 7, ids, digests)
    data = b"orc:batch:1\0" + struct.pack("<QQI2q", 2, 7, 2, 4, -1) + b"".join(digests)
    assert ledger.leaves == (hashlib.sha256(b"\x00" + data).digest(),)
    assert ledger.root() == hashlib.sha256(b"\x00" + data).hexdigest()
    assert ledger.root() == "c322b46ae22f4b427e67b50877f8009df8f7e6d93fe6efe68a829b0a436db439"


def test_a_ledger_of_nothing_has_the_root_of_nothing() -> None:
    assert Ledger().root() == EMPTY_ROOT.hex()
    assert len(ledger_from_bytes(Ledger().to_bytes())) == 0


@given(batches())
def test_a_ledger_comes_back_from_its_bytes(drawn: list[Batch]) -> None:
    ledger = ledger_of(drawn)
    read = ledger_from_bytes(ledger.to_bytes())
    assert list(read) == list(ledger)
    assert read.root() == ledger.root()
    assert read.to_bytes() == ledger.to_bytes()


@given(batches(), st.lists(st.integers(0, 20), max_size=4))
def test_chunks_cut_anywhere_give_one_ledger_and_one_root(
    drawn: list[Batch], cuts: list[int]
) -> None:
    joined, tree, at = Ledger(), Peaks(), 0
    for cut in [*sorted(cuts), len(drawn)]:
        piece = ledger_of(drawn[at:cut])
        joined.extend(ledger_from_bytes(piece.to_bytes()))
        tree = tree.extend(piece.leaves)
        at = max(at, cut)
    whole = ledger_of(drawn)
    assert joined.to_bytes() == whole.to_bytes()
    assert joined.root() == whole.root() == tree.root().hex() == root_of(whole.leaves).hex()


@given(batches(), batches())
def test_two_ledgers_share_a_root_only_if_they_are_one(
    one: list[Batch], other: list[Batch]
) -> None:
    assert (ledger_of(one).root() == ledger_of(other).root()) == (one == other)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: [(1, s, ids) for _, s, ids in b[:3]],
        lambda b: [(e, s + 1, ids) for e, s, ids in b],
        lambda b: [(e, s, ids[::-1]) for e, s, ids in b],
        lambda b: b[:-1],
        lambda b: [*b, (9, 9, [1])],
        lambda b: [(0, 0, [4, 8]), (0, 1, [1, 0, 7, 2]), *b[2:]],
    ],
    ids=["epoch", "step", "order in the batch", "one less", "one more", "cut elsewhere"],
)
def test_the_root_tells_every_change_of_what_was_trained_when(change: object) -> None:
    assert callable(change)
    assert ledger_of(change(two_epochs())).root() != ledger_of(two_epochs()).root()


def test_the_same_ids_with_other_contents_have_another_root() -> None:
    ledger = Ledger()
    for epoch, step, ids in two_epochs():
        ledger.add(epoch, step, ids, [sample_digest(i + (i == 6)) for i in ids])
    assert ledger.root() != ledger_of(two_epochs()).root()


@pytest.mark.parametrize("place", [(0, 2), (0, 1), (0, 0)], ids=str)
def test_a_step_is_noted_once_and_in_order(place: tuple[int, int]) -> None:
    ledger = ledger_of(two_epochs()[:3])
    with pytest.raises(TrainerMisbehaved, match="once, in order"):
        ledger.add(*place, [1], [sample_digest(1)])
    assert ledger.root() == ledger_of(two_epochs()[:3]).root()


def test_one_id_with_two_contents_is_the_datasets_fault() -> None:
    ledger = ledger_of([(0, 0, [1])])
    ledger.add(0, 1, [1], [sample_digest(2)])
    with pytest.raises(TrainerMisbehaved, match="sample 1"):
        ledger.to_bytes()


@given(batches(), st.data())
def test_other_bytes_are_refused_or_another_ledger(drawn: list[Batch], data: st.DataObject) -> None:
    good = ledger_of(drawn).to_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(bad), good[:at], good + b"\0"):
        try:
            read = ledger_from_bytes(damaged)
        except BadRecord:
            continue
        assert read.to_bytes() == damaged
        if any(batch.ids for batch in read):
            # What no batch names is not in the table: nothing in the bytes escapes the root.
            assert read.root() != ledger_of(drawn).root()


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_stumble(data: bytes) -> None:
    for given_bytes in (data, b"orc:ledger:1" + data):
        try:
            assert ledger_from_bytes(given_bytes).to_bytes() == given_bytes
        except BadRecord:
            continue


def test_counts_beyond_the_data_cost_no_memory() -> None:
    for counts in ((2**63, 0), (0, 2**63), (2**60, 2**60)):
        with pytest.raises(BadRecord):
            ledger_from_bytes(b"orc:ledger:1" + struct.pack("<QQ", *counts))


def test_a_second_encoding_of_a_ledger_is_refused() -> None:
    # A table with a row that no batch uses, or in another order, would be a second digest.
    good = ledger_of([(0, 0, [1])]).to_bytes()
    digests = sample_digest(1) + sample_digest(2)
    batch = struct.pack("<QQI", 0, 0, 1)
    unused = b"orc:ledger:1" + struct.pack("<QQ2q", 2, 1, 1, 2) + digests + batch
    assert ledger_from_bytes(good).to_bytes() == good
    for data in (
        unused + struct.pack("<I", 0),
        b"orc:ledger:1"
        + struct.pack("<QQ2q", 2, 1, 2, 1)
        + digests[32:]
        + digests[:32]
        + struct.pack("<QQI2I", 0, 0, 2, 1, 0),
    ):
        with pytest.raises(BadRecord, match=r"one encoding|ascending"):
            ledger_from_bytes(data)
    with pytest.raises(BadRecord, match="row 2"):
        ledger_from_bytes(unused + struct.pack("<I", 2))


def test_one_id_twice_in_the_table_is_refused() -> None:
    # Found by chance once: a flipped byte can make two ids of the table one.
    data = b"orc:ledger:1" + struct.pack("<QQ2q", 2, 1, 1, 1) + sample_digest(1) + sample_digest(2)
    with pytest.raises(BadRecord, match="ascending"):
        ledger_from_bytes(data + struct.pack("<QQI2I", 0, 0, 2, 0, 1))
