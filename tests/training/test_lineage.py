"""A lineage leads from the model to the seed, over everything that people ordered on the way."""

import os
from typing import Any

import pytest

from orchestrator.training.collecting import collect, make_plan
from orchestrator.training.errors import NotProvable
from orchestrator.training.retention import LatestN
from tests.training.lineage_kit import Laboratory, lab, make_old, said

__all__ = ["lab"]

REVIEWED: Any = {"review": {"every_epochs": 1}}


def test_lineage_of_a_plain_training_leads_from_the_model_to_its_seed(lab: Laboratory) -> None:
    lab.train(model="iris-net", seed=11)
    found = lab.lineage()
    assert found, said(found)
    assert found.seed == 11
    assert [link.ref.cursor.epoch for link in found.links] == [4, 3, 2, 1, 0]
    assert found.evaluated is not None
    first, *_, last = found.links
    assert found.evaluated.manifest_sha256 == first.ref.manifest_sha256
    assert last.ref.kind == "initial"
    for link in found.links:
        assert link.recorded is not None
        assert link.changes == ()
        assert [words.partition(" ")[0] for words in link.checked.verified[:2]] == [
            "manifest",
            "event",
        ]
        assert "batches under their root" in link.checked.verified[-1]


def test_adjusted_values_stand_where_they_took_effect(lab: Laboratory) -> None:
    lab.world.start("training", lab.plan(REVIEWED), id="first")
    lab.world.settle()
    lab.review(
        "decide",
        {"decision": "adjust", "hparams": {"lr": 0.25}, "by": "ana", "reason": "too slow"},
    )
    lab.review("decide", {"decision": "adjust", "hparams": {"hidden": [9]}, "by": "bo"})
    lab.review("decide", {"decision": "continue", "by": "bo"})
    lab.review("decide", {"decision": "stop", "by": "ana"})
    found = lab.lineage()
    assert found, said(found)
    adjusted = found.links[-3]
    assert adjusted.ref.cursor.epoch == 2
    assert adjusted.changes == ("lr 0.001 → 0.25",)
    assert [(o.by, o.reason, str(o.at), o.effect) for o in adjusted.orders] == [
        ("ana", "too slow", "epoch 1 step 0", "in force")
    ]
    refused, _, stopped = found.run.orders[1:]
    assert (refused.by, refused.effect) == ("bo", "not in force: refused, or overtaken by another")
    assert (stopped.at, stopped.effect) == (None, "nothing was trained after it")
    assert all(not link.changes for link in found.links if link is not adjusted)


def test_lineage_crosses_branch_points_of_rollback_and_reseed(lab: Laboratory) -> None:
    lab.world.start("training", lab.plan(REVIEWED), id="first")
    lab.world.settle()
    at_one = lab.lineage().links[0].ref
    lab.review("decide", {"decision": "continue"})
    lab.review("rollback", {"to": at_one.manifest_sha256[:12], "by": "ana"})
    lab.review("decide", {"decision": "continue"})
    lab.review("reseed", {"seed": 99, "by": "ana"})
    lab.review("decide", {"decision": "continue"})
    lab.review("decide", {"decision": "continue"})
    lab.settle()
    found = lab.lineage()
    assert found, said(found)
    assert found.seed == 7
    way = [(link.ref.branch, link.ref.cursor.epoch) for link in reversed(found.links)]
    assert way[:2] == [("main", 0), ("main", 1)]
    assert len({branch for branch, _ in way}) == 3
    assert [epoch for _, epoch in way] == [0, 1, 2, 3, 4]
    changed = {link.ref.cursor.epoch: link.changes for link in found.links}
    assert changed[2] == ("branch main@2 leaves main",)
    assert changed[3] == ("branch main@3 leaves main@2", "seed 7 → 99")
    orders = {order.signal: order for order in found.run.orders}
    assert (orders["rollback"].branch, orders["rollback"].effect) == ("main@2", "in force")
    assert (orders["reseed"].branch, orders["reseed"].effect) == ("main@3", "in force")
    # What was left behind is not part of the model.
    assert len(found.run.refs) > len(found.links)


