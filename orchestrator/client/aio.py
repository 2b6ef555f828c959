"""The app object's calls for code on an event loop."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Unpack

from orchestrator.client import listing
from orchestrator.client.connection import Connection
from orchestrator.client.handle import AsyncRunHandle
from orchestrator.client.ids import checked_workflow_id
from orchestrator.client.listing import LIST_LIMIT, RunPage, Where
from orchestrator.client.messages import Target
from orchestrator.client.schedules import (
    AsyncScheduleHandle,
    ScheduleDescription,
    list_schedules,
)
from orchestrator.client.summary import RunSummary
from orchestrator.client.token_handle import AsyncTokenHandle


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
        filter: str = "",
        *,
        limit: int = LIST_LIMIT,
        page_token: str = "",
        **where: Unpack[Where],
    ) -> RunPage:
        """See `Orchestrator.list`."""
        wanted = listing.filter_of(filter, where)
        session = self._connection.sessions.on_running_loop()
        return await listing.list_page(session, wanted, limit=limit, page_token=page_token)

    def iterate(self, filter: str = "", **where: Unpack[Where]) -> AsyncIterator[RunSummary]:
        """See `Orchestrator.iterate`."""
        wanted = listing.filter_of(filter, where)
        return listing.iterate(self._connection.sessions.on_running_loop(), wanted)

    async def count(self, filter: str = "", **where: Unpack[Where]) -> int:
        """See `Orchestrator.count`."""
        wanted = listing.filter_of(filter, where)
        return await listing.count(self._connection.sessions.on_running_loop(), wanted)

    async def count_by(self, name: str, filter: str = "", **where: Unpack[Where]) -> dict[str, int]:
        """See `Orchestrator.count_by`."""
        wanted = listing.filter_of(filter, where)
        return await listing.count_by(self._connection.sessions.on_running_loop(), wanted, name)

    def step(self, token: str) -> AsyncTokenHandle:
        """See `Orchestrator.step`."""
        return AsyncTokenHandle(self._connection.sessions.on_running_loop, token)

    def schedule(self, id: str) -> AsyncScheduleHandle:
        """See `Orchestrator.schedule`."""
        return AsyncScheduleHandle(self._connection.sessions, checked_workflow_id(id))

    async def schedules(self, *, limit: int = LIST_LIMIT) -> Sequence[ScheduleDescription]:
        """See `Orchestrator.schedules`."""
        return await list_schedules(self._connection.sessions.on_running_loop(), limit)

    async def close(self) -> None:
        """Close this event loop's connections; the next call makes new ones."""
        await self._connection.close()
