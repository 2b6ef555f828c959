"""That a sample was, or was not, trained on is proved, and the proof stands without us."""

import base64
import copy
import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.training import lineage_proof
from orchestrator.training.datasets import open_dataset
from orchestrator.training.lineage_proof import Refused, verify, verify_batch
from tests.training.lineage_kit import Laboratory, lab

__all__ = ["lab"]


def proved(lab: Laboratory, sample: str) -> tuple[Any, str]:
    """Return the proof as it comes out of a file, and the model's digest."""
    found, inquiry = lab.lineage(contains=sample)
    document = json.loads(json.dumps(inquiry.document(found)))
    return document, found.links[0].ref.manifest_sha256


def test_training_sample_was_used_once_an_epoch_by_id_and_by_digest(lab: Laboratory) -> None:
    lab.train()
    data = open_dataset("iris")
    sample = int(data.ids[5])
    found, by_id = lab.lineage(contains=str(sample))
    assert by_id.was_used(found) is True
    assert sorted(use.proof.batch.epoch for use in by_id.uses) == [0, 1, 2, 3]
    _, by_digest = lab.lineage(contains=data.sample_digest(sample).hex())
    assert {u.proof.batch.place for u in by_id.uses} <= {
        u.proof.batch.place for u in by_digest.uses
    }
    document, model = proved(lab, str(sample))
    assert verify(document, model) == "was trained on, in 4 batches"


def test_held_out_sample_was_not_used_by_every_ledger_from_seed_to_model(lab: Laboratory) -> None:
    lab.train()
    data = open_dataset("iris")
    held_out = int(data.held_out().ids[0])
    found, inquiry = lab.lineage(contains=str(held_out))
    assert inquiry.was_used(found) is False
    assert (inquiry.batches, inquiry.samples) == (32, 4 * data.size)
    document, model = proved(lab, str(held_out))
    assert "in none of 32 batches" in verify(document, model)


def test_absence_covers_the_stages_before(lab: Laboratory) -> None:
    lab.train("pretrain", trainer="autoencoder", epochs=2)
    ref = lab.lineage("pretrain").links[0].ref
    of: Any = {"storage": "pretrain.1", "key": ref.key, "manifest_sha256": ref.manifest_sha256}
    lab.train("tune", epochs=1, inherits=of)
    sample = str(int(open_dataset("iris").ids[0]))
    found, inquiry = lab.lineage("tune", contains=sample)
    assert [use.storage for use in inquiry.uses] == ["tune.1", "pretrain.1", "pretrain.1"]
    assert verify(inquiry.document(found), found.links[0].ref.manifest_sha256)
    held_out = str(int(open_dataset("iris").held_out().ids[0]))
    found, inquiry = lab.lineage("tune", contains=held_out)
    document: Any = inquiry.document(found)
    model = found.links[0].ref.manifest_sha256
    assert "in none of 24 batches" in verify(document, model)
    # Without the earlier stage it would prove too little.
    document["manifests"] = document["manifests"][:2]
    with pytest.raises(Refused, match="the way ends before manifest"):
        verify(document, model)


def change_id(document: Any) -> None:
    batch = document["batches"][0]
    batch["ids"][batch["ids"].index(document["sample"]["id"])] = 9_999


def change_place(document: Any) -> None:
    document["batches"][0]["epoch"] += 1


def change_path(document: Any) -> None:
    document["batches"][0]["path"][0] = "0" * 64


def change_sample(document: Any) -> None:
    document["sample"]["id"] = 77_777


def change_root(document: Any) -> None:
    root = json.loads(document["manifests"][0])["data"]["merkle"]
    document["manifests"][0] = document["manifests"][0].replace(root, "4" * 64)


def show_none(document: Any) -> None:
    document["batches"] = []


def show_one_twice(document: Any) -> None:
    document["batches"].append(document["batches"][0])


def show_one_of_another_branch(document: Any) -> None:
    document["batches"][0]["manifest"] = "3" * 64


def other_claim(document: Any) -> None:
    document["claim"] = "unused"


def name_by_float(document: Any) -> None:
    document["sample"]["id"] = float(document["sample"]["id"])


TAMPERS = [
    *(change_id, change_place, change_path, change_sample, change_root, show_none),
    *(show_one_twice, show_one_of_another_branch, other_claim, name_by_float),
]


@pytest.mark.parametrize("tamper", TAMPERS)
def test_tampered_proof_of_use_is_refused(lab: Laboratory, tamper: Callable[[Any], None]) -> None:
    lab.train(epochs=2)
    document, model = proved(lab, str(int(open_dataset("iris").ids[5])))
    verify(copy.deepcopy(document), model)
    tamper(document)
    with pytest.raises(Refused):
        verify(document, model)


