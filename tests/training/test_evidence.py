"""That a sample was used, or was not, is proved to whoever trusts the root and nobody else."""

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.training.errors import BadRecord, EvidenceRefused, NotProvable
from orchestrator.training.evidence import (
    Committed,
    Sample,
    commitment,
    dataset_fingerprint,
    proof_from_json,
    prove_unused,
    prove_used,
    sample_from_text,
    verify_ledger,
    verify_unused,
    verify_used,
)
from tests.training.evidence_batches import Batch, batches, ledger_of, sample_digest, two_epochs

LEDGER = ledger_of(two_epochs())
ROOT = commitment(LEDGER)


@given(batches(), st.integers(-6, 32), st.sampled_from(["id", "digest"]))
def test_every_sample_is_proved_used_or_unused_and_never_both(
    drawn: list[Batch], number: int, named_by: str
) -> None:
    sample: Sample = number if named_by == "id" else sample_digest(number)
    ledger = ledger_of(drawn)
    root, stored = commitment(ledger), ledger.to_bytes()
    used = any(number in ids for _, _, ids in drawn)
    if used:
        proof = proof_from_json(json.loads(json.dumps(prove_used(ledger, sample).as_json())))
        verify_used(proof, sample, root)
        with pytest.raises(NotProvable):
            prove_unused(ledger, sample)
        with pytest.raises(NotProvable):
            verify_unused(stored, sample, root)
    else:
        with pytest.raises(NotProvable):
            prove_used(ledger, sample)
        absence = verify_unused(stored, sample, root)
        assert absence == prove_unused(ledger, sample)
        assert absence.samples == sum(len(ids) for _, _, ids in drawn)


def test_a_proof_names_where_the_sample_was_first_used() -> None:
    proof = prove_used(LEDGER, 5)
    assert proof.batch.place == (0, 2)
    assert (proof.index, proof.size) == (2, 6)
    with pytest.raises(NotProvable, match="epoch 0 step 2"):
        prove_unused(LEDGER, sample_digest(5))


def test_a_proof_for_one_sample_proves_nothing_of_another() -> None:
    verify_used(prove_used(LEDGER, 5), 5, ROOT)
    for other in (100, 4, sample_digest(4)):
        with pytest.raises(EvidenceRefused, match="a batch without it"):
            verify_used(prove_used(LEDGER, 5), other, ROOT)


@given(st.sampled_from(range(9)), st.data())
def test_a_proof_with_any_part_changed_proves_nothing(sample: int, data: st.DataObject) -> None:
    shown: Any = copy.deepcopy(prove_used(LEDGER, sample).as_json())
    part = data.draw(st.sampled_from(sorted(shown)))
    value = shown[part]
    if isinstance(value, list):
        at = data.draw(st.integers(0, len(value) - 1))
        old = value[at]
        value[at] = old + 1 if isinstance(old, int) else f"{'0' if old[0] != '0' else '1'}{old[1:]}"
    else:
        shown[part] = value + data.draw(st.integers(1, 3))
    with pytest.raises(EvidenceRefused):
        verify_used(proof_from_json(shown), sample, ROOT)


def test_a_batch_slipped_into_a_proof_is_found_out() -> None:
    # The claim an examiner must not fall for: sample 100 put where sample 5 was.
    proof = prove_used(LEDGER, 5)
    ids = tuple(100 if sample == 5 else sample for sample in proof.batch.ids)
    with pytest.raises(EvidenceRefused, match="another root"):
        verify_used(replace(proof, batch=replace(proof.batch, ids=ids)), 100, ROOT)


def test_a_ledger_that_leaves_a_batch_out_does_not_prove_absence() -> None:
    for shown in (two_epochs()[:2] + two_epochs()[3:], two_epochs()[:-1], []):
        with pytest.raises(EvidenceRefused, match="batches under"):
            verify_unused(ledger_of(shown).to_bytes(), 100, ROOT)


