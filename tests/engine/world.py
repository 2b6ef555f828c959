"""A whole engine in one thread: in-memory store, manual clock, workers that are plain functions.

Nothing here waits.  `settle` lets owners and workers take turns until nothing is left to do now;
`advance` moves the clock.
"""

import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

from orchestrator.core.blobs import BlobRef
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import BlobUnavailable, PayloadTooLarge, StoreUnavailable
from orchestrator.core.events import Event, decode
from orchestrator.core.failure import failure_of
from orchestrator.core.ledger import Ledger
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.values import Json, canonical, digest, first_head, loads, next_head
from orchestrator.engine.leases import Leases
from orchestrator.engine.local_steps import LocalSteps
from orchestrator.engine.owner import Owner
from orchestrator.engine.ports import Outgoing
from orchestrator.engine.settings import EngineSettings
from orchestrator.engine.turn import Tools
from orchestrator.engine.watchdog import unwatched
from orchestrator.payloads import PydanticCodec
from orchestrator.store.clocks import ManualClock
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import (
    AttemptKey,
    ClaimAnswer,
    Kind,
    Message,
    PostAnswer,
    Posted,
    RunKey,
)

QUEUE = "celery"
TURNS_MAX = 10_000


class FakeDispatcher:
    """Messages as JSON of what they carry."""

    def message(self, outgoing: Outgoing) -> Message:
        body = {
            "key": str(outgoing.key),
            "task": outgoing.task,
            "args": outgoing.args,
            "kwargs": outgoing.kwargs,
            "idempotency_key": outgoing.idempotency_key,
            "compensates": outgoing.compensates,
            "headers": dict(outgoing.headers),
        }
        return Message(queue=outgoing.queue or QUEUE, body=json.dumps(body).encode())

    def publish(self, messages: Sequence[Message]) -> None:
        raise AssertionError("the memory store is its own broker")


class MemoryBlobs:
    """Values by digest."""

    def __init__(self) -> None:
        self.values: dict[str, Json] = {}
        self.bytes_max = 10_000_000

    def put(self, value: Json) -> BlobRef:
        size = len(canonical(value))
        if size > self.bytes_max:
            raise PayloadTooLarge("value", size, self.bytes_max)
        sha = digest(value)
        self.values[sha] = value
        return BlobRef(sha256=sha, size=size)

    def get(self, ref: BlobRef) -> Json:
        if ref.sha256 not in self.values:
            raise BlobUnavailable(f"blob {ref.sha256}", "it is missing")
        return self.values[ref.sha256]

    def delete(self, ref: BlobRef) -> None:
        self.values.pop(ref.sha256, None)


