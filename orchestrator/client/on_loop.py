"""The asyncio client's store."""

from orchestrator.store import owner_calls
from orchestrator.store.redis_async import AsyncRedisClientStore


class ClientStoreOnLoop(AsyncRedisClientStore):
    """See `port.AsyncStore`: the store's calls, and its clock, on one event loop."""

    async def now_ms(self) -> int:
        """See `ports.OwnerStore`."""
        return await self._executor.run(owner_calls.now_ms())
