"""The guide's program is code: it imports, and offers what the guide goes on to use."""

import re
import sys
from types import ModuleType

import pytest

from tests.architecture.tree import ROOT


def test_program_of_the_guide_is_a_workflow_with_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs/guide.md").read_text(), re.DOTALL)
    assert found is not None
    module = ModuleType("trips")
    monkeypatch.setitem(sys.modules, "trips", module)
    exec(compile(found[1], "docs/guide.md", "exec"), vars(module))
    module.app.finalize()
    assert {"trips.book_hotel", "trips.cancel_hotel", "trips.book_train"} <= set(module.app.tasks)
    definition = module.orc.registry["plan"]
    assert list(definition.signals) == ["answer"]
