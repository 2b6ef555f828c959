"""One order, driven by hand: inputs go in; what the workflow orders is answered, or left waiting.

No server and no clock: time is what the driver says it is.  `OrderRun.finish` replays the history
and so checks, for every test that uses it, that the same code orders the same again.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from orchestrator.core import guard
from orchestrator.core.events import (
    CancelRequested,
    Event,
    Input,
    RunStarted,
    SignalReceived,
    StepCancelRequested,
    StepCompleted,
    StepFailed,
    StepScheduled,
    TerminateRequested,
    TimerCancelled,
    TimerFired,
    TimerStarted,
)
from orchestrator.core.execution import Execution
from orchestrator.core.failure import Failure
from orchestrator.core.replay import replay
from orchestrator.core.run_info import RunInfo
from orchestrator.core.values import Json
from sagas.order import Order, OrderState, process_order

# As in an orchestrator: what the workflow may not reach for is refused.
guard.install()

START_AT_MS = 1_700_000_000_000

#: What a task answers, by name without its package: JSON, or how it fails.
RESULTS: dict[str, Json] = {
    "inventory.reserve": {"id": "rsv-1"},
    "inventory.release": {"undone": True},
    "payment.charge": {"id": "pay-1", "amount_cents": 12000},
    "payment.refund": {"undone": True},
    "shipping.ship": {"id": "shp-1", "tracking": "trk-1"},
    "shipping.cancel_shipment": {"undone": True},
    "notification.notify": {"id": "msg-1"},
}

Answer = Callable[[StepScheduled, int], Input]

#: Every run of the current test, for its end to close.
opened: list["OrderRun"] = []


def fails(kind: str = "failed", *, may_have_run: bool = True) -> Answer:
    """Return the answer of a task that gives up."""

    def answer(step: StepScheduled, at_ms: int) -> Input:
        failure = Failure(type="Boom", message=f"{step.task} gave up")
        return StepFailed(
            at_ms=at_ms,
            step=step.step,
            attempt=1,
            kind=kind,
            failure=failure,
            may_have_run=may_have_run,
        )

    return answer


def refuses() -> Answer:
    """Return the answer of a task that says no for certain."""
    return fails(may_have_run=False)


def answers(step: StepScheduled, at_ms: int) -> Input:
    """Return the answer of a task that works."""
    result = RESULTS[step.task.removeprefix("tasks.")]
    return StepCompleted(at_ms=at_ms, step=step.step, attempt=1, result=result)


class OrderRun:
    """A run of the order workflow.

    Args:
        total: Of the order.
        holding: Tasks that do not answer until `release` is called.
        given: How tasks answer that do not simply work.
    """

    def __init__(
        self,
        total: str = "120",
        *,
        holding: tuple[str, ...] = (),
        given: dict[str, Answer] | None = None,
    ) -> None:
        self.history: list[Event] = []
        self.holding = set(holding)
        self._given = given or {}
        self._steps: dict[int, StepScheduled] = {}
        self._timers: dict[int, TimerStarted] = {}
        self.at_ms = START_AT_MS
        self.order = Order(id="order-1", total=Decimal(total))
        definition = process_order.definition
        self.info = RunInfo(
            workflow_id="order-1", run=1, workflow="order", version="", started_at_ms=self.at_ms
        )
        self._execution = Execution(definition, self.info)
        opened.append(self)
        args: list[Json] = [definition.codec.encode(self.order)]
        self._apply(RunStarted(at_ms=self.at_ms, workflow="order", args=args, seed="00" * 16))
        self.work()

    # --- what happens to it ---------------------------------------------------------------------

    def work(self) -> None:
        """Answer steps, oldest first, until none is left but held ones."""
        while waiting := [s for s in self._steps.values() if _short(s.task) not in self.holding]:
            step = waiting[0]
            answer = self._given.get(_short(step.task), answers)
            del self._steps[step.step]
            self._apply(answer(step, self.at_ms))

    def release(self, task: str) -> None:
        """Let a held task answer."""
        self.holding.discard(task)
        self.work()

    def signal(self, name: str, **payload: Any) -> None:
        """Send a signal."""
        number = sum(isinstance(event, SignalReceived) for event in self.history)
        self._apply(
            SignalReceived(
                at_ms=self.at_ms, signal=name, signal_id=f"signal-{number}", payload=payload
            )
        )
        self.work()

    def cancel(self) -> None:
        """Cancel the run itself, as a person with operator's rights does."""
        self._apply(CancelRequested(at_ms=self.at_ms, reason="maintenance"))
        self.work()

    def terminate(self) -> None:
        """Terminate the run."""
        self._apply(TerminateRequested(at_ms=self.at_ms, reason="enough"))
        self.work()

    def pass_time(self) -> int:
        """Go to the next timer and fire it; return how far away it was, in milliseconds."""
        timer = min(self._timers.values(), key=lambda timer: timer.due_at_ms)
        waited_ms = timer.due_at_ms - self.at_ms
        self.at_ms = timer.due_at_ms
        del self._timers[timer.timer]
        self._apply(TimerFired(at_ms=self.at_ms, timer=timer.timer))
        self.work()
        return waited_ms

    def close(self) -> None:
        """Let the run leave memory, wherever it is."""
        self._execution.close()

    # --- what can be seen of it -----------------------------------------------------------------

    @property
    def state(self) -> OrderState:
        """What anybody can read."""
        return OrderState.model_validate(self._execution.published_state())

    @property
    def status(self) -> str:
        """The published status."""
        return self.state.status.value

    @property
    def ordered(self) -> list[str]:
        """Names of the tasks ordered so far, news left out."""
        names = [_short(e.task) for e in self.history if isinstance(e, StepScheduled)]
        return [name for name in names if name != "notify"]

    @property
    def news(self) -> list[Json]:
        """What the customer was told, or was to be told."""
        steps = [e for e in self.history if isinstance(e, StepScheduled)]
        return [_args(step)[1] for step in steps if _short(step.task) == "notify"]

    @property
    def timers_ms(self) -> list[int]:
        """How long the timers that are running now will have run."""
        return [timer.duration_ms for timer in self._timers.values()]

    def events(self, kind: type[Event]) -> list[Any]:
        """Return the events of one type."""
        return [event for event in self.history if isinstance(event, kind)]

    def finish(self) -> Event:
        """Return the last event, an ending, having replayed the whole history."""
        assert self._execution.is_finished, f"still {self.status}"
        self.close()
        replayed = replay(process_order.definition, "order-1", 1, self.history)
        assert replayed.pending == []
        assert replayed.execution.is_finished
        replayed.execution.close()
        return self.history[-1]

    def _apply(self, event: Input) -> None:
        self.history.append(event)
        for command in self._execution.apply(event):
            self.history.append(command)
            match command:
                case StepScheduled():
                    self._steps[command.step] = command
                case TimerStarted():
                    self._timers[command.timer] = command
                case TimerCancelled():
                    del self._timers[command.timer]
                case StepCancelRequested(step=number) if number in self._steps:
                    # Nobody had claimed it, or its worker stopped: either way it says cancelled.
                    self._given[_short(self._steps[number].task)] = fails("cancelled")
                case _:
                    pass


def _short(task: str) -> str:
    return task.rpartition(".")[2]


def _args(step: StepScheduled) -> list[Json]:
    assert isinstance(step.args, list)
    return step.args
