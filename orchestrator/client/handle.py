"""Handles on a run, one for plain code and one for ``asyncio``.

Both do what `messages` and `reading` do, and nothing of their own.  A handle holds no connection:
it is cheap, and asks its app for one with each call.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import Any, Generic, TypeVar, Unpack, cast

from orchestrator.client import decisions, exporting, messages, reading, resets, updates
from orchestrator.client.history_file import HistoryHeader
from orchestrator.client.messages import Target
from orchestrator.client.port import run_in_place
from orchestrator.client.resets import ResetHow, ResetOptions, ResetPlan
from orchestrator.client.session import Session
from orchestrator.client.step_handle import AsyncStepHandle, StepHandle
from orchestrator.client.summary import HistoryEvent, RunSummary
from orchestrator.client.update_handle import AsyncUpdateHandle, Timeout, UpdateHandle
from orchestrator.client.update_handle import in_seconds as seconds
from orchestrator.client.verifying import Verification
from orchestrator.core.values import Json

R = TypeVar("R")


class Sessions:
    """Where handles get their way to the store: blocking, or on the running event loop."""

    def __init__(
        self, blocking: Callable[[], Session], on_running_loop: Callable[[], Session]
    ) -> None:
        self.blocking = blocking
        self.on_running_loop = on_running_loop


class _Named:
    """What both handles know of their run without asking anyone.

    Args:
        sessions: See `Sessions`.
        target: Run 0 is the latest one of the id, at each call.
    """

    def __init__(self, sessions: Sessions, target: Target) -> None:
        self._sessions = sessions
        self._target = target

    @property
    def workflow_id(self) -> str:
        """The id it was started with."""
        return self._target.workflow_id

    @property
    def id(self) -> str:
        """The same, under the name that Celery's results give it."""
        return self._target.workflow_id

    @property
    def run(self) -> int:
        """Which run of the id, from 1; 0 is the latest one."""
        return self._target.run


