"""Handles on one outstanding step: hold it back, let it go on, begin its attempts anew.

Each call is a message to the run, and an event of its history once an orchestrator took it; one
that makes no sense then (the step is over, or not paused) is recorded as refused, with the reason.
"""

from collections.abc import Callable

from orchestrator.client.decisions import DECISIONS, Verdict, decide, resolve, wait
from orchestrator.client.messages import Target
from orchestrator.client.port import run_in_place
from orchestrator.client.session import Session
from orchestrator.core.errors import UsageError


class _OneStep:
    """What both handles know.

    Args:
        session: Returns the way to the store.
        target: The run.
        number: Of the step in its run, from 1.

    Raises:
        UsageError: No such number.
    """

    def __init__(self, session: Callable[[], Session], target: Target, number: int) -> None:
        if number < 1:
            raise UsageError(f"step {number}: the steps of a run are numbered from 1")
        self._session = session
        self._target = target
        self.number = number

    @property
    def workflow_id(self) -> str:
        """The run's id."""
        return self._target.workflow_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} of {self._target.workflow_id}>"

    async def _decide(self, decision: str, reason: str, by: str) -> None:
        await decide(self._session(), self._target, self.number, decision, reason=reason, by=by)

    async def _try(self, decision: str, reason: str, by: str, wait_s: float) -> Verdict | None:
        session = self._session()
        send = resolve if decision in DECISIONS else decide
        sent = await send(session, self._target, self.number, decision, reason=reason, by=by)
        return await wait(session, sent, wait_s)


class AsyncStepHandle(_OneStep):
    """A step of a run, for code on an event loop."""

    async def decide(
        self, decision: str, *, reason: str = "", by: str = "", wait_s: float
    ) -> Verdict | None:
        """See `StepHandle.decide`."""
        return await self._try(decision, reason, by, wait_s)

    async def pause(self, *, reason: str = "", by: str = "") -> None:
        """See `StepHandle.pause`."""
        await self._decide("pause", reason, by)

    async def unpause(self, *, reason: str = "", by: str = "") -> None:
        """See `StepHandle.unpause`."""
        await self._decide("unpause", reason, by)

    async def reset(self, *, reason: str = "", by: str = "") -> None:
        """See `StepHandle.reset`."""
        await self._decide("reset", reason, by)


class StepHandle(_OneStep):
    """A step of a run, for plain code."""

    def decide(
        self, decision: str, *, reason: str = "", by: str = "", wait_s: float
    ) -> Verdict | None:
        """Decide as `pause`, `unpause` and `reset` do, or as `resolve` of a run; say what came.

        Returns what became of it, or None where no orchestrator took it within `wait_s` seconds.
        Raises what `pause` and `resolve` do.
        """
        return run_in_place(self._try(decision, reason, by, wait_s))

    def pause(self, *, reason: str = "", by: str = "") -> None:
        """Send no further attempt until `unpause`.

        An attempt that runs goes on, and its outcome counts; one that nobody has claimed is taken
        back.  The step's own time, `schedule_to_close`, goes on too.

        Raises:
            RunNotFound, RunClosed: No open run takes it.
            StoreUnavailable: No answer; look at the history before you repeat it.
        """
        run_in_place(self._decide("pause", reason, by))

    def unpause(self, *, reason: str = "", by: str = "") -> None:
        """Send the step's next attempt at once, unless one runs.  Raises as `pause` does."""
        run_in_place(self._decide("unpause", reason, by))

    def reset(self, *, reason: str = "", by: str = "") -> None:
        """Let the retry policy count the step's current or next attempt as its first.

        A back-off ends: the attempt is sent at once, unless the step is paused.  Numbers of
        attempts go on, so that every one of them keeps its name.  Raises as `pause` does.
        """
        run_in_place(self._decide("reset", reason, by))
