"""The server: the store in memory, which can be restarted."""

from orchestrator.store.memory import MemoryStore


class Server(MemoryStore):
    """The store; `epoch` counts its restarts."""

    epoch = 0

    def server_id(self) -> str:
        """See `OwnerStore.server_id`."""
        return f"server-{self.epoch}"
