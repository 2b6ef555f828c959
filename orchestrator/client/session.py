"""What every request of a client needs, and how it deals with a store that does not answer.

R1  A write is repeated under one request id, so that it takes effect once however often it is sent.
R2  Reads that wait ride out an outage of up to ``OUTAGE_MS_MAX``; then the caller is told.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from orchestrator.client.port import AsyncStore
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.definition import Codec, WorkflowDefinition
from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.interceptors import Interceptor, chained
from orchestrator.core.values import Json
from orchestrator.engine.ports import BlobStore

T = TypeVar("T")

#: Times a request is sent while the store does not answer; about three seconds in all.
SENDS_MAX = 6
#: Pause before the second sending; each further one twice as long.
RESEND_PAUSE_MS = 100
#: One blocking wait at the store.  Below its socket time-out, and short enough for Ctrl-C.
WAIT_MS_MAX = 2_000
#: Someone who waits for a result sits out a restart of the store, but not its absence.
OUTAGE_MS_MAX = 60_000

assert RESEND_PAUSE_MS * 2 ** (SENDS_MAX - 1) < OUTAGE_MS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One way to the store: blocking, or on an event loop.

    Args:
        store: See `AsyncStore`.
        pause: Waits for some seconds.
        codec: Of the app.
        registry: The workflows that this process knows.
        blobs: Where large results lie.
        clock: Seconds, for time-outs alone.
        wait_ms_max: One blocking wait at the store.
        interceptors: What stands around its calls, outermost first.
    """

    store: AsyncStore
    pause: Callable[[float], Awaitable[None]]
    codec: Codec
    registry: Mapping[str, WorkflowDefinition]
    blobs: BlobStore
    clock: Callable[[], float] = time.monotonic
    wait_ms_max: int = WAIT_MS_MAX
    interceptors: tuple[Interceptor, ...] = ()

    def deadline(self, timeout_s: float | None) -> "Deadline":
        """Return how long a caller waits who gives this much time; None is for ever."""
        return Deadline(timeout_s, self.clock, self.wait_ms_max)

    def intercepted(
        self, name: str, send: Callable[[Any], Awaitable[T]]
    ) -> Callable[[Any], Awaitable[T]]:
        """Return `send` with the interceptors around it, by their method `name`."""
        return chained(self.interceptors, name, send)

    async def resend(self, send: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to a request that may be sent again (R1).

        Raises:
            StoreUnavailable: No answer to any of ``SENDS_MAX`` sendings.
        """
        pause_ms = RESEND_PAUSE_MS
        for _ in range(SENDS_MAX - 1):
            try:
                return await send()
            except StoreUnavailable:
                await self.pause(pause_ms / 1000)
                pause_ms *= 2
        return await send()

    def resolved(self, value: Json) -> Json:
        """Return `value`, or what it refers to."""
        ref = find_blob_ref(value)
        return value if ref is None else self.blobs.get(ref)


class Deadline:
    """How long the caller still waits; None is for ever."""

    def __init__(
        self,
        timeout_s: float | None,
        clock: Callable[[], float] = time.monotonic,
        wait_ms_max: int = WAIT_MS_MAX,
    ) -> None:
        self._clock = clock
        self._wait_ms_max = wait_ms_max
        self._end = None if timeout_s is None else clock() + max(0.0, timeout_s)

    def slice_ms(self) -> int:
        """Return how long the next blocking wait may take; 0 when the time is over."""
        if self._end is None:
            return self._wait_ms_max
        return max(0, min(self._wait_ms_max, round((self._end - self._clock()) * 1000)))
