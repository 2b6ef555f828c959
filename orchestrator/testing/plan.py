"""What a test wants to become of its steps, by task: other bodies, and faults."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from orchestrator.core.steps import task_name


class Fate(Enum):
    """What becomes of an attempt, other than that its body runs."""

    FAIL = "the body raises"
    LOSE_BEFORE = "the worker dies before the body"
    LOSE_AFTER = "the worker dies after the body, before its outcome is posted"
    LOSE_MESSAGE = "the message never reaches a worker"
    DUPLICATE = "the message arrives three times"
    HOLD = "a worker has begun, and does not end"


@dataclass(slots=True, eq=False)
class Fault:
    """A fate for the next `times` attempts, or None for all; `extra` belongs to the fate."""

    fate: Fate
    times: int | None
    extra: Any = None


class Plan:
    """Bodies and faults by task name."""

    def __init__(self) -> None:
        self._bodies: dict[str, Callable[..., Any]] = {}
        self._faults: dict[str, list[Fault]] = defaultdict(list)

    def replace(self, task: Any, function: Callable[..., Any]) -> None:
        """Have `function` run in the place of the task's body."""
        self._bodies[name_of(task)] = function

    def body(self, task: str) -> Callable[..., Any] | None:
        """Return what runs in the place of the task's body, if something does."""
        return self._bodies.get(task)

    def add(self, task: Any, fault: Fault) -> None:
        """Have `fault` strike after those that were added before."""
        self._faults[name_of(task)].append(fault)

    def remove(self, fault: Fault) -> None:
        """Let `fault` strike no more."""
        for faults in self._faults.values():
            if fault in faults:
                faults.remove(fault)

    def next(self, task: str) -> Fault | None:
        """Return what strikes this attempt, and count it."""
        faults = self._faults[task]
        if not faults:
            return None
        fault = faults[0]
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                faults.pop(0)
        return fault


def name_of(task: Any) -> str:
    """Return the name under which `task`, a task, a local step's function or a name, is recorded.

    Raises:
        UsageError: None of these.
    """
    return task_name(task, local=True)
