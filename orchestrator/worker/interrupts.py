"""How a step in a prefork child is stopped: by the signal of Celery's soft time limit.

The signal comes from Celery (a soft time limit) or from our main process (an order on the board).
It may come at any point, so:

IN1  An order is obeyed only by the body of the attempt it names.
IN2  While a step is claimed and while its outcome is posted, no signal interrupts: what the
     body did must not be lost on its last metres.
IN3  Outside of our steps the signal does what it did before.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from orchestrator.step import RunningStep
from orchestrator.worker.board import Slot

_SIGNAL = getattr(signal, "SIGUSR1", None)


class Interrupts:
    """The signal handler of one child; see IN1-IN3."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._previous: Any = None
        self._is_installed = False
        self._is_held = False
        self._body: tuple[RunningStep, bytes] | None = None

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Hold the signal back (IN2); only the main thread of a process can."""
        self._install()
        outer, self._is_held = self._is_held, True
        try:
            yield
        finally:
            self._is_held = outer

    @contextmanager
    def allowed(self, step: RunningStep, digest: bytes) -> Iterator[None]:
        """Let the signal interrupt the body of `step`; inside `held_back`."""
        outer, self._body = self._body, (step, digest)
        try:
            yield
        finally:
            self._body = outer

    def _install(self) -> None:
        # Only now: billiard installs its own handler after every hook that Celery offers.  It
        # stays, because an order may come late, when its step is through.
        is_main = threading.current_thread() is threading.main_thread()
        if _SIGNAL is not None and is_main and not self._is_installed:
            self._previous = signal.signal(_SIGNAL, self._handle)
            self._is_installed = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        order = self._slot.take_order()
        if self._body is not None:
            step, digest = self._body
            if order is None:
                raise SoftTimeLimitExceeded  # Celery's own soft time limit
            if order == digest:
                stop_here(step)
        elif order is None and not self._is_held and callable(self._previous):
            self._previous(number, frame)


def stop_here(step: RunningStep) -> None:
    """Stop a step whose body runs in this very thread.

    Raises:
        SoftTimeLimitExceeded: Into a plain function.  A coroutine is cancelled, and a heartbeat
            that is under way raises by itself.
    """
    is_coroutine = step.has_wake
    step.cancel()
    if not is_coroutine and not step.is_beating:
        raise SoftTimeLimitExceeded
