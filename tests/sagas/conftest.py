"""What tests of sagas share: a training to drive, and that they leave nothing behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sagas import driver
from tests.sagas.training_driver import Lab, Weights, order, reference


@pytest.fixture(autouse=True)
def _close_runs() -> Iterator[None]:
    """Close the runs that a test leaves open, as an orchestrator does before it forgets one."""
    yield
    while driver.opened:
        driver.opened.pop().close()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A training application in memory, with its checkpoints in a directory."""
    monkeypatch.setenv("TRAINING_STORE", str(tmp_path))
    lab = Lab(tmp_path)
    yield lab
    lab.world.close()


@pytest.fixture(scope="module")
def uninterrupted() -> Weights:
    """The weights of the plan that nothing happens to."""
    return reference(order(0))
