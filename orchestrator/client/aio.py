"""The app object's calls for code on an event loop."""

from collections.abc import Sequence
from typing import Any

from orchestrator.client import reading
from orchestrator.client.connection import Connection
from orchestrator.client.handle import AsyncRunHandle
from orchestrator.client.ids import checked_workflow_id
from orchestrator.client.messages import Target
from orchestrator.client.reading import LIST_LIMIT
from orchestrator.client.schedules import (
    AsyncScheduleHandle,
    ScheduleDescription,
    list_schedules,
)
from orchestrator.client.summary import RunSummary


class AsyncRuns:
    """The app object's calls for code on an event loop: ``orc.aio``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, id: str, run: int | None = None) -> AsyncRunHandle[Any]:
        """See `Orchestrator.run`."""
        target = Target(workflow_id=checked_workflow_id(id), run=run or 0)
        return AsyncRunHandle(self._connection.sessions, target)

    async def list(
        self,
        *,
        open: bool = True,
        closed: bool = True,
        type: str | None = None,
        status: str | None = None,
        limit: int = LIST_LIMIT,
    ) -> Sequence[RunSummary]:
        """See `Orchestrator.list`."""
        return await reading.list_runs(
            self._connection.sessions.on_running_loop(),
            reading.Wanted(open=open, closed=closed, type=type, status=status, limit=limit),
        )

    def schedule(self, id: str) -> AsyncScheduleHandle:
        """See `Orchestrator.schedule`."""
        return AsyncScheduleHandle(self._connection.sessions, checked_workflow_id(id))

    async def schedules(self, *, limit: int = LIST_LIMIT) -> Sequence[ScheduleDescription]:
        """See `Orchestrator.schedules`."""
        return await list_schedules(self._connection.sessions.on_running_loop(), limit)

    async def close(self) -> None:
        """Close this event loop's connections; the next call makes new ones."""
        await self._connection.close()