@given(st.data())
def test_a_stored_ledger_with_any_byte_changed_is_refused(data: st.DataObject) -> None:
    stored = bytearray(LEDGER.to_bytes())
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(EvidenceRefused):
        verify_ledger(bytes(stored), ROOT)


def test_another_number_of_batches_under_the_root_is_refused() -> None:
    for count in (5, 7):
        claim = Committed(root=ROOT.root, batches=count)
        with pytest.raises(EvidenceRefused):
            verify_used(prove_used(LEDGER, 5), 5, claim)
        with pytest.raises(EvidenceRefused):
            verify_ledger(LEDGER.to_bytes(), claim)


@pytest.mark.parametrize("sample", [b"", b"short", sample_digest(1)[:31], sample_digest(1) + b"\0"])
def test_what_cannot_be_a_digest_is_never_called_unused(sample: bytes) -> None:
    with pytest.raises(NotProvable, match="not 32"):
        prove_unused(LEDGER, sample)


def test_an_id_of_numpys_is_an_id() -> None:
    number: Any = np.int64(5)
    verify_used(prove_used(LEDGER, number), number, ROOT)
    with pytest.raises(NotProvable):
        prove_unused(LEDGER, number)
    text: Any = "5"
    with pytest.raises(TypeError):
        prove_unused(LEDGER, text)


def test_a_person_names_a_sample_by_id_or_digest() -> None:
    assert sample_from_text("17") == 17
    assert sample_from_text("-1") == -1
    assert sample_from_text(sample_digest(3).hex().upper()) == sample_digest(3)
    assert sample_from_text("1" * 64) == bytes.fromhex("1" * 64)
    for text in ("", "x", "1.0", "g" * 64, "1" * 63, "٣", "1 ", "--1"):
        with pytest.raises(NotProvable):
            sample_from_text(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda proof: proof.pop("path"),
        lambda proof: proof.update(more=1),
        lambda proof: proof.update(index=-1),
        lambda proof: proof.update(index=True),
        lambda proof: proof.update(size=2**63),
        lambda proof: proof.update(epoch=1.0),
        lambda proof: proof["ids"].append(1),
        lambda proof: proof["ids"].__setitem__(0, 2**63),
        lambda proof: proof["digests"].__setitem__(0, "00"),
        lambda proof: proof.update(path="00"),
        lambda proof: proof["path"].append(None),
    ],
)
def test_json_that_is_no_proof_is_refused(change: Any) -> None:
    shown: Any = copy.deepcopy(prove_used(LEDGER, 5).as_json())
    change(shown)
    with pytest.raises(BadRecord):
        proof_from_json(shown)
    with pytest.raises(BadRecord):
        proof_from_json(None)


def test_the_fingerprint_of_a_dataset_covers_name_parts_and_every_sample() -> None:
    parts = {"training": [1, 2, 3], "held out": [4]}
    found = dataset_fingerprint("digits", parts, sample_digest)
    assert found == dataset_fingerprint("digits", {**parts}, sample_digest)
    others = [
        dataset_fingerprint("digit", parts, sample_digest),
        dataset_fingerprint("digits", {"training": [1, 3, 2], "held out": [4]}, sample_digest),
        dataset_fingerprint("digits", {"training": [1, 2], "held out": [3, 4]}, sample_digest),
        dataset_fingerprint("digits", {"training": [1, 2, 3], "held_out": [4]}, sample_digest),
        dataset_fingerprint("digits", {"training": [1, 2, 3, 4]}, sample_digest),
        dataset_fingerprint("digits", parts, lambda i: sample_digest(i + (i == 4))),
    ]
    assert len({found, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    "error",
    [
        BadRecord("a proof", "7", "an object"),
        EvidenceRefused("the ledger", "3 batches", "4"),
        NotProvable("that sample 5 was used", "none of 6 batches holds it"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_survives_pickle_and_says_what_was_found(error: Exception) -> None:
    for again in (pickle.loads(pickle.dumps(error)), type(error)(*error.args)):
        assert type(again) is type(error)
        assert str(again) == str(error)
    assert all(str(part) in str(error) for part in error.args)
