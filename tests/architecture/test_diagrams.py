"""The diagrams in ARCHITECTURE.md are the tables, not a memory of them."""

from orchestrator.core.states import RUN_TRANSITIONS
from tests.architecture.diagrams import DOCUMENT, diagrams, with_diagrams


def test_diagrams_are_current() -> None:
    text = DOCUMENT.read_text()
    assert with_diagrams(text) == text, "run: python -m tests.architecture.diagrams"


def test_diagram_has_every_transition() -> None:
    drawn = diagrams()["run"].count(": ")
    assert drawn == sum(len(row) for row in RUN_TRANSITIONS.values())
