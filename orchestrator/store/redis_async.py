"""The client's calls on an asyncio client: the flows of `run_calls.py`, awaited."""

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from orchestrator.core.values import Json
from orchestrator.store import attempt_calls, index_calls, run_calls
from orchestrator.store.connect import blocking_twin
from orchestrator.store.executors import AsyncExecutor
from orchestrator.store.index_ports import IndexPage, Window
from orchestrator.store.keys import Keys
from orchestrator.store.layout import open_namespace
from orchestrator.store.ports import (
    AttemptKey,
    ClaimAnswer,
    Kind,
    PostAnswer,
    Posted,
    RunKey,
    Start,
    StoredEvent,
)


class AsyncRedisClientStore:
    """See `ClientStore`: the same calls, as coroutines.  Belongs to one event loop.

    Args:
        client: From `connect.connect_async`.
        prefix: Of every key.
        partitions: What the namespace has to have; None for what it has, or else the default.
        blocking: For calls that wait; by default connections of their own to the same server.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "orc",
        partitions: int | None = None,
        blocking: Redis | None = None,
    ) -> None:
        self._client = client
        self._blocking: Redis = blocking or blocking_twin(client)
        self._executor = AsyncExecutor(self._client, self._blocking)
        self._prefix = prefix
        self._wanted_partitions = partitions
        self._opened: Keys | None = None

    async def _keys(self) -> Keys:
        if self._opened is None:
            flow = open_namespace(self._prefix, self._wanted_partitions)
            self._opened = await self._executor.run(flow)
        return self._opened

    async def open(self) -> "AsyncRedisClientStore":
        """See `RedisStore.open`."""
        await self._keys()
        return self

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._blocking.connection_pool.disconnect()

    async def start(
        self,
        workflow_id: str,
        *,
        request_id: str,
        body: Mapping[str, Json],
        message: tuple[Kind, Mapping[str, Json]] | None = None,
    ) -> Start:
        """See `ClientStore.start`."""
        flow = run_calls.start(await self._keys(), workflow_id, request_id, body, message)
        return await self._executor.run(flow)

    async def post(
        self, workflow_id: str, kind: Kind, body: Mapping[str, Json], *, run: int = 0
    ) -> Posted:
        """See `ClientStore.post`."""
        flow = run_calls.post(await self._keys(), workflow_id, kind, body, run)
        return await self._executor.run(flow)

    async def find_row(self, workflow_id: str) -> dict[str, str] | None:
        """See `OwnerStore.find_row`."""
        return await self._executor.run(run_calls.find_row(await self._keys(), workflow_id))

    async def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """See `OwnerStore.read_history`."""
        flow = run_calls.read_history(await self._keys(), key, after_seq, count)
        return await self._executor.run(flow)

    async def wait_for_answer(
        self, workflow_id: str, reply_to: str, *, wait_ms: int
    ) -> dict[str, Json] | None:
        """See `ClientStore.wait_for_answer`."""
        flow = run_calls.wait_for_answer(await self._keys(), reply_to, wait_ms)
        return await self._executor.run(flow)

    async def wait_for_event(self, key: RunKey, *, after_seq: int, wait_ms: int) -> bool:
        """See `ClientStore.wait_for_event`."""
        flow = run_calls.wait_for_event(await self._keys(), key, after_seq, wait_ms)
        return await self._executor.run(flow)

    async def page_runs(self, indexes: Sequence[str], window: Window) -> IndexPage:
        """See `RunIndex.page_runs`."""
        flow = index_calls.page_runs(await self._keys(), indexes, window)
        return await self._executor.run(flow)

    async def index_sizes(self, indexes: Sequence[str]) -> list[int]:
        """See `RunIndex.index_sizes`."""
        return await self._executor.run(index_calls.index_sizes(await self._keys(), indexes))

    async def read_rows(self, runs: Sequence[tuple[str, int]]) -> list[dict[str, str] | None]:
        """See `RunIndex.read_rows`."""
        return await self._executor.run(index_calls.read_rows(await self._keys(), runs))

    async def post_outcome(
        self, key: AttemptKey, token: str, body: Mapping[str, Json]
    ) -> PostAnswer:
        """See `WorkerStore.post_outcome`."""
        flow = attempt_calls.post_outcome(await self._keys(), key, token, body)
        return await self._executor.run(flow)

    async def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """See `WorkerStore.heartbeat`."""
        flow = attempt_calls.heartbeat(await self._keys(), key, token, details)
        return await self._executor.run(flow)
