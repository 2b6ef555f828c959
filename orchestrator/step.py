"""What a task may know and say of the step it carries out.

The public face for tasks: ``from orchestrator import step``.  A task that runs outside a workflow
has no step: `current` is None, `is_cancelled` is False, and `heartbeat` does nothing.

The step is kept in a context variable: coroutines of the body see it, threads it starts do not.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from orchestrator.core.errors import CompleteLater, StepCancelled, UsageError
from orchestrator.core.failure import Failure
from orchestrator.core.values import Json

__all__ = [
    "RunningStep",
    "StepInfo",
    "complete_later",
    "current",
    "handing_over",
    "heartbeat",
    "is_cancelled",
    "is_stopping",
    "running",
]

#: What an operator, a container or a service manager sends to a process it wants to end.
_STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGQUIT") if hasattr(signal, name)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInfo:
    """The attempt that runs now.

    Args:
        workflow_id: Id of the workflow; `run` counts its runs.
        workflow: The workflow type.
        run: From 1.
        step: Number of the step in its run, from 1.
        attempt: From 1.
        idempotency_key: The same for every attempt at this step, and for no other step.
        compensates: Idempotency key of the step that this one undoes, or "".
        details: What the last heartbeat of an earlier attempt left, or None.
        task: Name of the task.
        token: Stands for this attempt wherever its outcome is to come from; see `complete_later`.
            Whoever has it can end the attempt.  "" for a local step.
        headers: What came with the run's start, or was put in its place for this step.
    """

    workflow_id: str
    workflow: str
    run: int
    step: int
    attempt: int
    idempotency_key: str
    compensates: str = ""
    details: Json = None
    task: str = ""
    token: str = field(default="", compare=False, repr=False)
    headers: Mapping[str, Json] = field(default_factory=dict)


class RunningStep:
    """A step while its body runs; shared by the body and by whoever renews its claim.

    Args:
        info: What the body may know.
        beat: Records details; returns False when the step is no longer wanted.
        worker_stops: Returns whether the worker was asked to stop.
        has_own_process: The process runs this step and nothing else, in its main thread.
    """

    def __init__(
        self,
        info: StepInfo,
        beat: Callable[[object], bool],
        worker_stops: Callable[[], bool] = lambda: False,
        *,
        has_own_process: bool = False,
    ) -> None:
        self.info = info
        self.has_own_process = has_own_process
        self.worker_stops = worker_stops
        #: A signal to stop came while the body was ready for it; see `handing_over`.
        self.has_stop_signal = False
        #: A heartbeat is under way; whoever interrupts leaves it to end by itself.
        self.is_beating = False
        self._beat = beat
        # A plain flag and a reentrant lock: a signal handler may call `cancel` at any point.
        self._is_cancelled = False
        self._lock = threading.RLock()
        self._wake: Callable[[], None] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the step has been told to stop."""
        return self._is_cancelled

    @property
    def has_wake(self) -> bool:
        """Whether somebody will be woken when the step is told to stop."""
        return self._wake is not None

    def cancel(self) -> None:
        """Tell the step to stop; from any thread or signal handler, any number of times."""
        self._is_cancelled = True
        self._fire()

    def on_cancel(self, wake: Callable[[], None]) -> None:
        """Call `wake`, once, when the step is told to stop; at once if it has been."""
        self._wake = wake
        if self._is_cancelled:
            self._fire()

    def _fire(self) -> None:
        with self._lock:
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def heartbeat(self, details: object) -> None:
        """See `heartbeat` of this module."""
        self.is_beating = True
        try:
            if not self._is_cancelled and not self._beat(details):
                self._is_cancelled = True
        finally:
            self.is_beating = False
        if self._is_cancelled:
            info = self.info
            failure = Failure(
                type="StepCancelled", message="the workflow no longer wants this step"
            )
            raise StepCancelled(info.step, info.task, info.attempt, failure)


_running: ContextVar[RunningStep | None] = ContextVar("orchestrator_step", default=None)


def current() -> StepInfo | None:
    """Return the step this code carries out, or None outside a workflow."""
    step = _running.get()
    return None if step is None else step.info


def is_cancelled() -> bool:
    """Return whether the workflow no longer wants this step; costs nothing, asks nobody."""
    step = _running.get()
    return step is not None and step.is_cancelled


def is_stopping() -> bool:
    """Return whether this worker was asked to stop: save what was done, and hand the rest over.

    Nothing is cancelled: the worker waits for the step, as long as whoever stops it waits for the
    worker.  Costs nothing, asks nobody.
    """
    step = _running.get()
    return step is not None and (step.has_stop_signal or step.worker_stops())


@contextmanager
def handing_over() -> Iterator[None]:
    """While the block runs, a signal to stop this very process only makes `is_stopping` true.

    For a body that looks at it often: a service manager that signals a whole process group, or a
    cold shutdown, would cut off any other.  Where the step has no process of its own (pools other
    than prefork) the signal is the worker's, and the block runs as it would without.
    """
    step = _running.get()
    if step is None or not step.has_own_process:
        yield
        return

    def note(*_: object) -> None:
        step.has_stop_signal = True

    before = {number: signal.signal(number, note) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: it was not set from Python, and cannot be set back from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def heartbeat(details: object = None) -> None:
    """Say that the step is alive, and leave `details` for the next attempt, should there be one.

    One round trip to the store; while the store is away it is skipped, and the body goes on.

    Args:
        details: Anything that has a JSON form, up to ``INLINE_BYTES_MAX``; replaces the last.

    Raises:
        StepCancelled: The workflow no longer wants this step, or gave this attempt up.  Let it
            pass: what the body does after it counts for nothing.
        PayloadTooLarge, TypeError: Of the details.
    """
    step = _running.get()
    if step is not None:
        step.heartbeat(details)


def complete_later() -> CompleteLater:
    """Return what a body raises that ends before its step does: ``raise step.complete_later()``.

    Hand ``step.current().token`` on before: ``orc.step(token)`` takes the outcome, from any process
    and at any later time, also once this worker is gone.  Until then nothing but the step's
    time-outs gives the attempt up.

    Raises:
        UsageError: There is no step, or it is a local one, whose orchestrator waits for its end.
    """
    step = _running.get()
    if step is None:
        raise UsageError("complete_later: this task runs outside a workflow, as no step")
    if not step.info.token:
        raise UsageError("complete_later: a local step has no token; run it on a worker")
    return CompleteLater("completed later, by its token")


@contextmanager
def running(step: RunningStep) -> Iterator[RunningStep]:
    """Make `step` the current one; for those who run steps, not for tasks."""
    token = _running.set(step)
    try:
        yield step
    finally:
        _running.reset(token)


def find_running() -> RunningStep | None:
    """Return the current step itself; for those who run steps, not for tasks."""
    return _running.get()
