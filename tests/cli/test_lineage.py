"""The command `lineage` as it is typed: a table or JSON; exit code 1 where something is not."""

import json
from pathlib import Path

from orchestrator.training.datasets import open_dataset
from orchestrator.training.lineage_proof import verify
from tests.training.lineage_kit import Laboratory, flip, lab

__all__ = ["lab"]


def test_table_shows_model_checkpoints_and_the_verdict(lab: Laboratory) -> None:
    lab.train(model="net", seed=21)
    done = lab.typed("first")
    assert done.code == 0, done.result.stderr
    found = lab.lineage()
    assert found.evaluated.model_sha256 in done.out
    for link in found.links:
        assert link.ref.manifest_sha256[:12] in done.out
    last = done.out.strip().splitlines()[-1]
    assert last == "verified: 5 checkpoints, 32 batches, from the model to seed 21"
    assert "events, head " in done.out


def test_json_has_everything(lab: Laboratory) -> None:
    lab.train(seed=21)
    data = lab.typed("first", "--json").data
    assert (data["verified"], data["seed"], data["problems"]) == (True, 21, [])
    assert [one["cursor"]["epoch"] for one in data["checkpoints"]] == [4, 3, 2, 1, 0]
    assert data["checkpoints"][0]["hparams"]["hidden"] == [8]
    assert data["checkpoints"][0]["interval"]["epochs"] == 1


def test_damage_is_exit_code_1_with_what_was_found_and_wanted(lab: Laboratory) -> None:
    lab.train()
    link = lab.lineage().links[1]
    flip(lab.file(link.ref.key))
    done = lab.typed("first")
    assert done.code == 1
    assert "its manifest is damaged" in done.out
    assert "NOT VERIFIED: 1 problems in 5 checkpoints; the seed was reached" in done.out
    shown = lab.typed("first", "--json")
    assert shown.code == 1
    assert json.loads(shown.out)["verified"] is False


def test_proof_is_written_and_verifies(lab: Laboratory, tmp_path: Path) -> None:
    lab.train()
    data = open_dataset("iris")
    for sample, claim in ((data.ids[0], "used"), (data.held_out().ids[0], "unused")):
        path = tmp_path / f"{claim}.json"
        done = lab.typed("first", "--contains", str(int(sample)), "--proof", str(path))
        assert done.code == 0, done.out
        document = json.loads(path.read_text())
        assert document["claim"] == claim
        assert verify(document, lab.lineage().links[0].ref.manifest_sha256)
        assert f"verify it anywhere: python -m orchestrator.training.lineage_proof {path}" in (
            done.out
        )


def test_what_cannot_be_proved_writes_no_file(lab: Laboratory, tmp_path: Path) -> None:
    lab.train()
    flip(lab.blob(str(lab.lineage().links[1].checked.manifest.data["ledger"])))
    path = tmp_path / "proof.json"
    done = lab.typed("first", "--contains", "100000", "--proof", str(path))
    assert done.code == 1
    assert "cannot be proved" in done.out
    assert not path.exists()


def test_wrong_questions_are_refused_with_the_reason(lab: Laboratory, tmp_path: Path) -> None:
    lab.train()
    assert lab.typed("nobody").code == 1
    assert "neither an id nor a SHA-256" in lab.typed("first", "--contains", "cat").error
    assert lab.typed("first", "--proof", str(tmp_path / "p")).code == 2
    elsewhere = lab.typed("first", "--store", str(tmp_path / "elsewhere"))
    assert (elsewhere.code, "has nothing of first.1" in elsewhere.error) == (1, True)
    assert not (tmp_path / "elsewhere").exists()
