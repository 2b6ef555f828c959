"""Interrupts an activation that holds the owner's thread too long.

A thread of its own raises `ActivationInterrupted` in the thread that is late.  The exception is
set under a lock that the end of the watch takes too, and one that was set but has not arrived is
taken back there; so nothing strikes outside `Watchdog.__call__`.

What counts is the time the thread *worked*: on a machine that gives it no turn, or that slept, no
workflow is to blame.  A thread that waits in there without working is interrupted too, later.

Source: ``PyThreadState_SetAsyncExc``, CPython C API.  It arrives between two bytecodes: a workflow
that hangs inside one C call is reported, and interrupted when that call returns.
"""

import asyncio
import ctypes
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from orchestrator.core.errors import ActivationFailed, ActivationInterrupted

logger = logging.getLogger("orchestrator.engine")

T = TypeVar("T")

#: A thread that waits may do so this many times as long as one that works.
_PATIENCE = 5

_set_async_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Watchdog:
    """Watches the activations of one thread."""

    def __init__(self, limit_ms: int) -> None:
        self._limit_s = limit_ms / 1000
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._subject = ""
        self._thread_id = 0
        self._busy_until = 0.0
        self._waiting_until = 0.0
        self._is_open = True
        self._thread = threading.Thread(target=self._watch, name="activation-watchdog", daemon=True)
        self._thread.start()

    def __call__(self, subject: str, activate: Callable[[], T]) -> T:
        """Return what `activate` returns; `subject` names it in the log.

        Raises:
            ActivationFailed: Kind "deadline": it was interrupted outside the workflow's own code,
                where it says so itself.
        """
        try:
            try:
                self._begin(subject)
                return activate()
            finally:
                self._end()
        except ActivationInterrupted:
            self._end_interrupted()
            message = "the activation held the thread too long"
            raise ActivationFailed("deadline", message) from None

    def _begin(self, subject: str) -> None:
        with self._changed:
            self._subject = subject
            self._thread_id = threading.get_ident()
            self._allow()

    def _allow(self) -> None:
        self._busy_until = self._worked_s() + self._limit_s
        self._waiting_until = time.monotonic() + self._limit_s * _PATIENCE

    def _end(self) -> None:
        with self._changed:
            if self._thread_id:
                _set_async_exception(ctypes.c_ulong(self._thread_id), None)
            self._thread_id = 0

    def _end_interrupted(self) -> None:
        """End the watch wherever the interruption struck, be it in `_end` itself."""
        self._end()
        # Between two lines of a ``with`` it leaves a lock held that nobody would release.
        with suppress(RuntimeError):
            while True:
                self._lock.release()
        # And between two lines of the loop's housekeeping, the loop still set.
        asyncio.events._set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)

    def _worked_s(self) -> float:
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread_id))

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
                if self._thread_id and self._is_late():
                    self._interrupt()

    def _is_late(self) -> bool:
        return self._worked_s() > self._busy_until or time.monotonic() > self._waiting_until

    def _interrupt(self) -> None:
        frame = sys._current_frames().get(self._thread_id)
        stack = "".join(traceback.format_stack(frame)) if frame else "no stack"
        logger.error("%s holds the thread for too long; interrupted at\n%s", self._subject, stack)
        # Code that swallows it is interrupted again, after as long.
        self._allow()
        _set_async_exception(
            ctypes.c_ulong(self._thread_id), ctypes.py_object(ActivationInterrupted)
        )


def unwatched(_subject: str, activate: Callable[[], T]) -> T:
    """Return what `activate` returns: for tests, and under a debugger."""
    return activate()
