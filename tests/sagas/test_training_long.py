"""Promise: a training of any length ends; that it went on as new on the way shows nowhere.

Every comparison is with a run of the same plan and orders whose history was never too long.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core import context
from orchestrator.store.ports import Kind
from sagas import training_carried, training_course
from sagas.training_state import TrainingReport
from tasks.training_store import open_checkpoints
from tests.sagas.test_training_keeping import make_old, saved
from tests.sagas.training_driver import Lab, order, reference

#: Some ten chunks; a history longer than this goes on as new.
SHORT = 30
Play = Callable[[Lab], object]


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Lab]]:
    """Make laboratories, each with a store of its own; one after the other."""
    made: list[Lab] = []

    def make(suggested: int = SHORT, **more: Any) -> Lab:
        path = tmp_path / str(len(made))
        path.mkdir()
        monkeypatch.setenv("TRAINING_STORE", str(path))
        monkeypatch.setattr(context, "HISTORY_EVENTS_SUGGESTED", suggested)
        made.append(Lab(path, step_s=0.08, **more))
        return made[-1]

    yield make
    for lab in made:
        lab.world.close()


def told(lab: Lab, id: str = "t") -> dict[str, Any]:
    """Return all that can be seen of a training that ended."""
    report = lab.finish(id)
    return {"report": report, "weights": lab.weights(id), "state": lab.state(id)}


def undisturbed(lab: Lab) -> None:
    lab.start(epochs=40, saving={}, model="digits")


def ordered_about(lab: Lab) -> None:
    lab.start(epochs=40, saving={"every_epochs": 2}, review={"every_epochs": 15, "timeout_s": 60})
    lab.until(8)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.002}, by="ana")
    lab.settle()
    lab.world.advance(61_000)
    lab.until(16)
    to = next(one for one in lab.state().checkpoints if one.epoch == 9)
    lab.signal("rollback", to=to.manifest_sha256)
    lab.settle()
    lab.world.advance(61_000)
    lab.until(22)
    lab.signal("reseed", seed=5)
    lab.signal("pause")
    lab.settle()
    lab.signal("decide", decision="adjust", hparams={"lr": 0.001})
    lab.signal("resume")
    lab.settle()
    lab.world.advance(61_000)
    lab.settle()
    assert lab.state().status.value == "completed"


def forked(lab: Lab) -> None:
    lab.start(epochs=40, saving={"every_epochs": 1})
    lab.until(15)
    lab.signal("fork", seeds=[11])
    lab.until(22)
    lab.signal("fork", seeds=[12], hparams={"lr": 0.01})


@pytest.mark.parametrize("play", [undisturbed, ordered_about, forked])
def test_a_run_that_goes_on_as_new_is_the_run_it_was(labs: Callable[..., Lab], play: Play) -> None:
    whole = labs(suggested=1_000_000)
    play(whole)
    wanted = {id: told(whole, id) for id in ["t", *whole.state().forks]}
    assert whole.runs() == 1
    cut = labs()
    play(cut)
    found = {id: told(cut, id) for id in ["t", *cut.state().forks]}
    assert min(cut.runs(id) for id in found) >= 2, "forks go on as new, too"
    assert found == wanted


def test_it_goes_on_though_orchestrators_die_and_workers_remember_nothing(
    labs: Callable[..., Lab],
) -> None:
    lab = labs(restless=True)
    lab.start(epochs=16, saving={})
    while lab.work_once():
        lab.forget_memory()
    lab.finish()
    assert lab.runs() >= 2
    assert lab.weights() == reference(order(0), epochs=16)


def test_an_order_is_taken_once_whenever_it_comes(labs: Callable[..., Lab]) -> None:
    """One before each step and one behind it, so that some meet the run as it goes on as new."""
    lab = labs()
    lab.start(epochs=24, saving={})
    sent = 0
    while lab.work_once() and lab.state().epoch < 23:
        lab.signal("decide", decision="continue", by=f"n{sent}")
        sent += 1
        if sent % 3:
            lab.work_once()
    lab.settle()
    lab.finish()
    assert lab.runs() >= 2
    assert [one.by for one in lab.acknowledged()] == [f"n{number}" for number in range(sent)]


def test_forks_that_did_not_start_are_counted_over_all_runs(labs: Callable[..., Lab]) -> None:
    lab = labs()
    lab.start("t-fork-1", epochs=60, review={"every_epochs": 1})
    lab.start(epochs=40, saving={})
    lab.until(3)
    lab.signal("fork", seeds=[11])
    while lab.runs() < 2:
        assert lab.work_once()
    lab.signal("fork", seeds=[12])
    lab.finish()
    assert lab.state().forks == ["t-fork-2"]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_one_that_is_cancelled_after_it_went_on_tidies_up_behind_all_its_runs(
    labs: Callable[..., Lab], steps: int
) -> None:
    """With no step of its last run: what that run is to take over, nobody has begun yet."""
    lab = labs()
    lab.start(epochs=60, saving={"every_epochs": 1}, keeping={"latest": 1, "best": 0})
    lab.until(3)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.002})
    while lab.runs() < 3:
        assert lab.work_once()
    for _ in range(steps):
        assert lab.work_once()
    make_old(lab)
    lab.world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c1"}, id="t")
    lab.settle()
    assert lab.world.status("t") == "cancelled"
    assert lab.state().status.value == "cancelled"
    at = lab.acknowledged()[0].epoch
    left = saved(lab, "main")
    assert left[0] == at
    assert len(left) == 3, "what the order began from, and the newest two"


def test_a_run_that_was_told_to_stop_in_a_later_run_ends_with_its_result(
    labs: Callable[..., Lab],
) -> None:
    lab = labs()
    lab.start(epochs=60, saving={}, model="digits")
    while lab.runs() < 3:
        assert lab.work_once()
    lab.signal("decide", decision="stop")
    report = lab.finish()
    assert report.stopped_early
    assert report.storage == "t.1"
    assert lab.weights() == reference(order(0), epochs=report.epochs)


def test_what_does_not_fit_into_a_start_goes_on_with_the_history_it_has(
    labs: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_carried, "CARRIED_BYTES_MAX", 1_000)
    lab = labs()
    lab.start(epochs=20, saving={})
    lab.finish()
    assert lab.runs() == 1


def test_a_branch_remembers_so_many_checkpoints(
    labs: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_course, "REFS_MAX", 4)
    monkeypatch.setattr("sagas.training_trouble.REFS_MAX", 4)
    lab = labs()
    lab.start(epochs=20)
    lab.until(3)
    first = lab.state().checkpoints[0]
    assert first.epoch == 0
    lab.until(9)
    assert len(lab.state().checkpoints) == 4
    lab.signal("rollback", to=first.manifest_sha256)
    lab.finish()
    assert [one.applied for one in lab.acknowledged()] == [False]
    assert TrainingReport.model_validate(lab.world.result("t")).epochs == 20
    assert len(open_checkpoints("t.1").list_manifests()[0]) == 21, "the store has them all"
