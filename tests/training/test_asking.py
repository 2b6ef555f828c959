"""Promise: a chunk that loads, saves or evaluates for long says so; one that hangs does not.

Nothing waits for a clock: what takes long ends as soon as the control was asked beside it.
"""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

import tasks.training as bodies
from orchestrator import step
from orchestrator.core.errors import StepCancelled
from orchestrator.training import asking
from orchestrator.training.asking import asked_meanwhile
from orchestrator.training.numpy_trainer import MlpTrainer
from orchestrator.training.session import WarmSessions
from orchestrator.training.work import SaveAs
from tests.training.trainers_kit import at, branch, damage, outcomes

#: Longer than any of this takes; reached only where nobody asks.
PATIENCE_S = 10.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ASK_SECONDS", 0.001)


class Beside:
    """A control that knows whether another thread than the chunk's asks."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._own = threading.get_ident()

    def __call__(self) -> None:
        if threading.get_ident() != self._own:
            self.asked.set()

    def wait(self, then: Callable[..., Any], *given: Any) -> Any:
        """Do what takes until somebody asked."""
        self.asked.clear()
        assert self.asked.wait(PATIENCE_S), "nobody asked meanwhile"
        return then(*given)


@pytest.mark.parametrize("what", ["load", "evaluate", "state"])
def test_what_takes_long_is_asked_meanwhile(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    control = Beside()
    found = branch().through([0, 20])
    real = getattr(MlpTrainer, what)
    monkeypatch.setattr(MlpTrainer, what, lambda *given: control.wait(real, *given))
    # From the store, not from memory: then it loads.
    found.warm = WarmSessions(0)
    save = {"save": SaveAs(kind="interval", evaluate=True)}
    assert found.train(at(40), control=control, **save).complete


def test_a_save_again_is_asked_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    control = Beside()
    found = branch().through([0, 20, 40])
    damage(found.store, found.refs[-1])
    real = MlpTrainer.state
    monkeypatch.setattr(MlpTrainer, "state", lambda self: control.wait(real, self))
    assert outcomes(found.train(at(60), control=control)) == ["healed"]


def test_a_step_that_hangs_is_asked_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    beside: list[list[str]] = []
    real = MlpTrainer.step

    def looks_around(*given: Any) -> Any:
        beside.append([one.name for one in threading.enumerate() if "asking" in one.name])
        return real(*given)

    monkeypatch.setattr(MlpTrainer, "step", looks_around)
    branch().through([0, 20, 40])
    assert beside == [[]] * 40


def test_what_the_control_raises_is_raised_where_the_chunk_is() -> None:
    seen: ContextVar[str] = ContextVar("seen", default="nothing")
    seen.set("what the chunk sees")
    told = threading.Event()

    def control() -> None:
        told.set()
        raise KeyError(seen.get())

    def waits() -> None:
        with asked_meanwhile(control):
            assert told.wait(PATIENCE_S)

    with pytest.raises(KeyError, match="what the chunk sees"):
        waits()
    assert not [one for one in threading.enumerate() if "asking" in one.name]


def test_a_task_that_loads_for_long_tells_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BEAT_SECONDS", 0.0)
    beaten = threading.Event()

    def beat(details: object) -> bool:
        beaten.set()
        return False

    info = step.StepInfo(
        workflow_id="t", workflow="training", run=1, step=2, attempt=1, idempotency_key="k"
    )

    def loads() -> None:
        with asked_meanwhile(bodies._control()):
            assert beaten.wait(PATIENCE_S)

    with step.running(step.RunningStep(info, beat)), pytest.raises(StepCancelled):
        loads()
