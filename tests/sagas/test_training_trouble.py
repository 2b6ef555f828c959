"""Promise: what machines, workers and the store do to a training delays it, at its end too.

What is trained is never undone for it, and the bits are those of a run that met nothing.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import tasks.training as bodies
from orchestrator.core.events import StepScheduled
from orchestrator.training.errors import ObjectStoreUnavailable
from orchestrator.training.numpy_trainer import MlpTrainer
from orchestrator.training.trainer import Context
from tests.sagas.test_training_damage import newest
from tests.sagas.test_training_repeats import on_another_machine
from tests.sagas.training_driver import Lab, Weights, order, reference

HOUR_MS = 3_600_000


def failing(lab: Lab, name: str, with_: Callable[[], Exception]) -> Callable[[], None]:
    """Let every attempt at a task fail; return what ends that."""
    task = getattr(bodies, name).name
    own = lab.world.tasks[task]

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise with_()

    def end() -> None:
        lab.world.tasks[task] = own

    lab.world.tasks[task] = fail
    return end


def pass_time(lab: Lab, ms: int, *, by_ms: int = 30_000) -> None:
    """Let time pass, and whatever is due be done."""
    for _ in range(0, ms, by_ms):
        lab.settle()
        lab.world.advance(by_ms)


def scheduled(lab: Lab, name: str) -> list[StepScheduled]:
    task = getattr(bodies, name).name
    events = lab.world.events("t")
    return [one for one in events if isinstance(one, StepScheduled) and one.task == task]


def away() -> Exception:
    return ObjectStoreUnavailable("read", "t.1/ckpt", "refused")


def test_a_chunk_waits_half_a_minute_at_most_between_two_attempts(lab: Lab) -> None:
    lab.start(epochs=1)
    lab.finish()
    for name in ("train_chunk", "evaluate"):
        retry = scheduled(lab, name)[0].options["retry"]
        assert retry == {
            "attempts": 50,
            "initial_ms": 200,
            "factor": 2.0,
            "interval_max_ms": 30_000,
            "non_retryable": [],
        }


def test_a_store_that_is_away_for_hours_delays_a_run(lab: Lab, uninterrupted: Weights) -> None:
    lab.start()
    lab.until(3)
    back = failing(lab, "train_chunk", away)
    pass_time(lab, HOUR_MS)
    assert lab.world.status("t") == "running"
    assert "no answer" in lab.state().reason
    back()
    pass_time(lab, 60_000)
    lab.finish()
    assert lab.weights() == uninterrupted


def test_workers_that_die_with_one_chunk_pause_the_run(lab: Lab, uninterrupted: Weights) -> None:
    lab.start()
    lab.until(3)
    for _ in range(200):
        lab.world.turn()
        message = lab.world.pop()
        if message is not None:
            lab.world.claim(message)
        lab.world.advance(30_000)
    lab.world.turn()
    state = lab.state()
    assert (lab.world.status("t"), state.status.value) == ("running", "paused")
    assert "attempt 50" in state.reason
    lab.signal("resume")
    lab.finish()
    assert lab.weights() == uninterrupted


def test_a_trainer_that_is_wrong_fails_its_run(lab: Lab) -> None:
    lab.start()
    lab.until(3)
    failing(lab, "train_chunk", lambda: KeyError("w0"))
    pass_time(lab, HOUR_MS)
    assert "KeyError" in lab.failure()


def at_the_end(lab: Lab, **plan: Any) -> None:
    """Train to the end; what comes after waits."""
    lab.start(model="digits", **plan)
    lab.until(6)
    lab.world.turn()


@pytest.mark.parametrize("remembers", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("part", ["model", "manifest"])
def test_a_damaged_last_checkpoint_is_made_again_and_evaluated(
    lab: Lab, uninterrupted: Weights, part: str, *, remembers: bool
) -> None:
    at_the_end(lab)
    last = lab.state().checkpoints[-1].manifest_sha256
    newest(lab, part).unlink()
    if not remembers:
        lab.forget_memory()
    report = lab.finish()
    assert lab.weights() == uninterrupted
    assert report.checkpoint["manifest_sha256"] == last
    assert report.registered is not None
    assert last in report.registered
    assert "epoch 6" in lab.state().rejected[-1]


def test_the_last_two_checkpoints_are_damaged(lab: Lab, uninterrupted: Weights) -> None:
    at_the_end(lab)
    newest(lab, "model").unlink()
    newest(lab, "model", back=1).unlink()
    newest(lab, "manifest", back=1).unlink()
    lab.forget_memory()
    assert lab.finish().epochs == 6
    assert lab.weights() == uninterrupted
    assert len(lab.state().rejected) == 2


def test_a_machine_that_rounds_differently_at_the_end_pauses_the_run(
    lab: Lab, uninterrupted: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_end(lab)
    with monkeypatch.context() as patch:
        on_another_machine(patch)
        lab.forget_memory()
        lab.settle()
        assert lab.state().status.value == "paused"
        assert "numpy 9.9" in lab.state().reason
        lab.signal("decide", decision="stop")
        lab.settle()
        assert lab.acknowledged()[-1].detail.startswith("too late")
    lab.signal("resume")
    lab.finish()
    assert lab.weights() == uninterrupted
    assert [(one.order, one.applied) for one in lab.acknowledged()] == [
        ("stop", False),
        ("resume", True),
    ]


def test_the_last_save_waits_for_a_machine_that_fits_and_may_be_told_to_go_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.step_s = 1.0
    lab.start(saving={"every_epochs": 4})
    lab.until(2)
    lab.signal("decide", decision="stop")
    lab.until(3)
    on_another_machine(monkeypatch)
    lab.forget_memory()
    lab.settle()
    assert lab.state().status.value == "paused"
    lab.signal("resume", environment="flag")
    lab.finish()
    assert lab.weights() == reference(order(0), epochs=3)
    assert not lab.state().bit_identical


@pytest.mark.parametrize("name", ["evaluate", "register"])
def test_a_store_that_is_away_at_the_end_delays_it(
    lab: Lab, uninterrupted: Weights, name: str
) -> None:
    at_the_end(lab)
    back = failing(lab, name, away)
    pass_time(lab, HOUR_MS)
    assert lab.world.status("t") == "running"
    back()
    pass_time(lab, 120_000)
    assert lab.finish().registered is not None
    assert lab.weights() == uninterrupted


def test_a_model_stays_registered_though_nothing_could_be_tidied_up(
    lab: Lab, uninterrupted: Weights
) -> None:
    at_the_end(lab)
    failing(lab, "clean_up", away)
    pass_time(lab, HOUR_MS)
    report = lab.finish()
    assert report.registered is not None
    assert (lab.directory / report.registered).is_file()
    assert "no answer" in lab.state().reason
    assert lab.weights() == uninterrupted


def test_all_that_needs_a_trainer_goes_to_the_queue_of_the_plan(lab: Lab) -> None:
    lab.start(queue="train", epochs=1)
    while any(lab.world.store.queues.values()) or lab.world.status("t") != "completed":
        lab.world.turn()
        for queue in [*lab.world.store.queues]:
            lab.world.work(queue)
    for name in ("prepare", "train_chunk", "evaluate"):
        assert {one.options["queue"] for one in scheduled(lab, name)} == {"train"}


def diverge(monkeypatch: pytest.MonkeyPatch, since_epoch: int) -> None:
    """Let losses be what no number is, from an epoch on."""
    step, evaluate = MlpTrainer.step, MlpTrainer.evaluate

    def diverged(self: MlpTrainer, ctx: Context, epoch: int, at: int) -> Mapping[str, float]:
        found = step(self, ctx, epoch, at)
        return {**found, "loss": math.nan} if epoch >= since_epoch else found

    def worthless(self: MlpTrainer, ctx: Context) -> Mapping[str, float]:
        return {**evaluate(self, ctx), "loss": math.inf}

    monkeypatch.setattr(MlpTrainer, "step", diverged)
    monkeypatch.setattr(MlpTrainer, "evaluate", worthless)


def test_a_loss_that_is_no_number_pauses_the_run_and_is_shown(
    lab: Lab, uninterrupted: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.start()
    with monkeypatch.context() as patch:
        diverge(patch, since_epoch=2)
        lab.settle()
    state = lab.state()
    assert (state.status.value, state.epoch, state.loss) == ("paused", 3, "nan")
    assert "the loss is nan at epoch 3" in state.reason
    assert state.best_epoch == 2
    assert [epoch for epoch, _ in state.curve] == [1, 2]
    good = next(one for one in state.checkpoints if one.epoch == 2)
    lab.signal("rollback", to=good.manifest_sha256)
    lab.signal("resume")
    lab.forget_memory()
    lab.finish()
    assert lab.weights() == uninterrupted
    assert lab.state().loss != "nan"


def test_a_model_that_is_worth_no_number_is_told_so(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.start(model="digits")
    diverge(monkeypatch, since_epoch=5)
    report = lab.finish()
    assert report.metrics["loss"] == "inf"
    assert lab.state().metrics == report.metrics
    assert lab.state().loss == "nan"