class AsyncRunHandle(_Named, Generic[R]):
    """A run of a workflow, for code on an event loop."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.workflow_id} run {self.run or 'latest'}>"

    async def result(self, timeout: Timeout = None) -> R:
        """See `reading.result`; None waits for ever."""
        session = self._sessions.on_running_loop()
        return cast("R", await reading.result(session, self._target, seconds(timeout)))

    async def describe(self) -> RunSummary:
        """See `reading.describe`."""
        return await reading.describe(self._sessions.on_running_loop(), self._target)

    async def status(self) -> str:
        """Return the run's status: a `core.states.RunState` value, or "blocked"."""
        return (await self.describe()).status

    async def state(self, type: Any = None) -> Any:
        """See `reading.state`."""
        return await reading.state(self._sessions.on_running_loop(), self._target, type)

    async def history(self, *, after: int = 0, limit: int | None = None) -> list[HistoryEvent]:
        """See `reading.history`."""
        session = self._sessions.on_running_loop()
        return await reading.history(session, self._target, after=after, limit=limit)

    async def verify(self) -> Verification:
        """See `reading.verify`."""
        return await reading.verify(self._sessions.on_running_loop(), self._target)

    async def export(self, path: str | Path) -> Path:
        """See `exporting.export_file`."""
        session = self._sessions.on_running_loop()
        return await exporting.export_file(session, self._target, path)

    async def signal(self, name: str, payload: Any = None, *, id: str | None = None) -> str:
        """See `messages.signal`."""
        session = self._sessions.on_running_loop()
        return await messages.signal(session, self._target, name, payload, id)

    async def reseed(
        self, seed: int | str, name: str | None = None, *, id: str | None = None
    ) -> str:
        """See `messages.reseed`."""
        session = self._sessions.on_running_loop()
        return await messages.reseed(session, self._target, seed, name, id)

    async def update(
        self,
        name: str,
        *args: Any,
        id: str | None = None,
        timeout: Timeout = None,
        type: Any = None,
    ) -> Any:
        """Send an update, wait for its outcome and return it; see `updates.send` and `wait`."""
        session = self._sessions.on_running_loop()
        sent = await updates.send(session, self._target, name, args, id)
        return await updates.wait(session, sent, "completed", seconds(timeout), type)

    async def start_update(
        self,
        name: str,
        *args: Any,
        id: str | None = None,
        wait_for: str = "accepted",
        timeout: Timeout = updates.ACCEPT_TIMEOUT_S,
    ) -> AsyncUpdateHandle:
        """Send an update, wait until it is accepted, or completed; see `updates.send`, `wait`."""
        updates.checked_stage(wait_for)
        session = self._sessions.on_running_loop()
        sent = await updates.send(session, self._target, name, args, id)
        await updates.wait(session, sent, wait_for, seconds(timeout))
        return AsyncUpdateHandle(self._sessions.on_running_loop, sent)

    async def query(self, name: str, *args: Any, timeout: Timeout = None) -> Json:
        """See `messages.query`."""
        session = self._sessions.on_running_loop()
        return await messages.query(session, self._target, name, args, seconds(timeout))

    async def cancel(self, reason: str = "") -> None:
        """See `messages.cancel`."""
        await messages.cancel(self._sessions.on_running_loop(), self._target, reason)

    async def terminate(self, reason: str = "") -> None:
        """See `messages.terminate`."""
        await messages.terminate(self._sessions.on_running_loop(), self._target, reason)

    async def reset(self, at: int | str, **how: Unpack[ResetHow]) -> "AsyncRunHandle[R]":
        """Let the id's next run go on from an event of this one; see `resets.reset`.

        Returns a handle on the next run.
        """
        options = ResetOptions(at=at, **how)
        work = resets.reset(self._sessions.on_running_loop(), self._target, options)
        run = await work
        return AsyncRunHandle(self._sessions, replace(self._target, run=run))

    async def plan_reset(
        self, at: int | str, *, despite_effects: bool = False, is_fork: bool = False
    ) -> ResetPlan:
        """See `resets.plan`; nothing is changed."""
        options = ResetOptions(at=at, despite_effects=despite_effects)
        work = resets.plan(self._sessions.on_running_loop(), self._target, options, is_fork=is_fork)
        return await work

    async def fork(
        self,
        id: str,
        at: int | str,
        *,
        args: Sequence[Any] | EllipsisType = ...,
        payload: Any = ...,
        reapply_signals: bool = False,
        despite_effects: bool = False,
    ) -> "AsyncRunHandle[R]":
        """Let a run of another id go on from an event of this one; see `resets.fork`.

        Returns a handle on it.  `args` and `payload` are as recorded unless they are given.
        """
        options = ResetOptions(
            at=at, reapply_signals=reapply_signals, despite_effects=despite_effects
        )
        given = {"args": args, "payload": payload}
        changes = {name: value for name, value in given.items() if value is not ...}
        work = resets.fork(self._sessions.on_running_loop(), self._target, id, options, changes)
        run = await work
        return AsyncRunHandle(self._sessions, replace(self._target, workflow_id=id, run=run))

    async def resolve(self, step: int, decision: str, *, reason: str = "", by: str = "") -> None:
        """See `decisions.resolve`."""
        session = self._sessions.on_running_loop()
        await decisions.resolve(session, self._target, step, decision, reason=reason, by=by)

    def step(self, number: int) -> AsyncStepHandle:
        """Return a handle on an outstanding step of the run."""
        return AsyncStepHandle(self._sessions.on_running_loop, self._target, number)


