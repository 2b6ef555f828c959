"""A workflow under test: feed it inputs, look at its commands.  No server, no clock."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.events import (
    CancelRequested,
    Command,
    Event,
    GeneratorDrawn,
    Input,
    RunStarted,
    SignalReceived,
    StepCompleted,
    StepFailed,
    StepScheduled,
    TerminateRequested,
    TimerFired,
    TimerStarted,
)
from orchestrator.core.execution import Execution
from orchestrator.core.failure import Failure
from orchestrator.core.flags import FLAGS
from orchestrator.core.replay import Replayed, replay
from orchestrator.core.run_info import RunInfo
from orchestrator.core.values import Json

START_MS = 1_700_000_000_000


class PlainCodec:
    """JSON as it is; the classes str, int, dict and list are checked."""

    def encode(self, value: Any) -> Json:
        if value is None or isinstance(value, str | int | float):
            return value
        if isinstance(value, list | tuple):
            return [self.encode(one) for one in value]
        if isinstance(value, dict):
            return {key: self.encode(one) for key, one in value.items()}
        raise TypeError(f"{type(value).__name__} has no JSON form")

    def decode(self, kind: Any, value: Json) -> Any:
        if kind in (None, Any) or not isinstance(kind, type):
            return value
        if not isinstance(value, kind):
            raise ValueError(f"expected {kind.__name__}")
        return value


def define(function: Callable[..., Awaitable[Any]], **settings: Any) -> WorkflowDefinition:
    return WorkflowDefinition(
        name=function.__name__,
        function=function,
        codec=PlainCodec(),
        decode_input=lambda args, kwargs: (tuple(args), kwargs),
        **settings,
    )


class Driver:
    """Drives one run, and keeps its history."""

    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        *args: Any,
        settings: Mapping[str, Any] | None = None,
        flags: Sequence[int] = FLAGS,
    ) -> None:
        self.definition = define(function, **(settings or {}))
        self.now_ms = START_MS
        self.history: list[Event] = []
        self.execution = Execution(
            self.definition,
            RunInfo(
                workflow_id="w-1",
                run=1,
                workflow=self.definition.name,
                version="",
                started_at_ms=START_MS,
            ),
        )
        self._signals = 0
        self.started = self.apply(
            RunStarted(
                at_ms=self.now_ms,
                workflow=self.definition.name,
                args=list(args),
                seed="c0ffee",
                flags=list(flags),
            )
        )

    def apply(self, event: Input) -> list[Command]:
        commands = self.execution.apply(event)
        self.history += [event, *commands]
        return commands

    def complete(self, step: int, result: Json = None, *, after_ms: int = 10) -> list[Command]:
        return self.apply(
            StepCompleted(at_ms=self._later(after_ms), step=step, attempt=1, result=result)
        )

    def fail(
        self, step: int, *, kind: str = "failed", may_have_run: bool = True, type: str = "Boom"
    ) -> list[Command]:
        failure = Failure(type=type, message="it broke")
        return self.apply(
            StepFailed(
                at_ms=self._later(10),
                step=step,
                attempt=1,
                kind=kind,
                failure=failure,
                may_have_run=may_have_run,
            )
        )

    def fire(self, timer: int) -> list[Command]:
        for event in self.history:
            if isinstance(event, TimerStarted) and event.timer == timer:
                self.now_ms = max(self.now_ms, event.due_at_ms)
        return self.apply(TimerFired(at_ms=self.now_ms, timer=timer))

    def signal(self, name: str, payload: Json = None, *, id: str | None = None) -> list[Command]:
        self._signals += 1
        return self.apply(
            SignalReceived(
                at_ms=self._later(10),
                signal=name,
                signal_id=id or f"s{self._signals}",
                payload=payload,
            )
        )

    def cancel(self, reason: str = "enough") -> list[Command]:
        return self.apply(CancelRequested(at_ms=self._later(10), reason=reason))

    def terminate(self, reason: str = "stop") -> list[Command]:
        return self.apply(TerminateRequested(at_ms=self._later(10), reason=reason))

    def replayed(self) -> Replayed:
        """Replay the history so far; disagreement raises."""
        return replay(self.definition, "w-1", 1, self.history)

    def close(self) -> None:
        self.execution.close()

    def _later(self, after_ms: int) -> int:
        self.now_ms += after_ms
        return self.now_ms


def tasks_of(commands: list[Command]) -> list[str]:
    return [one.task for one in commands if isinstance(one, StepScheduled)]


def kinds(commands: list[Command]) -> list[str]:
    return [type(one).__name__ for one in commands]


def drawn_in(history: list[Event]) -> list[tuple[str, int]]:
    """Return which streams stand where, as the history has it."""
    return [(one.name, one.words) for one in history if isinstance(one, GeneratorDrawn)]
