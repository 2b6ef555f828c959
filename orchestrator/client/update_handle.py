"""Handles on an update, one for plain code and one for ``asyncio``."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from orchestrator.client import updates
from orchestrator.client.port import run_in_place
from orchestrator.client.session import Session
from orchestrator.client.updates import Sent
from orchestrator.core.errors import UsageError

#: A wait, in seconds or as an interval; None for the call's own default.
Timeout = float | timedelta | None


def in_seconds(timeout: Timeout) -> float | None:
    """Return a wait in seconds.

    Raises:
        UsageError: It is no finite number.
    """
    if isinstance(timeout, timedelta):
        return timeout.total_seconds()
    if timeout is not None and not math.isfinite(timeout):
        raise UsageError(f"timeout {timeout}: a finite number of seconds is wanted, or None")
    return timeout


class _Named:
    """What both know without asking anyone."""

    def __init__(self, session: Callable[[], Session], sent: Sent) -> None:
        self._session = session
        self._sent = sent

    @property
    def id(self) -> str:
        """The update's id."""
        return self._sent.update_id

    @property
    def name(self) -> str:
        """The update's name."""
        return self._sent.name

    @property
    def workflow_id(self) -> str:
        """The id of its workflow."""
        return self._sent.target.workflow_id

    @property
    def run(self) -> int:
        """Which run it was sent to."""
        return self._sent.target.run

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.id} of {self.workflow_id}>"


class AsyncUpdateHandle(_Named):
    """An update, for code on an event loop."""

    async def result(self, timeout: Timeout = None, type: Any = None) -> Any:
        """See `updates.wait`; None waits for ever."""
        seconds = in_seconds(timeout)
        return await updates.wait(self._session(), self._sent, "completed", seconds, type)


class UpdateHandle(_Named):
    """An update, for plain code."""

    def result(self, timeout: Timeout = None, type: Any = None) -> Any:
        """See `updates.wait`; None waits for ever."""
        seconds = in_seconds(timeout)
        work = updates.wait(self._session(), self._sent, "completed", seconds, type)
        return run_in_place(work)
