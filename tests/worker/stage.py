"""A step's message and a store in memory, with no process in between."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.blobs import DirectoryBlobs
from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.interceptors import Interceptor
from orchestrator.core.values import Json
from orchestrator.engine.ports import Outgoing
from orchestrator.payloads import PydanticCodec
from orchestrator.store.ports import AttemptKey, Claim, Kind, PostAnswer
from orchestrator.worker.header import encode_arguments, write_header
from orchestrator.worker.keepers import ThreadKeeper
from orchestrator.worker.patience import Patience
from orchestrator.worker.protocol import StepProtocol, Work
from tests.store.world import World, memory_world

CODEC = PydanticCodec()


class FlakyStore:
    """A worker's store that does not answer when told so, before or after it did what was asked."""

    def __init__(self, store: Any) -> None:
        self.inner = store
        self.silent: list[str] = []
        self.calls: list[str] = []

    def _ask(self, name: str, call: Callable[[], Any]) -> Any:
        self.calls.append(name)
        mood = self.silent.pop(0) if self.silent else ""
        if mood == "before":
            raise StoreUnavailable(name, "refused")
        answer = call()
        if mood == "after":
            raise StoreUnavailable(name, "answer lost")
        return answer

    def claim(self, key: AttemptKey, token: str, *, ttl_ms: int) -> Claim:
        answer: Claim = self._ask("claim", lambda: self.inner.claim(key, token, ttl_ms=ttl_ms))
        return answer

    def renew(self, claims: Any, *, ttl_ms: int) -> Any:
        return self._ask("renew", lambda: self.inner.renew(claims, ttl_ms=ttl_ms))

    def post_outcome(self, key: AttemptKey, token: str, body: Mapping[str, Json]) -> PostAnswer:
        answer: PostAnswer = self._ask("post", lambda: self.inner.post_outcome(key, token, body))
        return answer

    def detach(self, key: AttemptKey, token: str) -> Any:
        return self._ask("detach", lambda: self.inner.detach(key, token))

    def heartbeat(self, key: AttemptKey, token: str, details: Json) -> Any:
        return self._ask("heartbeat", lambda: self.inner.heartbeat(key, token, details))


class Stage:
    """A step's message, a store in memory, and no process in between."""

    def __init__(self, directory: Path, *interceptors: Interceptor) -> None:
        self.world: World = memory_world(direct=True)
        self.run_key = self.world.open_run()
        self.store = FlakyStore(self.world.store)
        self.blobs = DirectoryBlobs(directory)
        self.waits: list[float] = []
        self.keeper = ThreadKeeper(self.store, interval_s=3600)
        patience = Patience(1000, wait=self.waits.append, clock=lambda: sum(self.waits))
        self.protocol = StepProtocol(
            self.store,
            self.blobs,
            CODEC,
            keeper=self.keeper,
            patience=patience,
            interceptors=interceptors,
        )

    def run(self, body: Callable[..., Any], *args: Json, number: int = 1, **parts: Any) -> Any:
        """Send an attempt and carry it out."""
        key = self.world.send(self.run_key, 1, number)
        return self.carry_out(key, body, *args, **parts)

    def carry_out(
        self, key: AttemptKey, body: Callable[..., Any], *args: Json, **parts: Any
    ) -> Any:
        """Carry out the message of an attempt."""
        outgoing = Outgoing(
            key=key,
            task="tasks.body",
            args=parts.get("raw_args", list(args)),
            kwargs=parts.get("kwargs", {}),
            idempotency_key="order-42.1.1",
            compensates="order-42.1.0",
            workflow="order",
            headers=parts.get("headers", {}),
        )
        header = json.loads(write_header(outgoing, encode_arguments(outgoing)))
        header.update(parts.get("header", {}))
        work = Work(key=key, header=header, task="tasks.body", function=body, call=body)
        return self.protocol.run(work)

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """The bodies of all outcomes posted so far."""
        return self.world.bodies(Kind.OUTCOME)

    @property
    def outcome(self) -> dict[str, Any]:
        """The only outcome."""
        (body,) = self.outcomes
        return body
