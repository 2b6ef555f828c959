"""Promise: what machines, workers and the store do to a training delays it, at its end too.

What is trained is never undone for it, and the bits are those of a run that met nothing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tasks.training as bodies
from orchestrator.core.events import StepScheduled
from orchestrator.training.errors import ObjectStoreUnavailable
from tests.sagas.training_driver import Lab, Weights, order, reference

HOUR_MS = 3_600_000


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("TRAINING_STORE", str(tmp_path))
    lab = Lab(tmp_path)
    yield lab
    lab.world.close()


@pytest.fixture(scope="module")
def uninterrupted() -> Weights:
    return reference(order(0))


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
    for name in ("train_chunk",):
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
