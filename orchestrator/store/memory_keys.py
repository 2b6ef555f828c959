"""Wrapped data keys in memory; see `ports.KeyStore`."""

import threading

from orchestrator.store.keys import partition_of


class MemoryKeys:
    """The part of a store in memory that keeps data keys."""

    def __init__(self, partitions: int) -> None:
        self._data_keys: list[dict[str, str]] = [{} for _ in range(partitions)]
        self._data_keys_lock = threading.Lock()

    def find_key(self, scope: str) -> str | None:
        """See `KeyStore.find_key`."""
        with self._data_keys_lock:
            return self._keys_beside(scope).get(scope)

    def create_key(self, scope: str, wrapped: str) -> str:
        """See `KeyStore.create_key`."""
        with self._data_keys_lock:
            return self._keys_beside(scope).setdefault(scope, wrapped)

    def replace_key(self, scope: str, expected: str, wrapped: str) -> bool:
        """See `KeyStore.replace_key`."""
        with self._data_keys_lock:
            kept = self._keys_beside(scope)
            if kept.get(scope) == expected:
                kept[scope] = wrapped
            return kept.get(scope) == wrapped

    def list_keys(self, partition: int) -> list[str]:
        """See `KeyStore.list_keys`."""
        with self._data_keys_lock:
            return sorted(self._data_keys[partition])

    def _keys_beside(self, scope: str) -> dict[str, str]:
        return self._data_keys[partition_of(scope, len(self._data_keys))]
