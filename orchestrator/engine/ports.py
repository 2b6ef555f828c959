"""What the engine needs beside the store.  Contracts, no code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.core.blobs import BlobRef
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.values import Json
from orchestrator.store.ports import AttemptKey, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One attempt on its way to a worker.

    Args:
        key: The attempt.
        task: Name of the Celery task.
        args: Positional arguments, a JSON list, or a blob's reference as JSON.
        kwargs: Keyword arguments, a JSON object, or a blob's reference as JSON.
        idempotency_key: The same for every attempt at the step.
        compensates: Idempotency key of the step that this one undoes, or "".
        workflow: The workflow type, for people.
        queue: Celery queue; None for the one the task is routed to.
        priority: None for the broker's default.
        headers: See `core.interceptors`.
    """

    key: AttemptKey
    task: str
    args: Json
    kwargs: Json
    idempotency_key: str
    compensates: str = ""
    workflow: str = ""
    queue: str | None = None
    priority: int | None = None
    headers: Mapping[str, Json] = field(default_factory=dict)


class Dispatcher(Protocol):
    """Turns attempts into messages."""

    def message(self, outgoing: Outgoing) -> Message:
        """Return the message for the broker; the same attempt gives the same task id.

        Pure but for configuration: nothing is sent.
        """
        ...

    def publish(self, messages: Sequence[Message]) -> None:
        """Send messages to a broker that is not the store's own Redis.

        Raises:
            StoreUnavailable: The broker does not answer; some may have been sent.
        """
        ...


class BlobStore(Protocol):
    """Keeps large values, by content."""

    def put(self, value: Json) -> BlobRef:
        """Keep `value`; the same value again changes nothing.

        Raises:
            PayloadTooLarge: Beyond ``BLOB_BYTES_MAX``.
            StoreUnavailable: It could not be written.
        """
        ...

    def get(self, ref: BlobRef) -> Json:
        """Return the value of `ref`, verified against its digest.

        Raises:
            BlobUnavailable: It is missing, unreadable or corrupt.
        """
        ...


class ErasableBlobs(BlobStore, Protocol):
    """A blob store that values can be taken out of."""

    def delete(self, ref: BlobRef) -> None:
        """Delete the value of `ref`; nothing for one that is not there.

        Raises:
            StoreUnavailable: It could not be deleted.
        """
        ...


class LocalRunner(Protocol):
    """Runs local steps inside the orchestrator: coroutines on a loop, functions in threads."""

    def submit(self, outgoing: Outgoing, done: Callable[[Mapping[str, Json]], None]) -> None:
        """Run the step; `done` gets the outcome's body (see `WorkerStore.post_outcome`), once.

        `done` is called from another thread.
        """
        ...

    def cancel(self, key: AttemptKey) -> None:
        """Ask a running step to stop."""
        ...

    def close(self) -> None:
        """Ask all steps to stop, and wait for their ends."""
        ...


#: Workflow definitions by name.
Registry = Mapping[str, WorkflowDefinition]
