"""Predicates that somebody waits for, looked at after every drain."""

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

from orchestrator.core.loop import WorkflowLoop


@dataclass(slots=True, eq=False)
class Condition:
    """A predicate, and the future that is resolved once it holds."""

    predicate: Callable[[], object]
    future: asyncio.Future[Any]
    context: Context


class Conditions:
    """The conditions of one run, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[Condition] = []

    def add(self, predicate: Callable[[], object], future: asyncio.Future[Any]) -> Condition:
        """Have `predicate` looked at after every drain, until `forget`."""
        condition = Condition(predicate, future, copy_context())
        self._waiting.append(condition)
        return condition

    def forget(self, condition: Condition) -> None:
        """Look at it no more."""
        if condition in self._waiting:
            self._waiting.remove(condition)

    def resolve(self, loop: WorkflowLoop) -> bool:
        """Resolve what holds now, in the order of asking; return whether anything did."""
        has_resolved = False
        for condition in list(self._waiting):
            if condition.future.done():
                continue
            try:
                with loop.only_reading("predicate"):
                    holds = condition.context.run(condition.predicate)
            except Exception as error:  # noqa: BLE001 - user code: raised where it is awaited
                condition.future.set_exception(error)
                has_resolved = True
            else:
                if holds:
                    condition.future.set_result(None)
                    has_resolved = True
        return has_resolved
