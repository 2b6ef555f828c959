"""Attempts that a worker has begun and that end when the test says so."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.core.errors import UsageError
from orchestrator.core.values import Json
from orchestrator.step import RunningStep
from orchestrator.store.ports import AttemptKey
from orchestrator.testing.attempts import Attempt
from orchestrator.testing.plan import Fault
from orchestrator.testing.store import Mover
from orchestrator.worker.protocol import Work


@dataclass(slots=True, eq=False)
class Held:
    """An attempt under a claim that is renewed as long as it is held."""

    key: AttemptKey
    token: str
    attempt: Attempt
    work: Work
    step: RunningStep
    fault: Fault


class Ends:
    """What ends held attempts; see `workers.Workers`."""

    def __init__(
        self,
        waiting: Callable[[Fault], list[Held]],
        run: Callable[[Held], None],
        post: Callable[[Held, Any], None],
        drop: Callable[[Held], None],
    ) -> None:
        self.waiting = waiting
        self.run = run
        self.post = post
        self.drop = drop


class Hold:
    """The attempts at one task that wait for the test, oldest first; `WorkflowEnvironment.hold`.

    Their claims are renewed and their time-outs run.  One that is cancelled, or given up by a
    time-out, waits no longer.
    """

    def __init__(
        self, task: str, fault: Fault, ends: Ends, mover: Mover, stop: Callable[[], None]
    ) -> None:
        self._task = task
        self._fault = fault
        self._ends = ends
        self._mover = mover
        self._stop = stop

    def __repr__(self) -> str:
        return f"<Hold {self._task}: {len(self.attempts)} waiting>"

    @property
    def attempts(self) -> list[Attempt]:
        """Those that wait now."""
        return [held.attempt for held in self._waiting()]

    def release(self) -> None:
        """Let all that wait run their bodies, and hold no further ones."""
        waiting = self._waiting()
        self._stop()
        for held in waiting:
            self._ends.run(held)

    def complete(self, result: Any = None) -> None:
        """End the oldest one with a result.

        Raises:
            UsageError: None waits.
        """
        self._ends.post(self._oldest(), result)

    def fail(self, error: BaseException | type[BaseException] | str) -> None:
        """End the oldest one with an error, as its body would by raising it; see `complete`."""
        self._ends.post(self._oldest(), error_of(error))

    def lose(self) -> None:
        """Let the worker of the oldest one die; see `complete`."""
        self._ends.drop(self._oldest())

    def heartbeat(self, details: Json = None) -> None:
        """Have the oldest one say that it is alive, as `step.heartbeat` does; see `complete`.

        Raises:
            StepCancelled: It is no longer wanted.
        """
        self._oldest().step.heartbeat(details)

    def _oldest(self) -> Held:
        waiting = self._waiting()
        if not waiting:
            raise UsageError(f"no attempt at {self._task} waits; did the workflow get that far?")
        return waiting[0]

    def _waiting(self) -> list[Held]:
        self._mover.settle()
        return self._ends.waiting(self._fault)


def error_of(error: BaseException | type[BaseException] | str) -> BaseException:
    """Return the exception that a test named by itself, its class or a message."""
    if isinstance(error, str):
        return RuntimeError(error)
    return error if isinstance(error, BaseException) else error()
