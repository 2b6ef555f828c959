"""The tree hashes as RFC 6962 says, and its proofs prove what is true and nothing else."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.values import Json
from orchestrator.training.errors import BadRecord
from orchestrator.training.merkle import (
    EMPTY_ROOT,
    Peaks,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    peaks_from_json,
    root_of,
    verify_consistency,
    verify_inclusion,
)

KNOWN: dict[str, Any] = json.loads(
    Path(__file__).with_name("vectors").joinpath("merkle_rfc6962_known_answers.json").read_text()
)
REFERENCE = [leaf_hash(bytes.fromhex(data)) for data in KNOWN["reference_tree"]["leaves"]]
ROOTS = [bytes.fromhex(root) for root in KNOWN["reference_tree"]["root_at_size_1_to_8"]]
#: Every shape up to here is tried.
SIZES = range(1, 20)

LEAVES = st.lists(st.binary(max_size=8), max_size=70).map(lambda d: [leaf_hash(x) for x in d])


def leaves(size: int) -> list[bytes]:
    """Return hashes of `size` different leaves."""
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(size)]


def by_definition(hashes: list[bytes]) -> bytes:
    """Return the root as RFC 6962 section 2.1 writes it down."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    left, right = by_definition(hashes[:split]), by_definition(hashes[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def hexed(parts: list[str]) -> list[bytes]:
    """Return bytes from hex."""
    return [bytes.fromhex(part) for part in parts]


def test_hashes_are_the_published_ones() -> None:
    assert EMPTY_ROOT.hex() == KNOWN["empty_root"] == root_of([]).hex()
    for known in KNOWN["leaf_hash"]:
        assert leaf_hash(bytes.fromhex(known["data"])).hex() == known["hash"]
    for known in KNOWN["node_hash"]:
        left, right = bytes.fromhex(known["left"]), bytes.fromhex(known["right"])
        assert node_hash(left, right).hex() == known["hash"]


def test_roots_of_the_reference_tree_are_the_published_ones() -> None:
    for size, root in enumerate(ROOTS, start=1):
        assert root_of(REFERENCE[:size]) == root


@pytest.mark.parametrize("known", KNOWN["reference_tree_inclusion_paths"], ids=str)
def test_inclusion_paths_of_the_reference_tree_are_the_published_ones(known: Any) -> None:
    size, index = known["tree_size"], known["leaf_1based"] - 1
    path = hexed(known["path"])
    if size == 0:
        assert not verify_inclusion(EMPTY_ROOT, index=0, size=0, proof=path, root=EMPTY_ROOT)
        return
    assert list(inclusion_proof(REFERENCE[:size], index)) == path
    assert verify_inclusion(
        REFERENCE[index], index=index, size=size, proof=path, root=ROOTS[size - 1]
    )


@pytest.mark.parametrize("known", KNOWN["reference_tree_consistency_proofs"], ids=str)
def test_consistency_proofs_of_the_reference_tree_are_the_published_ones(known: Any) -> None:
    first, second, proof = known["size1"], known["size2"], hexed(known["proof"])
    assert list(consistency_proof(REFERENCE[:second], first)) == proof
    assert verify_consistency(
        first=first,
        second=second,
        first_root=ROOTS[first - 1],
        second_root=ROOTS[second - 1],
        proof=proof,
    )


def test_a_certificate_is_found_in_a_real_log_of_three_million() -> None:
    known = KNOWN["real_ct_inclusion"]
    leaf = leaf_hash(bytes.fromhex(known["leaf_data"]))
    assert leaf.hex() == known["leaf_hash"]
    place = {"index": known["leaf_index"], "size": known["tree_size"]}
    path, root = hexed(known["path"]), bytes.fromhex(known["root"])
    assert verify_inclusion(leaf, **place, proof=path, root=root)
    for broken in (path[:-1], path[1:], [*path, path[0]], [path[1], path[0], *path[2:]]):
        assert not verify_inclusion(leaf, **place, proof=broken, root=root)


@given(LEAVES)
def test_the_growing_tree_has_the_root_of_the_definition(hashes: list[bytes]) -> None:
    assert root_of(hashes) == by_definition(hashes)


@given(LEAVES, st.lists(st.integers(0, 70), max_size=5))
def test_the_root_is_the_same_over_any_split_into_pieces(
    hashes: list[bytes], cuts: list[int]
) -> None:
    tree, at = Peaks(), 0
    for cut in [*sorted(cuts), len(hashes)]:
        stored: Json = json.loads(json.dumps(tree.as_json()))
        tree = peaks_from_json(stored).extend(hashes[at:cut])
        at = max(at, cut)
    assert tree.root() == by_definition(hashes)
    assert tree.size == len(hashes)


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_of_every_small_tree_is_proved_in_its_place_only(size: int) -> None:
    hashes, root = leaves(size), root_of(leaves(size))
    for index in range(size):
        proof = inclusion_proof(hashes, index)
        for claimed in range(size + 1):
            proved = verify_inclusion(
                hashes[index], index=claimed, size=size, proof=proof, root=root
            )
            assert proved == (claimed == index)
        other = hashes[(index + 1) % size]
        if size > 1:
            assert not verify_inclusion(other, index=index, size=size, proof=proof, root=root)


