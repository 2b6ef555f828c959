"""Promise: a late failure never repeats an early stage, and what failed can be tried again.

What a stage did is counted by its effects: the steps that were carried out under its name.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.events import ChildCompleted, ChildScheduled
from orchestrator.core.replay import replay
from orchestrator.core.values import loads
from orchestrator.store.ports import Kind
from sagas.app import orc
from sagas.stages_state import StagesPlan, StagesReport, StagesState
from tasks.training_store import open_checkpoints
from tests.sagas.training_driver import SMALL, Lab

PRETRAIN, TUNE, EXAM = "s.1.pretrain-1", "s.1.fine-tune-1", "s.1.exam-1"
ALL = ("training-stages", "training-exam")
PRETRAINED = {"hidden": [16], "batch_size": 128}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("TRAINING_STORE", str(tmp_path))
    lab = Lab(tmp_path)
    lab.world.deploy(*(orc.registry[name] for name in ALL))
    yield lab
    lab.world.close()


def begin(lab: Lab, *, at_least: float = 0.1, tuning: Any = None, **more: Any) -> None:
    """Start a run of small stages."""
    plan = {
        "pretraining": {"trainer": "autoencoder", "epochs": 2, "hparams": PRETRAINED},
        "fine_tuning": {"epochs": 2, "hparams": {**SMALL, **(tuning or {})}},
        "exam": {"at_least": {"accuracy": at_least}, "model": "digits"},
        **more,
    }
    lab.world.start("training-stages", plan, id="s")


def shown(lab: Lab) -> StagesState:
    """What anybody can read."""
    return StagesState.model_validate_json(lab.world.row("s")["state"])


def statuses(lab: Lab) -> list[str]:
    return [stage.status.value for stage in shown(lab).stages]


def did(lab: Lab, task: str) -> int:
    """Count the bodies of a task that were entered."""
    return sum(name == f"tasks.training.{task}" for name, _, _ in lab.world.ran)


def trained(lab: Lab, run: str) -> int:
    """Count the steps that trained for a run, or prepared it."""
    chunks = [args[0] for name, args, _ in lab.world.ran if name.endswith(".train_chunk")]
    prepared = [args[1] for name, args, _ in lab.world.ran if name.endswith(".prepare")]
    return [*(work["run"] for work in chunks), *prepared].count(f"{run}.1")


def finished(lab: Lab) -> StagesReport:
    """Return the report of a run that completed, its history replayed."""
    lab.settle()
    assert lab.world.status("s") == "completed", lab.world.row("s")
    checked(lab)
    return StagesReport.model_validate(lab.world.result("s"))


def checked(lab: Lab) -> None:
    lab.world.check_chain("s")
    replayed = replay(orc.registry["training-stages"], "s", 1, lab.world.events("s"))
    assert replayed.pending == []
    replayed.execution.close()


def failure(lab: Lab) -> str:
    assert lab.world.status("s") == "failed", lab.world.row("s")
    found: Any = loads(lab.world.row("s")["failure"])
    return f"{found['type']}: {found['message']}"


def test_each_stage_is_a_run_and_the_second_goes_on_from_what_the_first_learned(lab: Lab) -> None:
    begin(lab)
    report = finished(lab)
    assert statuses(lab) == ["done", "done", "done"]
    assert [lab.world.status(run) for run in (PRETRAIN, TUNE, EXAM)] == ["completed"] * 3
    first = lab.world.result(PRETRAIN)
    assert isinstance(first, dict)
    assert report.pretrained.manifest_sha256 == shown(lab).stages[0].output
    plan: Any = next(e for e in lab.world.events(TUNE) if type(e).__name__ == "RunStarted")
    assert report.pretrained.manifest_sha256 in repr(plan.args)
    assert report.registered is not None
    assert float(report.metrics["accuracy"]) >= 0.1


def test_the_first_layer_that_was_pretrained_is_the_one_that_is_tuned(lab: Lab) -> None:
    begin(lab)
    report = finished(lab)
    before = open_checkpoints(f"{PRETRAIN}.1").load(
        report.pretrained.manifest_sha256, report.pretrained.key
    )
    first = next(
        ref for ref in lab.state(TUNE).checkpoints if (ref.epoch, ref.step) == (0, 0)
    ).manifest_sha256
    found, _ = open_checkpoints(f"{TUNE}.1").list_manifests()
    key = next(one.key for one in found if one.manifest_sha256 == first)
    after = open_checkpoints(f"{TUNE}.1").load(first, key)
    name = sorted(before.state.groups["model"])[0]
    taken = after.state.groups["model"][name]
    assert (taken == before.state.groups["model"][name]).all()


def test_a_failure_in_stage_three_runs_stage_one_once(lab: Lab) -> None:
    begin(lab, at_least=1.01)
    lab.settle()
    assert statuses(lab) == ["done", "done", "failed"]
    assert shown(lab).status.value == "awaiting_help"
    assert "wanted at least 1.01" in shown(lab).stages[2].reason
    once = trained(lab, PRETRAIN), trained(lab, TUNE)
    assert min(once) >= 2
    lab.world.signal("retry", {"by": "ana", "at_least": {"accuracy": 0.1}}, id="s")
    report = finished(lab)
    assert (trained(lab, PRETRAIN), trained(lab, TUNE)) == once
    assert did(lab, "prepare") == 2
    assert shown(lab).stages[2].workflow_id == "s.1.exam-2"
    assert shown(lab).notes == ["retry by ana: done"]
    assert report.pretrained.manifest_sha256 == shown(lab).stages[0].output
    ordered = [e.id for e in lab.world.events("s") if isinstance(e, ChildScheduled)]
    assert ordered == [PRETRAIN, TUNE, EXAM, "s.1.exam-2"]
    assert sum(isinstance(e, ChildCompleted) for e in lab.world.events("s")) == 3


def test_a_second_stage_that_failed_is_tried_again_with_other_values(lab: Lab) -> None:
    begin(lab, tuning={"lr": "fast"})
    lab.settle()
    assert statuses(lab) == ["done", "failed", "waiting"]
    assert "lr" in shown(lab).stages[1].reason
    once = trained(lab, PRETRAIN)
    lab.world.signal("retry", {"hparams": {"lr": 0.002}}, id="s")
    finished(lab)
    assert trained(lab, PRETRAIN) == once
    assert lab.state("s.1.fine-tune-2").hparams["lr"] == 0.002


def test_an_earlier_stage_is_tried_again_where_that_is_ordered(lab: Lab) -> None:
    begin(lab, at_least=1.01)
    lab.settle()
    order: Any = {"stage": "fine-tune", "hparams": {"lr": 0.004}, "at_least": {"accuracy": 0.1}}
    once = trained(lab, PRETRAIN)
    lab.world.signal("retry", order, id="s")
    report = finished(lab)
    assert trained(lab, PRETRAIN) == once
    assert report.manifest_sha256 == shown(lab).stages[1].output
    assert [stage.attempts for stage in shown(lab).stages] == [1, 2, 2]


def test_orders_that_do_not_fit_change_nothing_and_are_noted(lab: Lab) -> None:
    begin(lab, at_least=1.01)
    lab.world.turn()
    lab.world.signal("retry", {}, id="s")
    lab.settle()
    lab.world.signal("retry", {"hparams": {"lr": 1}}, id="s")
    lab.settle()
    assert [note.partition(": ")[2] for note in shown(lab).notes] == [
        "no stage waits for it",
        "the exam has no hyperparameters; name the stage that they are for",
    ]
    assert statuses(lab) == ["done", "done", "failed"]
    lab.world.signal("give_up", {"by": "bo", "reason": "enough"}, id="s")
    lab.settle()
    assert failure(lab).startswith("StageFailed: stage exam failed: accuracy is ")
    assert failure(lab).endswith("given up by bo: enough")
    assert shown(lab).status.value == "failed"
    checked(lab)


def test_a_failed_stage_that_nobody_asks_for_again_ends_the_run(lab: Lab) -> None:
    begin(lab, at_least=1.01, patience_s=60)
    lab.settle()
    lab.world.advance(60_001)
    lab.settle()
    assert "nobody said what to do within 0:01:00" in failure(lab)


def test_output_of_the_first_stage_outlives_a_failed_run_and_starts_the_next(lab: Lab) -> None:
    begin(lab, at_least=1.01, patience_s=60)
    lab.settle()
    first: Any = lab.world.result(PRETRAIN)
    lab.world.advance(2 * 3_600_000)
    lab.settle()
    once = did(lab, "prepare")
    ref = first["checkpoint"]
    given = {"storage": first["storage"], "key": ref["key"]}
    given["manifest_sha256"] = ref["manifest_sha256"]
    again = {"pretrained": given, "exam": {"at_least": {}}, "fine_tuning": {"epochs": 1}}
    again["fine_tuning"]["hparams"] = SMALL
    lab.world.start("training-stages", again, id="next")
    lab.settle()
    assert lab.world.status("next") == "completed", lab.world.row("next")
    assert did(lab, "prepare") == once + 1
    state = StagesState.model_validate_json(lab.world.row("next")["state"])
    assert [stage.status.value for stage in state.stages] == ["given", "done", "done"]


def test_cancelling_the_whole_cancels_the_stage_that_runs_which_cleans_up(lab: Lab) -> None:
    begin(lab)
    while lab.world.store.find_row(TUNE) is None or lab.state(TUNE).epoch < 1:
        assert lab.work_once()
    lab.world.post(Kind.CANCEL, {"request_id": "c", "reason": "enough"}, id="s")
    lab.settle()
    assert [lab.world.status(run) for run in ("s", TUNE)] == ["cancelled", "cancelled"]
    assert lab.world.status(PRETRAIN) == "completed"
    assert statuses(lab) == ["done", "cancelled", "waiting"]
    assert lab.state(TUNE).status.value == "cancelled"
    # Of the first stage at its end, of the second because it was cancelled.
    assert did(lab, "clean_up") == 2
    # What was done is not undone.
    open_checkpoints(f"{PRETRAIN}.1").load(shown(lab).stages[0].output, first_key(lab))


def first_key(lab: Lab) -> str:
    first: Any = lab.world.result(PRETRAIN)
    return str(first["checkpoint"]["key"])


def test_all_of_it_holds_where_the_orchestrator_dies_between_any_two_things(lab: Lab) -> None:
    begin(lab, at_least=1.01)
    lab.settle()
    lab.world.signal("retry", {"at_least": {"accuracy": 0.1}}, id="s")
    calm = finished(lab)
    calm_bodies = len(lab.world.ran)

    other = Lab(lab.directory / "restless", restless=True)
    other.world.deploy(*(orc.registry[name] for name in ALL))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINING_STORE", str(other.directory))
        begin(other, at_least=1.01)
        other.settle()
        other.world.signal("retry", {"at_least": {"accuracy": 0.1}}, id="s")
        restless = finished(other)
    other.world.close()
    assert restless == calm
    assert len(other.world.ran) == calm_bodies, "nothing was done twice"


def test_a_plan_that_names_two_sources_is_refused() -> None:
    inherits = {"storage": "a", "key": "k", "manifest_sha256": "0" * 64}
    with pytest.raises(ValueError, match="it is the first stage, or `pretrained`"):
        StagesPlan.model_validate({"fine_tuning": {"inherits": inherits}})
