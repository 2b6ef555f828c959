"""One app's connections to its store, made when they are first needed.

C1  Nothing is connected, and no configuration read, before somebody asks.
C2  An asyncio connection belongs to the event loop it was made on; each loop gets its own.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakKeyDictionary

from orchestrator.client.handle import Sessions
from orchestrator.client.port import (
    AsyncStore,
    BlockingStore,
    Bridged,
    in_place,
    in_thread,
    pause_in_place,
)
from orchestrator.client.session import Session
from orchestrator.core.definition import Codec, WorkflowDefinition
from orchestrator.core.interceptors import Interceptor
from orchestrator.engine.ports import BlobStore
from orchestrator.store.permit_ports import PermitStore
from orchestrator.store.ports import KeyStore, OwnerStore, WorkerStore


class Store(BlockingStore, OwnerStore, WorkerStore, KeyStore, PermitStore, Protocol):
    """Everything a store does, for everybody."""


class ClosableStore(AsyncStore, Protocol):
    """A store on an event loop, with connections to close."""

    async def aclose(self) -> None:
        """Close them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Another place that an app's clients are led to for a while; see `Connection.redirected`.

    `clock` and `wait_ms_max` are those of `Session`.
    """

    store: Store
    blobs: BlobStore
    clock: Callable[[], float]
    wait_ms_max: int


class Connection:
    """The way to the store, and the sessions over it.

    Args:
        open_store: Makes the blocking store; called once.
        open_async_store: Makes one for the running event loop; None bridges the blocking one by
            threads.
        codec: Of the app.
        registry: The workflows that this process knows.
        blobs: Where large results lie; made when first needed.
        interceptors: What stands around the calls of clients.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        open_async_store: Callable[[], ClosableStore] | None,
        *,
        codec: Codec,
        registry: Mapping[str, WorkflowDefinition],
        blobs: BlobStore,
        interceptors: tuple[Interceptor, ...] = (),
    ) -> None:
        self._interceptors = interceptors
        self._open_store = open_store
        self._open_async_store = open_async_store
        self._codec = codec
        self._registry = registry
        self._blobs = blobs
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._elsewhere: Elsewhere | None = None
        self._on_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, ClosableStore] = (
            WeakKeyDictionary()
        )
        self.sessions = Sessions(self._blocking, self._on_running_loop)

    @property
    def store(self) -> Store:
        """The blocking store, connected at the first use."""
        if self._elsewhere is not None:
            return self._elsewhere.store
        with self._lock:
            if self._store is None:
                self._store = self._open_store()
            return self._store

    @contextmanager
    def redirected(self, elsewhere: Elsewhere) -> Iterator[None]:
        """While the block runs every client of the app, made before or in it, goes elsewhere."""
        before, self._elsewhere = self._elsewhere, elsewhere
        try:
            yield
        finally:
            self._elsewhere = before

    async def close(self) -> None:
        """Close the running event loop's connections; the next call makes new ones."""
        store = self._on_loops.pop(asyncio.get_running_loop(), None)
        if store is not None:
            await store.aclose()

    def _blocking(self) -> Session:
        return self._session(Bridged(self.store, in_place), pause_in_place)

    def _on_running_loop(self) -> Session:
        if self._open_async_store is None or self._elsewhere is not None:
            return self._session(Bridged(self.store, in_thread), asyncio.sleep)
        loop = asyncio.get_running_loop()
        if loop not in self._on_loops:
            self._on_loops[loop] = self._open_async_store()
        return self._session(self._on_loops[loop], asyncio.sleep)

    def _session(self, store: AsyncStore, pause: Callable[[float], Awaitable[None]]) -> Session:
        session = Session(
            store=store,
            pause=pause,
            codec=self._codec,
            registry=self._registry,
            blobs=self._blobs,
            interceptors=self._interceptors,
        )
        there = self._elsewhere
        if there is None:
            return session
        return replace(session, blobs=there.blobs, clock=there.clock, wait_ms_max=there.wait_ms_max)
