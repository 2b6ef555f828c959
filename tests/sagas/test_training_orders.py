"""Promise: what a researcher orders takes effect between two chunks, and is told with its place.

The bits are those of the same orders at the same steps without any interruption; what does not fit
changes nothing and says why.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import ApplicationError
from orchestrator.core.limits import WORKFLOW_ID_CHARS_MAX
from orchestrator.store.ports import Kind
from tasks.training import train_chunk
from tests.sagas.training_driver import Lab, Weights, order, reference


@pytest.fixture(params=[False, True], ids=["calm", "restless"])
def lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Lab]:
    """Restless: the orchestrator dies after everything that happens."""
    monkeypatch.setenv("TRAINING_STORE", str(tmp_path))
    lab = Lab(tmp_path, restless=request.param)
    yield lab
    lab.world.close()


def refuse(*_args: Any, **_kwargs: Any) -> None:
    raise ApplicationError("other data", type="DatasetChanged", non_retryable=True)


def told(lab: Lab, id: str = "t") -> list[tuple[str, bool, int, str]]:
    """Return order, whether it was carried out, epoch and branch of each."""
    return [(one.order, one.applied, one.epoch, one.branch) for one in lab.acknowledged(id)]


def test_values_are_adjusted_after_the_chunk_under_way(lab: Lab) -> None:
    lab.start()
    lab.until(2)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.01}, by="ana")
    lab.until(4)
    lab.signal("decide", decision="adjust", hparams={"dropout": 0})
    lab.finish()
    assert lab.weights() == reference(order(0), order(3, lr=0.01), order(5, lr=0.01, dropout=0))
    assert told(lab) == [("adjust", True, 3, "main"), ("adjust", True, 5, "main")]
    assert (lab.acknowledged()[0].by, lab.acknowledged()[0].detail) == ("ana", "lr=0.01")


def test_orders_hold_when_their_checkpoints_are_gone_too(lab: Lab) -> None:
    lab.start()
    lab.until(2)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.01})
    lab.until(5)
    for path in [*lab.directory.rglob("ckpt/main/*.json")]:
        path.unlink()
    lab.forget_memory()
    lab.finish()
    assert lab.weights() == reference(order(0), order(3, lr=0.01))


def test_a_run_pauses_saved_and_goes_on_where_it_was(lab: Lab, uninterrupted: Weights) -> None:
    lab.start(saving={"every_epochs": 3})
    lab.until(1)
    lab.signal("pause", by="ana", reason="the machine is needed")
    lab.settle()
    state = lab.state()
    assert state.status.value == "paused"
    assert "ana" in state.reason
    assert "the machine is needed" in state.reason
    newest = state.checkpoints[-1]
    assert (newest.epoch, newest.step) == (state.epoch, state.step), "nothing is in memory alone"
    lab.forget_memory()
    lab.signal("resume")
    lab.finish()
    assert lab.weights() == uninterrupted
    assert [name for name, *_ in told(lab)] == ["pause", "resume"]
    assert lab.chunks[-1].repeated_steps == 0


def test_a_run_that_is_stopped_is_evaluated_as_it_is(lab: Lab) -> None:
    lab.start()
    lab.until(2)
    lab.signal("decide", decision="stop")
    report = lab.finish()
    assert (report.epochs, report.stopped_early) == (3, True)
    assert lab.weights() == reference(order(0), epochs=3)


def test_what_comes_behind_a_stop_is_too_late_and_the_report_says_what_was_trained(
    lab: Lab,
) -> None:
    lab.start()
    lab.until(2)
    lab.signal("decide", decision="stop")
    lab.signal("reseed", seed=99)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.5})
    report = lab.finish()
    assert (report.branch, report.seed, report.hparams["lr"]) == ("main", 7, 0.001)
    assert [applied for _, applied, _, _ in told(lab)] == [True, False, False]
    assert all("too late" in one.detail for one in lab.acknowledged()[1:])
    assert lab.weights() == reference(order(0), epochs=3)


def test_nobody_comes_to_a_review_and_it_goes_on(lab: Lab, uninterrupted: Weights) -> None:
    lab.start(review={"every_epochs": 3, "timeout_s": 600})
    lab.settle()
    assert lab.state().status.value == "awaiting_review"
    assert lab.state().epoch == 3
    lab.world.advance(601_000)
    lab.finish()
    assert "nobody decided" in lab.state().reason
    assert lab.weights() == uninterrupted


def test_a_review_takes_what_is_decided(lab: Lab) -> None:
    lab.start(review={"every_epochs": 3, "timeout_s": 600})
    lab.settle()
    lab.signal("decide", decision="adjust", hparams={"lr": 0.01})
    lab.finish()
    assert lab.weights() == reference(order(0), order(3, lr=0.01))


def test_a_review_goes_on_waiting_after_an_order_that_is_refused(lab: Lab) -> None:
    lab.start(review={"every_epochs": 3, "timeout_s": 600})
    lab.settle()
    lab.world.advance(300_000)
    lab.signal("decide", decision="adjust", hparams={"lr": -1})
    lab.settle()
    assert told(lab) == [("adjust", False, 3, "main")]
    assert lab.state().status.value == "awaiting_review"
    lab.world.advance(100_000)
    lab.settle()
    assert lab.state().epoch == 3
    lab.world.advance(250_000)
    lab.finish()
    assert "nobody decided" in lab.state().reason, "it waited no longer than it was to"


def test_a_branch_that_comes_to_a_review_waits_for_one_of_its_own(lab: Lab) -> None:
    lab.start(review={"every_epochs": 3, "timeout_s": 600})
    lab.settle()
    to = next(one for one in lab.state().checkpoints if one.epoch == 1)
    lab.signal("rollback", to=to.manifest_sha256)
    lab.settle()
    state = lab.state()
    assert (state.status.value, state.epoch, state.branch) == ("awaiting_review", 3, "main@2")
    lab.signal("reseed", seed=99)
    report = lab.finish()
    assert (report.branch, report.epochs) == ("main@3", 6), "one review is enough for one place"
    assert lab.weights() == reference(order(0), order(3, seed=99))


def test_going_back_makes_a_branch_and_forgets_what_came_after(
    lab: Lab, uninterrupted: Weights
) -> None:
    lab.start()
    lab.until(2)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.01})
    lab.until(4)
    to = next(one for one in lab.state().checkpoints if one.epoch == 3)
    lab.signal("rollback", to=to.manifest_sha256[:8])
    report = lab.finish()
    assert report.branch == "main@2"
    # The adjustment came after that checkpoint was saved.
    assert lab.weights() == uninterrupted
    assert told(lab)[-1][0] == "rollback"
    assert [*lab.directory.rglob("ckpt/main/000000000060*.json")], "nothing was deleted"


def test_another_seed_from_here_on_is_a_branch(lab: Lab) -> None:
    lab.start()
    lab.until(2)
    lab.signal("reseed", seed=99)
    report = lab.finish()
    assert (report.branch, report.seed) == ("main@2", 99)
    assert lab.weights() == reference(order(0), order(3, seed=99))


def test_forks_go_on_from_here_with_their_own_seeds(lab: Lab, uninterrupted: Weights) -> None:
    lab.start()
    lab.until(2)
    lab.signal("fork", seeds=[11, 12], hparams={"lr": 0.01})
    lab.finish()
    assert lab.weights() == uninterrupted, "the run itself goes on as it was"
    forks = lab.state().forks
    assert forks == ["t-fork-1", "t-fork-2"]
    for fork, seed in zip(forks, (11, 12), strict=True):
        lab.finish(fork)
        assert lab.weights(fork) == reference(order(0), order(3, seed=seed, lr=0.01))
        assert lab.state(fork).seed == seed


def test_a_fork_whose_id_is_taken_is_told_and_the_others_start(lab: Lab) -> None:
    lab.start("t-fork-1")
    lab.start("t-fork-3")
    lab.start()
    lab.until(2)
    lab.signal("fork", seeds=[11])
    lab.signal("fork", seeds=[12, 13, 14])
    lab.finish()
    assert [applied for _, applied, _, _ in told(lab)] == [False, True]
    first, second = (one.detail for one in lab.acknowledged())
    assert "t-fork-1" in first
    assert "refused" in first
    assert second.startswith("t-fork-2, t-fork-4, child t-fork-3")
    assert lab.state().forks == ["t-fork-2", "t-fork-4"]
    for fork, seed in (("t-fork-2", 12), ("t-fork-4", 14)):
        lab.finish(fork)
        assert lab.state(fork).seed == seed
    assert lab.state("t-fork-1").branch == "main", "a run of its own"


def test_a_run_with_a_long_id_is_forked_as_long_as_there_is_room(lab: Lab) -> None:
    for length, is_applied in ((150, True), (WORKFLOW_ID_CHARS_MAX, False)):
        id = "t" * length
        lab.start(id)
        lab.until(2, id)
        lab.signal("fork", id=id, seeds=[11])
        lab.finish(id)
        assert [one.applied for one in lab.acknowledged(id)] == [is_applied]
        assert lab.state(id).forks == ([f"{id}-fork-1"] if is_applied else [])


def test_a_training_that_is_cancelled_leaves_its_forks_alone(lab: Lab) -> None:
    lab.start()
    lab.until(2)
    lab.signal("fork", seeds=[11])
    lab.until(4)
    lab.world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c1"}, id="t")
    lab.settle()
    assert lab.state().status.value == "cancelled"
    assert lab.finish("t-fork-1").seed == 11


def test_orders_that_do_not_fit_change_nothing(lab: Lab, uninterrupted: Weights) -> None:
    lab.start()
    lab.until(2)
    lab.signal("decide", decision="adjust", hparams={"lr": -1})
    lab.signal("decide", decision="adjust", hparams={"lr": 10**400})
    lab.signal("decide", decision="adjust", hparams={"learning_rate": 0.1})
    lab.signal("decide", decision="adjust", hparams={"hidden": [8]})
    lab.signal("rollback", to="0123456789")
    lab.signal("fork", seeds=[1], hparams={"lr": "fast"})
    lab.signal("decide", decision="continue", hparams={"lr": 0.5})
    lab.finish()
    assert lab.weights() == uninterrupted
    assert [applied for _, applied, _, _ in told(lab)] == [False] * 7
    details = [one.detail for one in lab.acknowledged()]
    known = ("lr", "lr", "learning_rate", "hidden", "no checkpoint of main", "lr", "hparams")
    for detail, words in zip(details, known, strict=True):
        assert words in detail
    assert lab.state().forks == []


def test_what_the_estimator_does_not_take_is_refused_where_it_is_ordered(lab: Lab) -> None:
    lab.start(trainer="sklearn", hparams={"estimator": "SGDClassifier", "batch_size": 128})
    lab.until(2)
    lab.signal("decide", decision="adjust", hparams={"adjust": {"momentum": 0.9}})
    lab.signal("decide", decision="adjust", hparams={"adjust": {"alpha": -1}})
    lab.signal("decide", decision="adjust", hparams={"adjust": {"alpha": 0.01}})
    report = lab.finish()
    assert [applied for _, applied, _, _ in told(lab)] == [False, False, True]
    assert "SGDClassifier" in lab.acknowledged()[0].detail
    assert report.hparams["adjust"] == {"alpha": 0.01}


def test_a_signal_that_is_no_order_is_refused_and_training_goes_on(
    lab: Lab, uninterrupted: Weights
) -> None:
    lab.start()
    lab.until(2)
    lab.signal("decide", decision="perhaps")
    lab.signal("reseed", seed="x")
    lab.finish()
    assert lab.weights() == uninterrupted
    assert told(lab) == []


def test_what_comes_too_late_is_told_so(lab: Lab, uninterrupted: Weights) -> None:
    lab.start()
    lab.until(5)
    lab.signal("pause")
    lab.until(6)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.5})
    lab.finish()
    assert lab.weights() == uninterrupted
    assert told(lab) == [("pause", False, 6, "main"), ("adjust", False, 6, "main")]
    assert all("too late" in one.detail for one in lab.acknowledged())


def test_orders_are_answered_when_a_chunk_fails_for_good(lab: Lab) -> None:
    lab.start()
    lab.until(2)
    lab.signal("pause")
    lab.world.tasks[train_chunk.name] = refuse
    lab.settle()
    assert "DatasetChanged" in lab.failure()
    assert told(lab) == [("pause", False, 2, "main")]
    assert "too late" in lab.acknowledged()[0].detail


def test_orders_are_answered_when_a_run_is_cancelled(lab: Lab) -> None:
    lab.start()
    lab.until(2)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.01})
    lab.world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c1"}, id="t")
    lab.settle()
    assert lab.state().status.value == "cancelled"
    assert told(lab) == [("adjust", False, 2, "main")]
