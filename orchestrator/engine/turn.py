"""What one turn of a run works on: its ledger, its draft, and the inputs that wait.

Shared by the parts that know what an arrival means (`engine.mail`, `engine.attempts`) and the run
that activates the code.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from orchestrator.core import events as e
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ActivationFailed
from orchestrator.core.ledger import Ledger
from orchestrator.core.values import Json
from orchestrator.core.versions import to_carry_on, unknown
from orchestrator.engine.draft import Draft
from orchestrator.engine.observing import Observer
from orchestrator.engine.ports import BlobStore, Dispatcher, Registry
from orchestrator.store.ports import RunKey, StoredEvent

T = TypeVar("T")


class Watch(Protocol):
    """Runs an activation, and interrupts it when it takes too long."""

    def __call__(self, subject: str, activate: Callable[[], T], /) -> T:
        """Return what `activate` returns; `subject` names it in the log.

        Raises:
            ActivationFailed: Kind "deadline".
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every run of an orchestrator shares.

    Args:
        rng: Seeds of runs, jitter of retries, nonces of claims.
        watch: Runs an activation, and interrupts it when it takes too long.
        now_ms: The store's clock.
        read_step: See `OwnerStore.read_step`.
        read_history: See `OwnerStore.read_history`.
        seal: What an event's bytes become before they are chained and stored.
        observer: Who measures.
    """

    registry: Registry
    dispatcher: Dispatcher
    blobs: BlobStore
    rng: random.Random
    owner_id: str
    engine_version: str
    watch: Watch
    now_ms: Callable[[], int]
    read_step: Callable[[RunKey, int], dict[str, str]]
    read_history: Callable[[RunKey], list[StoredEvent]]
    seal: Callable[[RunKey, bytes], bytes] = lambda _key, data: data
    observer: Observer = field(default_factory=Observer)


class Turn:
    """The working state of one run.  `at_ms` is the instant of all that this turn records."""

    def __init__(self, key: RunKey, tools: Tools) -> None:
        self.key = key
        self.tools = tools
        self.ledger = Ledger()
        self.draft = Draft(key, self.ledger, "", seal=tools.seal)
        self.inputs: deque[e.Input] = deque()
        self.at_ms = 0

    def begin(self, head: str) -> None:
        """Begin the next draft, after the event that left the chain at `head`."""
        self.draft = Draft(self.key, self.ledger, head, seal=self.tools.seal)

    @property
    def started(self) -> e.RunStarted:
        """The first event."""
        assert self.ledger.started is not None, "a history begins with RunStarted"
        return self.ledger.started

    @property
    def definition(self) -> WorkflowDefinition | None:
        """The workflow's code, or None where this orchestrator does not have it."""
        return to_carry_on(self.tools.registry, self.started) if self.ledger.started else None

    def unknown_workflow(self) -> ActivationFailed:
        """Return what is said of a workflow that this orchestrator does not have."""
        return unknown(self.tools.registry, self.started)

    def as_asker(self, external: int) -> dict[str, Json]:
        """Return what tells another run who asks, and under which number."""
        return {"workflow": self.key.workflow_id, "run": self.key.run, "external": external}

    def reject(self, request: str, reason: str, request_id: str = "") -> None:
        """Record that a request made no sense, and why."""
        self.draft.record(
            e.RequestRejected(
                at_ms=self.at_ms, request=request, reason=reason, request_id=request_id
            )
        )
