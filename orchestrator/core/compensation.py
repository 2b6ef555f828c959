"""What a saga owes: which of its steps may have taken effect, and undoing them.

Not a coroutine but a machine fed with settled steps, so that no cancellation and no end of the
user's code can stop it half-way.

C1  A step's undo is known before the step is ordered.
C2  Nothing is undone while a step of the saga is still outstanding.
C3  Undone is what completed or may have run; not what is certain to have had no effect.
C4  One after the other, newest first, unless the saga is parallel.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from orchestrator.core.errors import ActivationFailed
from orchestrator.core.events import (
    CompensationCompleted,
    CompensationStarted,
    SagaCommitted,
    StepCompleted,
    StepFailed,
)
from orchestrator.core.steps import Follower, Order, Step
from orchestrator.core.values import Json


class SagaState(Enum):
    """Where a saga is."""

    OPEN = "open"
    COMMITTED = "committed"  #: past the point of no return, its block not yet left
    SETTLING = "settling"  #: its block has failed; steps are still outstanding
    UNDOING = "undoing"
    CLOSED = "closed"


#: Nothing more comes of a saga in one of these until its block is left.
COMPENSATING = frozenset({SagaState.SETTLING, SagaState.UNDOING})


class Host(Protocol):
    """What a saga needs of the execution it belongs to."""

    @property
    def now_ms(self) -> int:
        """The activation's time."""
        ...

    def issue(self, command: Any) -> None:
        """Record a command."""
        ...

    def order_step(self, order: Order, *, saga: int, compensates: int, follower: Follower) -> Step:
        """Order an undo step."""
        ...

    def cancel_step(self, step: Step) -> None:
        """Ask an outstanding step to stop; once."""
        ...

    def compensation_over(self) -> None:
        """Take note that a saga has undone all it had to."""
        ...


@dataclass(slots=True, kw_only=True)
class Undo:
    """How one step is undone."""

    task: str
    options: dict[str, Json]
    wants_result: bool


class SagaRecord:
    """The core's side of one saga."""

    def __init__(self, host: Host, number: int, *, is_parallel: bool, is_mains: bool) -> None:
        self.number = number
        self.state = SagaState.OPEN
        self.is_mains = is_mains  #: the main task is inside its block
        self._host = host
        self._is_parallel = is_parallel
        self._undos: dict[Step, Undo] = {}
        self._outstanding: dict[Step, None] = {}
        self._queue: list[Step] = []
        self._reason = ""
        self._over: Callable[[], None] | None = None

    @property
    def is_compensating(self) -> bool:
        """Whether it is undoing, or about to."""
        return self.state in COMPENSATING

    @property
    def has_undo(self) -> bool:
        """Whether there is, or may be, something to undo."""
        return any(_may_have_run(step) for step in self._undos)

    def add(self, step: Step, undo: Undo | None) -> None:
        """Take a step in, at the instant it is ordered (C1)."""
        self._outstanding[step] = None
        if undo is not None:
            self._undos[step] = undo

    def commit(self) -> None:
        """Pass the point of no return."""
        self._host.issue(SagaCommitted(at_ms=self._host.now_ms, saga=self.number))
        self.state = SagaState.COMMITTED

    def close(self) -> None:
        """Forget it: its block was left, and nothing is to be undone."""
        self.state = SagaState.CLOSED

    def compensate(self, reason: str) -> None:
        """Begin to undo; at once, if nothing is outstanding."""
        self.state = SagaState.SETTLING
        self._reason = reason
        for step in self._outstanding:
            self._host.cancel_step(step)
        if not self._outstanding:
            self._undo()

    def step_settled(self, step: Step) -> None:
        """See `steps.Follower`."""
        self._outstanding.pop(step, None)
        if self.state is SagaState.SETTLING and not self._outstanding:
            self._undo()
        elif self.state is SagaState.UNDOING:
            self._undone(step)

    def when_over(self, waiter: asyncio.Future[Any]) -> None:
        """Resolve `waiter` once the compensation is over."""

        def resolve() -> None:
            if not waiter.done():
                waiter.set_result(None)

        self._over = resolve

    def _undo(self) -> None:
        to_undo = [step for step in reversed(self._undos) if _may_have_run(step)]
        if not to_undo:
            self._finish()
            return
        self._host.issue(
            CompensationStarted(
                at_ms=self._host.now_ms,
                saga=self.number,
                steps=[step.number for step in to_undo],
                reason=self._reason,
            )
        )
        self.state = SagaState.UNDOING
        self._queue = to_undo
        if self._is_parallel:
            while self._queue:
                self._order_undo(self._queue.pop(0))
        else:
            self._order_undo(self._queue.pop(0))

    def _order_undo(self, step: Step) -> None:
        undo = self._undos[step]
        kwargs = dict(step.order.kwargs)
        if undo.wants_result:
            outcome = step.outcome
            kwargs["result"] = outcome.result if isinstance(outcome, StepCompleted) else None
        order = Order(
            task=undo.task, args=list(step.order.args), kwargs=kwargs, options=dict(undo.options)
        )
        undoing = self._host.order_step(
            order, saga=self.number, compensates=step.number, follower=self
        )
        self._outstanding[undoing] = None

    def _undone(self, undoing: Step) -> None:
        if isinstance(undoing.outcome, StepFailed):
            # Never given up (`until_done`): the engine parks it and a person decides.  Going on
            # would call something undone that is not.
            raise ActivationFailed(
                "bug", f"compensation step {undoing.number} {undoing.order.task} was given up"
            )
        if self._queue:
            self._order_undo(self._queue.pop(0))
        elif not self._outstanding:
            self._host.issue(CompensationCompleted(at_ms=self._host.now_ms, saga=self.number))
            self._finish()

    def _finish(self) -> None:
        self.state = SagaState.CLOSED
        if self._over is not None:
            self._over()
        self._host.compensation_over()


def _may_have_run(step: Step) -> bool:
    outcome = step.outcome
    return outcome is None or isinstance(outcome, StepCompleted) or outcome.may_have_run