@pytest.mark.parametrize("second", SIZES)
def test_every_beginning_of_every_small_tree_is_proved_and_no_other(second: int) -> None:
    hashes = leaves(second)
    for first in range(second + 1):
        proof = consistency_proof(hashes, first)
        claim: dict[str, Any] = {"first": first, "second": second, "second_root": root_of(hashes)}
        assert verify_consistency(**claim, first_root=root_of(hashes[:first]), proof=proof)
        others = [root_of(leaves(n)) for n in range(second + 2) if n != first]
        assert not any(verify_consistency(**claim, first_root=o, proof=proof) for o in others)
        if 0 < first < second:
            changed = [leaf_hash(b"changed"), *hashes[1:]]
            claim["second_root"] = root_of(changed)
            for shown in (proof, consistency_proof(changed, first)):
                assert not verify_consistency(
                    **claim, first_root=root_of(hashes[:first]), proof=shown
                )


@given(st.integers(1, 40), st.data())
def test_a_changed_inclusion_proof_proves_nothing(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof = list(inclusion_proof(hashes, index))
    leaf, root = hashes[index], root_of(hashes)
    parts = [leaf, root, *proof]
    part, byte = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 31))
    bit = 1 << data.draw(st.integers(0, 7))
    changed = bytearray(parts[part])
    changed[byte] ^= bit
    parts[part] = bytes(changed)
    assert not verify_inclusion(parts[0], index=index, size=size, proof=parts[2:], root=parts[1])
    for shown in ([*proof, leaf], proof[:-1] if proof else [leaf], [*proof, b"short"]):
        assert not verify_inclusion(leaf, index=index, size=size, proof=shown, root=root)


@given(st.integers(2, 40), st.data())
def test_a_changed_consistency_proof_proves_nothing(second: int, data: st.DataObject) -> None:
    hashes = leaves(second)
    first = data.draw(st.integers(1, second - 1))
    proof = list(consistency_proof(hashes, first))
    at, byte = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 31))
    changed = bytearray(proof[at])
    changed[byte] ^= 1 << data.draw(st.integers(0, 7))
    claim: dict[str, Any] = {
        "first": first,
        "second": second,
        "first_root": root_of(hashes[:first]),
        "second_root": root_of(hashes),
    }
    assert verify_consistency(**claim, proof=proof)
    for shown in (
        [*proof[:at], bytes(changed), *proof[at + 1 :]],
        proof[:-1],
        [*proof, proof[0]],
        [],
    ):
        assert not verify_consistency(**claim, proof=shown)


def test_nobody_shows_a_node_as_a_leaf_or_doubles_the_last() -> None:
    hashes = leaves(3)
    assert root_of(hashes) != root_of([*hashes, hashes[-1]])
    left = hashes[0] + hashes[1]
    assert leaf_hash(left) != node_hash(hashes[0], hashes[1])
    assert root_of([leaf_hash(left), hashes[2]]) != root_of(hashes)


def test_bytes_moved_over_the_seam_between_two_hashes_prove_nothing() -> None:
    one, other = leaves(2)
    moved, rest = one + other[:1], other[1:]
    assert node_hash(moved, rest) == root_of([one, other])
    assert not verify_inclusion(moved, index=0, size=2, proof=[rest], root=root_of([one, other]))


def test_indexes_outside_the_tree_prove_nothing() -> None:
    hashes = leaves(5)
    for index, size in ((5, 5), (-1, 5), (0, 0), (0, -1)):
        proof = inclusion_proof(hashes, 0)
        assert not verify_inclusion(
            hashes[0], index=index, size=size, proof=proof, root=root_of(hashes)
        )
    assert not verify_consistency(
        first=6, second=5, first_root=EMPTY_ROOT, second_root=EMPTY_ROOT, proof=[]
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"size": 1, "peaks": []},
        {"size": -1, "peaks": []},
        {"size": True, "peaks": ["00" * 32]},
        {"size": 2**64, "peaks": ["00" * 32]},
        {"size": 1, "peaks": ["00" * 31]},
        {"size": 1, "peaks": ["0G" * 32]},
        {"size": 1, "peaks": [" " + "00" * 31 + "0"]},
        {"size": 1, "peaks": "00"},
        {"size": 1, "peaks": ["00" * 32], "more": 1},
    ],
    ids=repr,
)
def test_a_growing_tree_that_nothing_wrote_is_refused(value: Json) -> None:
    with pytest.raises(BadRecord):
        peaks_from_json(value)
