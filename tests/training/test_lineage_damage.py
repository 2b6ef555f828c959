"""Whatever was touched is found, named with what was wanted, and makes the answer no."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import tasks.training as steps
from orchestrator.core.values import Json
from orchestrator.training import describing, lineage
from orchestrator.training.environment import Environment, fingerprint
from orchestrator.training.lineage_checks import changes, check, check_join
from orchestrator.training.manifest import encode
from orchestrator.training.session import WarmSessions
from tests.training.lineage_kit import Laboratory, flip, lab, said

__all__ = ["lab"]


def test_damaged_manifest_is_named_and_the_walk_goes_on_behind_it(lab: Laboratory) -> None:
    lab.train()
    link = lab.lineage().links[2]
    flip(lab.file(link.ref.key))
    found = lab.lineage()
    assert not found
    assert len(found.links) == 5
    assert found.is_complete
    [problem] = found.problems
    assert link.ref.manifest_sha256[:12] in problem.subject
    assert "its manifest is damaged" in problem.found
    assert problem.wanted == f"the manifest that event {link.recorded.seq} of first run 1 names"


def test_missing_manifest_is_named(lab: Laboratory) -> None:
    lab.train()
    link = lab.lineage().links[1]
    lab.file(link.ref.key).unlink()
    found = lab.lineage()
    assert "nothing is stored there" in said(found)


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (lambda m: replace(m, metrics={**m.metrics, "loss": 0.0}), "its manifest is"),
        (lambda m: replace(m, data={**m.data, "merkle": "0" * 64}), "its manifest is"),
        (lambda m: replace(m, run="other.1"), "of run 'other.1'"),
    ],
)
def test_forged_manifest_that_is_whole_in_itself_is_not_the_recorded_one(
    lab: Laboratory, forge: Callable[[Any], Any], told: str
) -> None:
    lab.train()
    link = lab.lineage().links[1]
    path = lab.file(link.ref.key)
    data, digest = encode(forge(link.checked.manifest))
    assert digest != link.ref.manifest_sha256
    path.write_bytes(data)
    found = lab.lineage()
    assert told in said(found)
    assert not found


def test_damaged_weights_are_named_by_part_and_digest(lab: Laboratory) -> None:
    lab.train()
    link = lab.lineage().links[3]
    blob = link.checked.manifest.blobs["optimizer"].sha256
    flip(lab.blob(blob))
    found = lab.lineage()
    [problem] = found.problems
    assert "part 'optimizer'" in problem.subject
    assert problem.wanted == f"sha256 {blob}"
    assert "are not what was written" in problem.found


def test_missing_weights_of_a_checkpoint_that_was_not_collected_are_damage(lab: Laboratory) -> None:
    lab.train()
    link = lab.lineage().links[1]
    lab.blob(link.checked.manifest.blobs["model"].sha256).unlink()
    assert "part 'model'" in said(lab.lineage())


@pytest.mark.parametrize("gone", [False, True])
def test_damaged_or_missing_ledger_is_named_and_proves_no_absence(
    lab: Laboratory, *, gone: bool
) -> None:
    lab.train()
    ledger = lab.lineage().links[1].checked.manifest.data["ledger"]
    path = lab.blob(ledger)
    path.unlink() if gone else flip(path)
    found, inquiry = lab.lineage(contains="100000")
    [problem] = found.problems
    assert problem.subject.startswith("the ledger of checkpoint")
    assert problem.wanted == f"sha256 {ledger}"
    assert inquiry.was_used(found) is None
    assert "cannot be proved" in inquiry.says(found)
    assert inquiry.document(found) is None


def test_checkpoint_made_anew_on_another_machine_is_known_to_history(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    review: Json = {"every_epochs": 2, "timeout_s": 600}
    changes: dict[str, Json] = {"environment": "flag", "review": review}
    lab.world.start("training", lab.plan(changes), id="first")
    lab.world.settle()
    [newest] = [f for f in lab.checkpoints().list_manifests()[0] if f.manifest.epoch == 2]
    lab.blob(newest.manifest.blobs["model"].sha256).unlink()
    steps._warm = WarmSessions()
    facts = {**fingerprint(("numpy",)).facts, "numpy": "9.9"}
    monkeypatch.setattr(describing, "fingerprint", lambda uses: Environment(facts=facts))
    lab.review("decide", {"decision": "continue"})
    found = lab.lineage()
    assert said(found) == ""
    assert found
    assert [link.ref.cursor.epoch for link in found.links] == [4, 3, 2, 1, 0]
    assert newest.manifest_sha256 not in {link.ref.manifest_sha256 for link in found.links}


def test_changed_history_breaks_the_chain_and_is_named(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train()
    change_event(lab, monkeypatch, 5, b'"attempt":1', b'"attempt":2')
    found = lab.lineage()
    assert not found
    [problem] = found.problems
    assert problem.subject == "the history of first run 1"
    assert problem.found.startswith("event 5: ")


def test_other_root_in_the_history_is_held_against_the_manifest(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train()
    link = lab.lineage().links[3]
    root = str(link.checked.manifest.data["merkle"])
    change_event(lab, monkeypatch, link.recorded.seq, root.encode(), b"1" * 64)
    found = lab.lineage()
    chain, problem = sorted(found.problems, key=lambda one: "Merkle" in one.subject)
    assert chain.subject == "the history of first run 1"
    assert problem.subject.startswith("the Merkle root of checkpoint")
    assert (problem.found, problem.wanted) == (root, "1" * 64)


def test_orders_that_the_history_does_not_bear_out_are_named(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train()
    change_event(lab, monkeypatch, 4, b'"lr":0.001', b'"lr":0.002')
    assert "the hyperparameters in force of checkpoint" in said(lab.lineage())


def test_model_that_is_not_the_one_of_its_checkpoint_is_named(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train()
    evaluated = lab.lineage().evaluated
    change_event(lab, monkeypatch, evaluated.seq, evaluated.model_sha256.encode(), b"2" * 64)
    assert f"the model that event {evaluated.seq}" in said(lab.lineage())


def test_registry_that_names_another_model_is_named(lab: Laboratory) -> None:
    lab.train(model="net")
    key = lab.lineage().run.registered
    path = lab.file(key)
    card = {**json.loads(path.read_bytes()), "model_sha256": "3" * 64}
    path.write_text(json.dumps(card))
    [problem] = lab.lineage().problems
    assert problem.subject == f"the registry's {key}"
    path.unlink()
    assert "nothing is stored" in said(lab.lineage())


def test_batches_that_do_not_follow_each_other_prove_nothing(lab: Laboratory) -> None:
    lab.train()
    link = lab.lineage().links[1]
    [problem] = check(lab.checkpoints(), link.ref, link.recorded, per_epoch=5).problems
    assert problem.found == "epoch 2 step 5 after epoch 2 step 4"
    assert check(lab.checkpoints(), link.ref, link.recorded, per_epoch=8).ledger is not None


def test_batches_must_begin_where_the_parent_ends_and_be_as_many_as_the_steps(
    lab: Laboratory,
) -> None:
    lab.train()
    child, parent, before = lab.lineage().links[1:4]
    seen = check(lab.checkpoints(), child.ref, child.recorded, per_epoch=8)
    assert check_join(parent.checked, seen, child.ref) == []
    steps, place = check_join(before.checked, seen, child.ref)
    assert steps.subject.startswith("steps since the parent of checkpoint")
    assert (steps.found, steps.wanted) == ("16", "8")
    assert (place.found, place.wanted) == ("epoch 2 step 0", "epoch 1 step 0")


def test_step_that_no_batch_accounts_for_is_named_on_the_way(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train()
    liar = lab.lineage().links[1].ref

    def lying(store: Any, ref: Any, *more: Any) -> Any:
        seen = check(store, ref, *more)
        if ref != liar or seen.manifest is None:
            return seen
        return replace(seen, manifest=replace(seen.manifest, step=seen.manifest.step + 1))

    monkeypatch.setattr(lineage, "check", lying)
    found = lab.lineage()
    assert not found
    assert "steps since the parent of checkpoint" in said(found)


def test_place_that_the_history_does_not_bear_out_is_named(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train()
    seq = lab.lineage().links[1].recorded.seq
    change_event(lab, monkeypatch, seq, b'"kind":"interval"', b'"kind":"pinned"')
    assert "the kind of checkpoint" in said(lab.lineage())


def test_change_of_code_data_and_environment_is_told_in_words(lab: Laboratory) -> None:
    lab.train()
    child, parent = (link.checked.manifest for link in lab.lineage().links[:2])
    facts = {**child.env["facts"], "numpy": "9.9"}
    env = Environment(facts=facts).as_json()
    code = {**child.code, "version": "2"}
    data = {**child.data, "dataset": "7" * 64}
    found = changes(parent, replace(child, env=env, code=code, data=data))
    here = child.env["facts"]["numpy"]
    assert found[0] == "code version 1 → 2"
    assert found[1].startswith("data ")
    assert found[2] == f"environment: numpy 9.9 here, {here} there"


def change_event(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch, seq: int, old: bytes, new: bytes
) -> None:
    """Let the store answer with another event, its recorded head left as it was."""
    real = lab.world.store.read_history

    def touched(*args: Any, **kwargs: Any) -> Any:
        stored = list(real(*args, **kwargs))
        assert old in stored[seq - 1].data
        stored[seq - 1] = replace(stored[seq - 1], data=stored[seq - 1].data.replace(old, new))
        return stored

    monkeypatch.setattr(lab.world.store, "read_history", touched)