def test_tampered_proof_of_absence_is_refused(lab: Laboratory) -> None:
    lab.train(epochs=2)
    data = open_dataset("iris")
    document, model = proved(lab, str(int(data.held_out().ids[0])))
    used = copy.deepcopy(document)
    used["sample"] = {"id": int(data.ids[0])}
    with pytest.raises(Refused, match="holds it"):
        verify(used, model)
    first, second, *_ = document["ledgers"]
    swapped = copy.deepcopy(document)
    swapped["ledgers"][first] = document["ledgers"][second]
    with pytest.raises(Refused, match="do not lead to the root"):
        verify(swapped, model)
    left_out = copy.deepcopy(document)
    del left_out["ledgers"][first]
    with pytest.raises(Refused):
        verify(left_out, model)
    with pytest.raises(Refused, match="belongs"):
        verify(document, "5" * 64)


def test_sample_in_a_form_that_no_batch_has_is_in_none_and_proves_nothing(lab: Laboratory) -> None:
    lab.train(epochs=1)
    data = open_dataset("iris")
    document, model = proved(lab, str(int(data.held_out().ids[0])))
    sample = int(data.ids[0])
    digest = data.sample_digest(sample).hex()
    forms: list[Any] = [
        {"sha256": digest.upper()},
        {"sha256": f"{digest[:-1]}\n"},
        {"sha256": digest[:-1]},
        {"id": 1_000_000, "sha256": digest},
        {"id": True},
        {"id": float(sample)},
        {"id": str(sample)},
        {"id": None},
        {"name": sample},
        {},
        [],
        sample,
    ]
    for form in forms:
        with pytest.raises(Refused):
            verify({**document, "sample": form}, model)
    for form in ({"sha256": digest}, {"id": sample}):
        with pytest.raises(Refused, match="holds it"):
            verify({**document, "sample": form}, model)


def test_proof_of_absence_shows_every_batch_and_no_other(lab: Laboratory) -> None:
    lab.train(epochs=1)
    document, model = proved(lab, str(int(open_dataset("iris").held_out().ids[0])))
    newest = json.loads(document["manifests"][0])
    [of_newest] = [
        digest
        for digest in document["ledgers"]
        if digest == hashlib.sha256(document["manifests"][0].encode()).hexdigest()
    ]
    stored = base64.b64decode(document["ledgers"][of_newest])
    count = newest["data"]["batches"]
    for other in (0, count - 1, count + 1):
        forged = copy.deepcopy(document)
        data = stored[:20] + struct.pack("<Q", other) + stored[28:]
        forged["ledgers"][of_newest] = base64.b64encode(data).decode()
        with pytest.raises(Refused):
            verify(forged, model)
    # A beginning with steps before it hides what was trained on in them.
    newest["parent"] = None
    newest["step"] += 1
    text = json.dumps(newest, sort_keys=True, separators=(",", ":"))
    cut = hashlib.sha256(text.encode()).hexdigest()
    document["manifests"], ledger = [text], document["ledgers"][of_newest]
    document["ledgers"] = {cut: ledger}
    with pytest.raises(Refused, match="steps lie before it"):
        verify(document, cut)


def test_one_batch_verifies_from_its_root_alone(lab: Laboratory) -> None:
    lab.train(epochs=1)
    _, inquiry = lab.lineage(contains=str(int(open_dataset("iris").ids[0])))
    [use] = inquiry.uses
    assert verify_batch(use.as_json(), use.root) == use.proof.batch.leaf_data()
    with pytest.raises(Refused, match="does not lead"):
        verify_batch(use.as_json(), "6" * 64)


def test_verifier_is_one_file_that_needs_nothing_of_the_package(
    lab: Laboratory, tmp_path: Path
) -> None:
    lab.train(epochs=1)
    document, model = proved(lab, str(int(open_dataset("iris").ids[0])))
    proof = tmp_path / "proof.json"
    proof.write_text(json.dumps(document))
    alone = tmp_path / "check.py"
    alone.write_bytes(Path(str(lineage_proof.__file__)).read_bytes())
    run = [sys.executable, "-I", "-S", str(alone), str(proof)]
    good = subprocess.run([*run, model], capture_output=True, text=True, check=False)
    assert (good.returncode, "was trained on, in 1 batches" in good.stdout) == (0, True), good
    bad = subprocess.run([*run, "0" * 64], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stderr.startswith("proves nothing")) == (1, True), bad
    # Its reader sees the first of the two, a parser takes the last.
    proof.write_text(json.dumps(document)[:-1] + ', "sample": {"id": 5}}')
    twice = subprocess.run([*run, model], capture_output=True, text=True, check=False)
    assert (twice.returncode, "stands twice" in twice.stderr) == (1, True), twice