class HandLocal:
    """Local steps that run when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Outgoing, Callable[[Mapping[str, Json]], None]]] = []
        self.cancelled: list[AttemptKey] = []

    def submit(self, outgoing: Outgoing, done: Callable[[Mapping[str, Json]], None]) -> None:
        self.waiting.append((outgoing, done))

    def cancel(self, key: AttemptKey) -> None:
        self.cancelled.append(key)

    def close(self) -> None:
        self.waiting.clear()


def definition(
    function: Callable[..., Awaitable[Any]], name: str | None = None, **options: Any
) -> WorkflowDefinition:
    """Return the definition of a workflow function that takes its input as JSON."""
    return WorkflowDefinition(
        name=name or function.__name__,
        function=function,
        codec=PydanticCodec(),
        decode_input=lambda args, kwargs: (tuple(args), dict(kwargs)),
        **options,
    )


class Node:
    """One orchestrator of the world."""

    def __init__(self, world: "World", name: str, store: Any = None) -> None:
        self.store = store or world.store
        self.local = HandLocal()
        settings = EngineSettings(run_cache_max=world.run_cache_max)
        self.leases = Leases(self.store, name, settings)
        tools = Tools(
            registry=world.registry,
            dispatcher=FakeDispatcher(),
            blobs=world.blobs,
            rng=world.rng,
            owner_id=name,
            engine_version="test",
            watch=unwatched,
            now_ms=self.store.now_ms,
            read_step=self.store.read_step,
            read_history=self.store.read_history,
            **world.more_tools,
        )
        self.local_steps = LocalSteps(self.store, self.local)
        self.owner = Owner(
            self.store, self.leases, tools, self.local_steps, settings, clock=self.store.now_ms
        )

    def turn(self) -> int:
        """One turn of the loop; returns the number of commits."""
        self.owner.balance(self.store.now_ms())
        return self.owner.cycle(block_ms=0)

    def close(self) -> None:
        """Close what it has in memory; in the store it leaves everything as a kill would."""
        self.owner.cache.drop_where(lambda run: True)

    def try_turn(self) -> int:
        """A turn as the process makes it: an outage is doubted, not raised."""
        try:
            return self.turn()
        except StoreUnavailable:
            self.owner.doubt()
            return 1


class World:
    """Store, clock, one orchestrator unless more are added, and workers."""

    alive: ClassVar[list["World"]] = []
    #: What orchestrators get beside the usual tools.
    more_tools: Mapping[str, Any] = {}

    def __init__(self, *functions: Any, run_cache_max: int = 100) -> None:
        World.alive.append(self)
        self.clock = ManualClock()
        self.store = MemoryStore(4, clock=self.clock)
        self.registry: dict[str, WorkflowDefinition] = {}
        self.blobs = MemoryBlobs()
        self.rng = random.Random(7)
        self.run_cache_max = run_cache_max
        self.tasks: dict[str, Callable[..., Any]] = {}
        #: (task, args, idempotency key) of every body that was entered.
        self.ran: list[tuple[str, list[Any], str]] = []
        self.deploy(*functions)
        self.nodes = [Node(self, "one")]
        self._request = 0

    @property
    def node(self) -> Node:
        """The first orchestrator."""
        return self.nodes[0]

    def deploy(self, *functions: Any) -> None:
        """Register workflows, replacing those of the same name."""
        for function in functions:
            found = function if isinstance(function, WorkflowDefinition) else definition(function)
            self.registry[found.name] = found

    def restart(self) -> None:
        """Kill the first orchestrator and start another, which waits for its leases to expire."""
        self.nodes[0].close()
        self.nodes[0] = Node(self, f"node-{self.rng.getrandbits(32)}")
        self.clock.advance(10_000)

    def close(self) -> None:
        """End all orchestrators."""
        for node in self.nodes:
            node.close()

    # --- clients -------------------------------------------------------------------------------

    def start(self, workflow: str, *args: Any, id: str = "w", **said: Json) -> RunKey:
        """Start a run; `said` is what its START says beside the input."""
        self._request += 1
        body: dict[str, Json] = {"workflow": workflow, "args": list(args), "kwargs": {}, **said}
        start = self.store.start(id, request_id=f"r{self._request}", body=body)
        return RunKey(workflow_id=id, run=start.run)

    def signal(
        self, name: str, payload: Json = None, *, id: str = "w", signal_id: str = ""
    ) -> Posted:
        self._request += 1
        body: dict[str, Json] = {
            "signal": name,
            "signal_id": signal_id or f"s{self._request}",
            "payload": payload,
        }
        return self.store.post(id, Kind.SIGNAL, body)

    def update(self, name: str, *args: Json, id: str = "w", update_id: str = "") -> Posted:
        self._request += 1
        body: dict[str, Json] = {
            "update": name,
            "update_id": update_id or f"u{self._request}",
            "args": list(args),
        }
        return self.store.post(id, Kind.UPDATE, body)

    def query(self, name: str, *args: Json, id: str = "w") -> Json:
        """Ask, let the owners work, and return the reply: {"ok": …} or {"error": …}."""
        self._request += 1
        reply_to = f"q{self._request}"
        body: dict[str, Json] = {"query": name, "args": list(args), "reply_to": reply_to}
        self.store.post(id, Kind.QUERY, body)
        self.turn()
        return self.store.wait_for_answer(id, reply_to, wait_ms=0)

    def post(self, kind: Kind, body: dict[str, Json], *, id: str = "w") -> Posted:
        return self.store.post(id, kind, body)

    def row(self, id: str = "w") -> dict[str, str]:
        row = self.store.find_row(id)
        assert row is not None
        return row

    def status(self, id: str = "w") -> str:
        return self.row(id)["status"]

    def result(self, id: str = "w") -> Json:
        return loads(self.row(id)["result"])

    def events(self, id: str = "w", run: int = 1) -> list[Event]:
        stored = self.store.read_history(RunKey(workflow_id=id, run=run))
        return [decode(loads(event.data)) for event in stored]  # type: ignore[arg-type]

    def names(self, id: str = "w", run: int = 1) -> list[str]:
        return [type(event).__name__ for event in self.events(id, run)]

    def check_chain(self, id: str = "w", run: int = 1) -> None:
        head = first_head(id, run)
        ledger = Ledger()
        for seq, event in enumerate(self.store.read_history(RunKey(workflow_id=id, run=run)), 1):
            assert event.seq == seq
            head = next_head(head, event.data)
            assert event.head == head
            ledger.apply(decode(loads(event.data)))  # type: ignore[arg-type]

    # --- workers -------------------------------------------------------------------------------

    def task(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register a plain function as a task; decorator."""
        self.tasks[function.__name__] = function
        return function

    def pop(self, queue: str = QUEUE) -> dict[str, Any] | None:
        """Take a message from the broker."""
        if not self.store.queues[queue]:
            return None
        found: dict[str, Any] = json.loads(self.store.queues[queue].popleft())
        return found

    def claim(self, message: dict[str, Any], token: str = "worker/1") -> ClaimAnswer:
        key = AttemptKey.parse(message["key"])
        return self.store.claim(key, token, ttl_ms=CLAIM_TTL_MS).answer

    def run_body(self, message: dict[str, Any]) -> dict[str, Json]:
        """Run the task of a claimed message; return its outcome."""
        self.ran.append((message["task"], message["args"], message["idempotency_key"]))
        try:
            result = self.tasks[message["task"]](*message["args"], **message["kwargs"])
        except Exception as error:
            return {"kind": "failed", "failure": failure_of(error).as_json()}
        return {"kind": "completed", "result": result}

    def finish(
        self, message: dict[str, Any], body: dict[str, Json], token: str = "worker/1"
    ) -> PostAnswer:
        return self.store.post_outcome(AttemptKey.parse(message["key"]), token, body)

    def work(self, queue: str = QUEUE) -> int:
        """Carry out every message that waits; return how many."""
        count = 0
        while (message := self.pop(queue)) is not None:
            count += 1
            if self.claim(message) is ClaimAnswer.GRANTED:
                self.finish(message, self.run_body(message))
        return count

    def settle(self) -> None:
        """Let owners and workers take turns until nothing is left to do at this instant."""
        for _ in range(TURNS_MAX):
            if not sum(node.try_turn() for node in self.nodes) + self.work():
                return
        raise AssertionError("the world does not come to rest")

    def turn(self) -> None:
        """Let the owners work, but no worker."""
        for _ in range(TURNS_MAX):
            if not sum(node.try_turn() for node in self.nodes):
                return
        raise AssertionError("the owners do not come to rest")

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)
