"""Promise: a worker that is told to stop while it trains again what was lost moves no order.

What was acknowledged at a place takes effect there, whoever dies on the way to it.
"""

from itertools import count

import pytest

import orchestrator.training.describing as describing
import orchestrator.training.runner as runner
from orchestrator import step
from orchestrator.training.environment import Environment
from tasks.training_store import open_checkpoints
from tests.sagas.training_driver import STEPS, Lab, order, reference, stops_of


def stop_after(lab: Lab, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a worker without memory take the next chunk, and be told to stop after so many steps."""
    lab.forget_memory()
    asked = count()
    with monkeypatch.context() as patch:
        patch.setattr(step, "is_stopping", lambda: next(asked) == steps)
        assert lab.work_once()
    lab.forget_memory()


def lose_newest(lab: Lab) -> None:
    digest = lab.state().checkpoints[-1].manifest_sha256
    found = open_checkpoints("t.1").list_manifests()[0]
    (lab.directory / next(one.key for one in found if one.manifest_sha256 == digest)).unlink()


def on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    own = describing.environment_of

    def other(trainer: object) -> Environment:
        return Environment(facts={**own(trainer).facts, "numpy": "9.9"})  # type: ignore[arg-type]

    monkeypatch.setattr(describing, "environment_of", other)
    monkeypatch.setattr(runner, "environment_of", other)


@pytest.mark.parametrize("steps", [0, 5], ids=["before its first step", "in the middle"])
def test_a_stop_behind_a_lost_checkpoint_keeps_the_place_of_an_order(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    lab.start()
    lab.until(2)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.01})
    lab.until(3)
    lab.world.turn()
    assert lab.acknowledged()[0].epoch == 3
    lose_newest(lab)
    stop_after(lab, steps, monkeypatch)
    assert (lab.state().epoch, lab.state().step) == (3, 0)
    lab.finish()
    assert lab.weights() == reference(order(0), order(3, lr=0.01))
    healed = [bad.outcome for chunk in lab.chunks for bad in chunk.rejected]
    assert healed == ["left", "healed"], "the next to come by mends it"


def test_what_was_trained_again_before_a_stop_is_saved(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.step_s = 1.0
    lab.start(saving={"every_epochs": 4})
    lab.until(3)
    assert [saved.epoch for saved in lab.state().checkpoints] == [0, 1]
    on_another_machine(monkeypatch)
    lab.forget_memory()
    lab.settle()
    assert lab.state().status.value == "paused"
    lab.signal("decide", decision="adjust", hparams={"lr": 0.01})
    lab.signal("resume", environment="flag")
    stop_after(lab, STEPS + 3, monkeypatch)
    assert stops_of(lab.chunks)[-1] == (2, 3)
    lab.finish()
    assert lab.weights() == reference(order(0), order(3, lr=0.01))
    again = next(c for c in lab.chunks if c.stopped_at.epoch > 3)
    assert again.repeated_steps == STEPS - 3, "not from the beginning"


def test_a_checkpoint_that_an_order_needs_is_saved_though_a_worker_stops(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.step_s = 1.0
    lab.start(saving={"every_epochs": 4})
    lab.until(2)
    lab.signal("fork", seeds=[11])
    lab.until(3)
    stop_after(lab, 5, monkeypatch)
    lab.finish()
    lab.finish("t-fork-1")
    assert lab.acknowledged()[0].epoch == 3
    assert lab.weights("t-fork-1") == reference(order(0), order(3, seed=11))


def test_a_run_ends_where_it_was_ended_though_a_worker_stops(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.step_s = 1.0
    lab.start(saving={"every_epochs": 4})
    lab.until(2)
    lab.signal("decide", decision="stop")
    lab.until(3)
    stop_after(lab, 5, monkeypatch)
    report = lab.finish()
    assert report.epochs == 3
    assert report.checkpoint["cursor"] == {"epoch": 3, "step": 0}
    assert lab.weights() == reference(order(0), epochs=3)
