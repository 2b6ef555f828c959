"""Promise: trainings side by side in one process come to the bits they come to alone.

Those that draw from the generators of the process have them for themselves while they draw.
"""

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import ClassVar

import numpy as np
import pytest

from orchestrator.training import rng, trainers
from orchestrator.training.numpy_trainer import MlpTrainer
from orchestrator.training.state import State
from orchestrator.training.trainer import Context
from orchestrator.training.trainers import register_trainer
from orchestrator.training.work import SaveAs
from tests.training.trainers_kit import STEPS, at, branch


class Drawing(MlpTrainer):
    """Draws from numpy's own generator, many times a step."""

    draws_from_globals: ClassVar[bool] = True

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """Move the weights about, one by one."""
        found = super().step(ctx, epoch, step)
        for index in range(50):
            self._network.theta[index] += np.float32(np.random.random() * 1e-3)
        return found


class Asking(Drawing):
    """Notes whether another thread could have had the generators meanwhile."""

    shared: ClassVar[dict[str, bool]] = {}

    def init(self, ctx: Context) -> None:
        """Ask, and begin."""
        self._ask("init")
        super().init(ctx)

    def load(self, state: State, ctx: Context) -> None:
        """Ask, and load."""
        self._ask("load")
        super().load(state, ctx)

    def step(self, ctx: Context, epoch: int, step: int) -> Mapping[str, float]:
        """Ask, and train."""
        self._ask("step")
        return super().step(ctx, epoch, step)

    def evaluate(self, ctx: Context) -> Mapping[str, float]:
        """Ask, and evaluate."""
        self._ask("evaluate")
        return super().evaluate(ctx)

    def _ask(self, where: str) -> None:
        def other() -> None:
            is_free = rng._globals_lock.acquire(blocking=False)
            self.shared[where] = self.shared.get(where, False) or is_free
            if is_free:
                rng._globals_lock.release()

        thread = Thread(target=other)
        thread.start()
        thread.join()


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(trainers, "_KNOWN", dict(trainers._KNOWN))
    for kind in (Drawing, Asking):
        register_trainer(kind.__name__, kind)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def trained(run: str, trainer: str = "Drawing") -> str:
    """Return the digest of two epochs under a seed of the run's own."""
    found = branch(run=run, trainer=trainer)
    found.order(seed=len(run))
    return found.through([0, STEPS, 2 * STEPS]).digest()


def test_two_that_draw_from_the_process_do_not_disturb_each_other() -> None:
    runs = ["one", "other"]
    alone = [trained(run) for run in runs]
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(trained, runs)] == alone


def test_no_other_has_the_generators_while_a_trainer_computes() -> None:
    found = branch(trainer="Asking").through([0, 5])
    found.train(at(12), save=SaveAs(kind="final", evaluate=True))
    assert Asking.shared == dict.fromkeys(("init", "load", "step", "evaluate"), False)
