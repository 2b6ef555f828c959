"""Interrupts an activation that holds the owner's thread too long.

A thread of its own raises `ActivationInterrupted` in the thread that is late.  The exception is
set under a lock that leaving the watch takes too, and an exception that was set but has not
arrived is taken back there; so it cannot strike outside an activation.

Source: ``PyThreadState_SetAsyncExc``, CPython C API.  It arrives between two bytecodes: a workflow
that hangs inside one C call is reported, and interrupted when that call returns.
"""

import ctypes
import logging
import sys
import threading
import time
import traceback
from types import TracebackType

from orchestrator.core.errors import ActivationInterrupted

logger = logging.getLogger("orchestrator.engine")

_set_async_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Watchdog:
    """Watches the activations of one thread."""

    def __init__(self, limit_ms: int) -> None:
        self._limit_s = limit_ms / 1000
        self._changed = threading.Condition()
        self._subject = ""
        self._thread_id = 0
        self._started_at = 0.0
        self._is_open = True
        self._thread = threading.Thread(target=self._watch, name="activation-watchdog", daemon=True)
        self._thread.start()

    def __call__(self, subject: str) -> "Watchdog":
        """Name what the next ``with`` watches; one at a time."""
        self._subject = subject
        return self

    def __enter__(self) -> None:
        with self._changed:
            self._thread_id = threading.get_ident()
            self._started_at = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        with self._changed:
            _set_async_exception(ctypes.c_ulong(self._thread_id), None)
            self._thread_id = 0

    def close(self) -> None:
        """End the watching thread."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        # Looks a few times per limit instead of being woken for each activation: an activation
        # takes microseconds, and waking a thread for each would cost more than it.
        with self._changed:
            while self._is_open:
                self._changed.wait(self._limit_s / 4)
                if self._thread_id and time.monotonic() - self._started_at > self._limit_s:
                    self._interrupt()

    def _interrupt(self) -> None:
        frame = sys._current_frames().get(self._thread_id)
        stack = "".join(traceback.format_stack(frame)) if frame else "no stack"
        logger.error("%s holds the thread for too long; interrupted at\n%s", self._subject, stack)
        _set_async_exception(
            ctypes.c_ulong(self._thread_id), ctypes.py_object(ActivationInterrupted)
        )


class NoWatch:
    """Watches nothing: for tests and replays under a debugger."""

    def __call__(self, subject: str) -> "NoWatch":
        """Return itself."""
        return self

    def __enter__(self) -> None:
        """Begin nothing."""

    def __exit__(self, *exc: object) -> None:
        """End nothing."""
