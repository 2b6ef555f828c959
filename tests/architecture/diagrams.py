"""The life-cycle diagrams of ARCHITECTURE.md, printed from the tables.

python -m tests.architecture.diagrams        writes them between their markers
"""

from collections.abc import Mapping, Set
from enum import Enum
from typing import TypeVar

from orchestrator.core.states import (
    RUN_TERMINAL,
    RUN_TRANSITIONS,
    STEP_TRANSITIONS,
    RunState,
    StepState,
)
from tests.architecture.tree import ROOT

DOCUMENT = ROOT / "ARCHITECTURE.md"


State = TypeVar("State", bound=Enum)
Fact = TypeVar("Fact", bound=Enum)


def mermaid(
    transitions: Mapping[State, Mapping[Fact, State]],
    first: State,
    last: Set[State] = frozenset(),
) -> str:
    """Return a table as a Mermaid state diagram: one line per transition.

    States come in the order of their enum; the table itself holds some in the order of a set.
    """
    states = list(type(first))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.value}"]
    for state in states:
        for fact, to in transitions[state].items():
            lines.append(f"    {state.value} --> {to.value}: {fact.value}")
    lines += [f"    {state.value} --> [*]" for state in states if state in last]
    return "\n".join([*lines, "```"])


def diagrams() -> dict[str, str]:
    """Return every diagram under the name of its markers."""
    return {
        "run": mermaid(RUN_TRANSITIONS, RunState.PENDING, RUN_TERMINAL),
        "step": mermaid(STEP_TRANSITIONS, StepState.SCHEDULED),
    }


def with_diagrams(text: str) -> str:
    """Return `text` with each diagram between its markers."""
    for name, diagram in diagrams().items():
        opening, closing = f"<!-- diagram: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = text.partition(opening)
        _, found, after = rest.partition(closing)
        assert found, f"the markers of {name} are missing"
        text = f"{before}{opening}\n{diagram}\n{closing}{after}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(with_diagrams(DOCUMENT.read_text()))
