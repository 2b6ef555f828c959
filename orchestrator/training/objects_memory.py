"""Objects in this process's memory: for tests, and for trying out what need not last."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.training.errors import ObjectChanged, ObjectNotFound
from orchestrator.training.objects import Capabilities, Creation, Listed, Stat
from orchestrator.training.probing import probe_conditions
from orchestrator.training.tensors import Data


@dataclass(slots=True)
class _Object:
    data: bytes
    modified_at_ms: int
    version: str


class MemoryObjects:
    """See `objects.ObjectStore`.

    Args:
        clock: Milliseconds; stands still by default.
    """

    def __init__(self, clock: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        self._objects: dict[str, _Object] = {}
        self._versions = 0
        self._lock = threading.Lock()

    def create(self, key: str, data: Data, sha256: str) -> Creation:
        """See `ObjectStore.create`."""
        with self._lock:
            if key in self._objects:
                return Creation.EXISTS
            self._put(key, data)
            return Creation.CREATED

    def read(self, key: str) -> bytes:
        """See `ObjectStore.read`."""
        return self._get(key).data

    def stat(self, key: str) -> Stat:
        """See `ObjectStore.stat`."""
        found = self._get(key)
        return Stat(
            bytes=len(found.data), modified_at_ms=found.modified_at_ms, version=found.version
        )

    def replace(self, key: str, data: Data, *, sha256: str, expected: str) -> None:
        """See `ObjectStore.replace`."""
        with self._lock:
            found = self._objects.get(key)
            if found is None or found.version != expected:
                raise ObjectChanged(key, expected)
            self._put(key, data)

    def delete(self, key: str, *, expected: str) -> None:
        """See `ObjectStore.delete`."""
        with self._lock:
            found = self._objects.get(key)
            if found is not None and found.version != expected:
                raise ObjectChanged(key, expected)
            self._objects.pop(key, None)

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `ObjectStore.list`."""
        with self._lock:
            found = sorted((key, o) for key, o in self._objects.items() if key.startswith(prefix))
        for key, one in found:
            yield Listed(key=key, bytes=len(one.data), modified_at_ms=one.modified_at_ms)

    def now_ms(self) -> int:
        """See `ObjectStore.now_ms`."""
        return self._clock()

    def tidy(self, older_than_ms: int) -> int:
        """See `ObjectStore.tidy`."""
        return 0

    def probe(self) -> Capabilities:
        """See `ObjectStore.probe`."""
        probe_conditions(self, "objects in memory")
        return Capabilities(store="objects in memory", checks_sha256=False)

    def _get(self, key: str) -> _Object:
        found = self._objects.get(key)
        if found is None:
            raise ObjectNotFound(key)
        return found

    def _put(self, key: str, data: Data) -> None:
        self._versions += 1
        self._objects[key] = _Object(bytes(data), self._clock(), str(self._versions))