class RunHandle(_Named, Generic[R]):
    """A run of a workflow, for plain code."""

    @property
    def aio(self) -> AsyncRunHandle[R]:
        """The same run for code on an event loop."""
        return AsyncRunHandle(self._sessions, self._target)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.workflow_id} run {self.run or 'latest'}>"

    def result(self, timeout: Timeout = None) -> R:
        """See `reading.result`; None waits for ever."""
        work = reading.result(self._sessions.blocking(), self._target, seconds(timeout))
        return cast("R", run_in_place(work))

    def describe(self) -> RunSummary:
        """See `reading.describe`."""
        return run_in_place(reading.describe(self._sessions.blocking(), self._target))

    def status(self) -> str:
        """Return the run's status: a `core.states.RunState` value, or "blocked"."""
        return self.describe().status

    def state(self, type: Any = None) -> Any:
        """See `reading.state`."""
        return run_in_place(reading.state(self._sessions.blocking(), self._target, type))

    def history(self, *, after: int = 0, limit: int | None = None) -> list[HistoryEvent]:
        """See `reading.history`."""
        read = reading.history(self._sessions.blocking(), self._target, after=after, limit=limit)
        return run_in_place(read)

    def verify(self) -> Verification:
        """See `reading.verify`."""
        return run_in_place(reading.verify(self._sessions.blocking(), self._target))

    def export(self, path: str | Path) -> Path:
        """See `exporting.export_file`."""
        work = exporting.export_file(self._sessions.blocking(), self._target, path)
        return run_in_place(work)

    def export_lines(self, write: exporting.Write) -> HistoryHeader:
        """See `exporting.export`."""
        return run_in_place(exporting.export(self._sessions.blocking(), self._target, write))

    def signal(self, name: str, payload: Any = None, *, id: str | None = None) -> str:
        """See `messages.signal`."""
        session = self._sessions.blocking()
        return run_in_place(messages.signal(session, self._target, name, payload, id))

    def reseed(self, seed: int | str, name: str | None = None, *, id: str | None = None) -> str:
        """See `messages.reseed`."""
        session = self._sessions.blocking()
        return run_in_place(messages.reseed(session, self._target, seed, name, id))

    def update(
        self,
        name: str,
        *args: Any,
        id: str | None = None,
        timeout: Timeout = None,
        type: Any = None,
    ) -> Any:
        """Send an update, wait for its outcome and return it; see `updates.send` and `wait`."""
        session = self._sessions.blocking()
        sent = run_in_place(updates.send(session, self._target, name, args, id))
        return run_in_place(updates.wait(session, sent, "completed", seconds(timeout), type))

    def start_update(
        self,
        name: str,
        *args: Any,
        id: str | None = None,
        wait_for: str = "accepted",
        timeout: Timeout = updates.ACCEPT_TIMEOUT_S,
    ) -> UpdateHandle:
        """Send an update, wait until it is accepted, or completed; see `updates.send`, `wait`."""
        updates.checked_stage(wait_for)
        session = self._sessions.blocking()
        sent = run_in_place(updates.send(session, self._target, name, args, id))
        run_in_place(updates.wait(session, sent, wait_for, seconds(timeout)))
        return UpdateHandle(self._sessions.blocking, sent)

    def query(self, name: str, *args: Any, timeout: Timeout = None) -> Json:
        """See `messages.query`."""
        session = self._sessions.blocking()
        return run_in_place(messages.query(session, self._target, name, args, seconds(timeout)))

    def cancel(self, reason: str = "") -> None:
        """See `messages.cancel`."""
        run_in_place(messages.cancel(self._sessions.blocking(), self._target, reason))

    def terminate(self, reason: str = "") -> None:
        """See `messages.terminate`."""
        run_in_place(messages.terminate(self._sessions.blocking(), self._target, reason))

    def reset(self, at: int | str, **how: Unpack[ResetHow]) -> "RunHandle[R]":
        """Let the id's next run go on from an event of this one; see `resets.reset`.

        Returns a handle on the next run.
        """
        options = ResetOptions(at=at, **how)
        work = resets.reset(self._sessions.blocking(), self._target, options)
        run = run_in_place(work)
        return RunHandle(self._sessions, replace(self._target, run=run))

    def plan_reset(
        self, at: int | str, *, despite_effects: bool = False, is_fork: bool = False
    ) -> ResetPlan:
        """See `resets.plan`; nothing is changed."""
        options = ResetOptions(at=at, despite_effects=despite_effects)
        work = resets.plan(self._sessions.blocking(), self._target, options, is_fork=is_fork)
        return run_in_place(work)

    def fork(
        self,
        id: str,
        at: int | str,
        *,
        args: Sequence[Any] | EllipsisType = ...,
        payload: Any = ...,
        reapply_signals: bool = False,
        despite_effects: bool = False,
    ) -> "RunHandle[R]":
        """Let a run of another id go on from an event of this one; see `resets.fork`.

        Returns a handle on it.  `args` and `payload` are as recorded unless they are given.
        """
        options = ResetOptions(
            at=at, reapply_signals=reapply_signals, despite_effects=despite_effects
        )
        given = {"args": args, "payload": payload}
        changes = {name: value for name, value in given.items() if value is not ...}
        work = resets.fork(self._sessions.blocking(), self._target, id, options, changes)
        run = run_in_place(work)
        return RunHandle(self._sessions, replace(self._target, workflow_id=id, run=run))

    def resolve(self, step: int, decision: str, *, reason: str = "", by: str = "") -> None:
        """See `decisions.resolve`."""
        session = self._sessions.blocking()
        work = decisions.resolve(session, self._target, step, decision, reason=reason, by=by)
        run_in_place(work)

    def step(self, number: int) -> StepHandle:
        """Return a handle on an outstanding step of the run."""
        return StepHandle(self._sessions.blocking, self._target, number)
