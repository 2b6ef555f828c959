"""The trainer that docs/training.md shows resumes to the same bits; one that forgets does not."""

import re
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest

from orchestrator.training import trainers
from orchestrator.training.errors import ResumeNotIdentical
from orchestrator.training.testkit import assert_resume_identical
from tests.architecture.tree import ROOT

GUIDE = ROOT / "docs/training.md"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (program,) = [block for block in blocks if "register_trainer(" in block]
    module = ModuleType("perceptron")
    monkeypatch.setitem(sys.modules, "perceptron", module)
    monkeypatch.setattr(trainers, "_KNOWN", dict(trainers._KNOWN))
    exec(compile(program, str(GUIDE), "exec"), vars(module))
    return module


def test_trainer_of_the_guide_resumes_to_the_same_bits(shown: Any) -> None:
    assert trainers.get_trainer("perceptron") is shown.Perceptron
    assert assert_resume_identical(shown.Perceptron)


def test_one_that_does_not_save_a_counter_is_found_out(shown: Any) -> None:
    class Forgets(shown.Perceptron):
        seen = 0

        def step(self, ctx: Any, epoch: int, step: int) -> Mapping[str, float]:
            self.seen += 1
            self.lr = 0.01 / self.seen
            found: Mapping[str, float] = super().step(ctx, epoch, step)
            return found

    with pytest.raises(ResumeNotIdentical, match="leaves something out"):
        assert_resume_identical(Forgets)
