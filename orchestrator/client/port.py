"""The store as the client sees it, in coroutines; and a blocking store behind the same face.

B1  A coroutine over a `Bridged` store whose calls run in place never suspends, so `run_in_place`
    can drive it to its end without an event loop.  That is the whole synchronous client.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from orchestrator.core.errors import UsageError
from orchestrator.core.values import Json
from orchestrator.store.index_ports import IndexPage, Window
from orchestrator.store.ports import (
    AttemptKey,
    ClaimAnswer,
    ClientStore,
    Kind,
    PostAnswer,
    Posted,
    RunKey,
    Start,
    StoredEvent,
)

T = TypeVar("T")


class BlockingStore(ClientStore, Protocol):
    """A blocking store: `ClientStore`, and what a client needs beside it."""

    def now_ms(self) -> int:
        """See `ports.OwnerStore`."""
        ...

    def find_row(self, workflow_id: str) -> dict[str, str] | None:
        """See `ports.OwnerStore`."""
        ...

    def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """See `ports.OwnerStore`."""
        ...

    def post_outcome(self, key: AttemptKey, token: str, body: Mapping[str, Json]) -> PostAnswer:
        """See `ports.WorkerStore`."""
        ...

    def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """See `ports.WorkerStore`."""
        ...


class AsyncStore(Protocol):
    """`BlockingStore` as coroutines; the meaning of each call is in `store.ports`."""

    async def now_ms(self) -> int:
        """See `ports.OwnerStore`."""
        ...

    async def find_row(self, workflow_id: str) -> dict[str, str] | None:
        """See `ports.OwnerStore`."""
        ...

    async def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """See `ports.OwnerStore`."""
        ...

    async def start(
        self,
        workflow_id: str,
        *,
        request_id: str,
        body: Mapping[str, Json],
        message: tuple[Kind, Mapping[str, Json]] | None = None,
    ) -> Start:
        """See `ports.ClientStore`."""
        ...

    async def post(
        self, workflow_id: str, kind: Kind, body: Mapping[str, Json], *, run: int = 0
    ) -> Posted:
        """See `ports.ClientStore`."""
        ...

    async def wait_for_answer(
        self, workflow_id: str, reply_to: str, *, wait_ms: int
    ) -> dict[str, Json] | None:
        """See `ports.ClientStore`."""
        ...

    async def wait_for_event(self, key: RunKey, *, after_seq: int, wait_ms: int) -> bool:
        """See `ports.ClientStore`."""
        ...

    async def page_runs(self, indexes: Sequence[str], window: Window) -> IndexPage:
        """See `index_ports.RunIndex`."""
        ...

    async def index_sizes(self, indexes: Sequence[str]) -> list[int]:
        """See `index_ports.RunIndex`."""
        ...

    async def read_rows(self, runs: Sequence[tuple[str, int]]) -> list[dict[str, str] | None]:
        """See `index_ports.RunIndex`."""
        ...

    async def post_outcome(
        self, key: AttemptKey, token: str, body: Mapping[str, Json]
    ) -> PostAnswer:
        """See `ports.WorkerStore`."""
        ...

    async def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """See `ports.WorkerStore`."""
        ...


class _Call(Protocol):
    def __call__(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Awaitable[T]: ...


class Bridged:
    """An `AsyncStore` over a blocking one; `call` says where its calls run."""

    def __init__(self, store: BlockingStore, call: _Call) -> None:
        self._store = store
        self._call = call

    async def now_ms(self) -> int:
        """See `ports.OwnerStore`."""
        return await self._call(self._store.now_ms)

    async def find_row(self, workflow_id: str) -> dict[str, str] | None:
        """See `ports.OwnerStore`."""
        return await self._call(self._store.find_row, workflow_id)

    async def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """See `ports.OwnerStore`."""
        return await self._call(self._store.read_history, key, after_seq=after_seq, count=count)

    async def start(
        self,
        workflow_id: str,
        *,
        request_id: str,
        body: Mapping[str, Json],
        message: tuple[Kind, Mapping[str, Json]] | None = None,
    ) -> Start:
        """See `ports.ClientStore`."""
        return await self._call(
            self._store.start, workflow_id, request_id=request_id, body=body, message=message
        )

    async def post(
        self, workflow_id: str, kind: Kind, body: Mapping[str, Json], *, run: int = 0
    ) -> Posted:
        """See `ports.ClientStore`."""
        return await self._call(self._store.post, workflow_id, kind, body, run=run)

    async def wait_for_answer(
        self, workflow_id: str, reply_to: str, *, wait_ms: int
    ) -> dict[str, Json] | None:
        """See `ports.ClientStore`."""
        return await self._call(self._store.wait_for_answer, workflow_id, reply_to, wait_ms=wait_ms)

    async def wait_for_event(self, key: RunKey, *, after_seq: int, wait_ms: int) -> bool:
        """See `ports.ClientStore`."""
        return await self._call(
            self._store.wait_for_event, key, after_seq=after_seq, wait_ms=wait_ms
        )

    async def page_runs(self, indexes: Sequence[str], window: Window) -> IndexPage:
        """See `index_ports.RunIndex`."""
        return await self._call(self._store.page_runs, indexes, window)

    async def index_sizes(self, indexes: Sequence[str]) -> list[int]:
        """See `index_ports.RunIndex`."""
        return await self._call(self._store.index_sizes, indexes)

    async def read_rows(self, runs: Sequence[tuple[str, int]]) -> list[dict[str, str] | None]:
        """See `index_ports.RunIndex`."""
        return await self._call(self._store.read_rows, runs)

    async def post_outcome(
        self, key: AttemptKey, token: str, body: Mapping[str, Json]
    ) -> PostAnswer:
        """See `ports.WorkerStore`."""
        return await self._call(self._store.post_outcome, key, token, body)

    async def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """See `ports.WorkerStore`."""
        return await self._call(self._store.heartbeat, key, token, details)


async def in_place(call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Make a blocking call where it stands (B1)."""
    return call(*args, **kwargs)


async def in_thread(call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Make a blocking call in a thread, so that the event loop goes on meanwhile."""
    return await asyncio.to_thread(call, *args, **kwargs)


async def pause_in_place(seconds: float) -> None:
    """Wait, and the thread with it (B1)."""
    threading.Event().wait(seconds)


def run_in_place(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what `coroutine` returns; it must never suspend (B1).

    Raises:
        UsageError: It did: an interceptor awaited something else than the call that it is given.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise UsageError(
        "an interceptor waited for something inside a call of the blocking client, which has no "
        "event loop: await nothing but proceed() there, or make the call through .aio"
    )