def test_lineage_of_a_fork_goes_on_into_the_run_that_it_left(lab: Laboratory) -> None:
    lab.world.start("training", lab.plan(REVIEWED), id="first")
    lab.world.settle()
    lab.review("fork", {"seeds": [5], "by": "ana"})
    for _ in range(4):
        lab.review("decide", {"decision": "continue"})
    lab.settle()
    found = lab.lineage("first-fork-1")
    assert found, said(found)
    assert found.seed == 7
    assert [str(log.name) for log in found.runs] == ["first-fork-1 run 1", "first run 1"]
    by_run = [str(link.recorded.run) for link in found.links if link.recorded]
    assert by_run == [*["first-fork-1 run 1"] * 3, *["first run 1"] * 2]
    assert "seed 7 → 5" in found.links[2].changes


def test_lineage_of_a_fork_of_a_fork_passes_through_all_three_histories(lab: Laboratory) -> None:
    lab.world.start("training", lab.plan(REVIEWED), id="first")
    lab.world.settle()
    lab.world.signal("fork", {"seeds": [5]}, id="first")
    lab.world.turn()
    while lab.world.names("first-fork-1").count("StepCompleted") < 2:
        lab.world.work()
        lab.world.turn()
    lab.world.signal("fork", {"seeds": [6]}, id="first-fork-1")
    lab.world.settle()
    found = lab.lineage("first-fork-1-fork-1")
    assert found, said(found)
    savers = [link.recorded.run.workflow_id for link in found.links if link.recorded]
    assert len(savers) == len(found.links)
    assert [*dict.fromkeys(savers)] == ["first-fork-1-fork-1", "first-fork-1", "first"]


def test_lineage_goes_on_through_the_stage_that_a_run_inherited_from(lab: Laboratory) -> None:
    lab.train("pretrain", trainer="autoencoder", epochs=2, seed=3)
    before = lab.lineage("pretrain").links[0].ref
    lab.train("tune", epochs=2, inherits=inherits(before, "pretrain.1"))
    found = lab.lineage("tune")
    assert found, said(found)
    assert found.seed == 3
    assert [link.storage for link in found.links] == ["tune.1"] * 3 + ["pretrain.1"] * 3
    assert [link.ends_stage for link in found.links] == [False, False, False, True, False, False]
    assert found.links[2].changes == ("begins from the state that pretrain.1 ended with",)


def test_stage_whose_history_is_gone_is_followed_by_digests_and_said(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train("pretrain", trainer="autoencoder", epochs=2, seed=3)
    before = lab.lineage("pretrain").links[0].ref
    lab.train("tune", epochs=2, inherits=inherits(before, "pretrain.1"))
    forget(lab, "pretrain", monkeypatch)
    found = lab.lineage("tune")
    assert found, said(found)
    assert found.seed == 3
    assert found.notes == [
        "the history of pretrain run 1 is not there: digests alone lead through pretrain.1"
    ]


def test_collected_checkpoint_still_bears_witness_without_its_weights(lab: Laboratory) -> None:
    lab.train(epochs=6)
    make_old(lab.path, hours=48)
    store = lab.checkpoints()
    kept = make_plan(store, [LatestN(2)], referenced={})
    gone = collect(store, kept, preview=False)
    assert len(gone.manifests) == 5
    assert gone.blobs
    found, inquiry = lab.lineage(contains="3")
    assert found, said(found)
    assert [link.checked.is_collected for link in found.links] == [False] * 2 + [True] * 5
    assert len(inquiry.uses) == 6
    assert inquiry.document(found) is not None


def test_lineage_of_any_checkpoint_can_be_asked_for(lab: Laboratory) -> None:
    lab.train()
    third = lab.lineage().links[2].ref
    found = lab.lineage(begin=third.manifest_sha256[:10])
    assert found
    assert [link.ref.cursor.epoch for link in found.links] == [2, 1, 0]
    assert found.evaluated is None
    with pytest.raises(NotProvable, match="no checkpoint of first run 1 begins so"):
        lab.lineage(begin="feedfeed")


def test_nothing_is_written_by_looking(lab: Laboratory) -> None:
    lab.train()
    for folder, _, files in os.walk(lab.path):
        for name in files:
            os.chmod(os.path.join(folder, name), 0o400)
    before = sorted(str(path) for path in lab.path.rglob("*"))
    assert lab.lineage()
    assert sorted(str(path) for path in lab.path.rglob("*")) == before


def inherits(ref: Any, storage: str) -> Any:
    return {"storage": storage, "key": ref.key, "manifest_sha256": ref.manifest_sha256}


def forget(lab: Laboratory, id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store know nothing of a run, as after retention."""
    real = lab.world.store.find_row
    monkeypatch.setattr(
        lab.world.store,
        "find_row",
        lambda workflow_id: None if workflow_id == id else real(workflow_id),
    )
