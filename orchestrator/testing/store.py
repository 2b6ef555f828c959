"""The store of a test: in memory, and whoever waits at it lets the world go on.

TS1  A client's look at the store comes after all that can happen by now (TE2); the engine's own
     looks do not, as it is what happens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from orchestrator.core.blobs import BlobRef
from orchestrator.core.errors import BlobUnavailable, PayloadTooLarge
from orchestrator.core.limits import BLOB_BYTES_MAX
from orchestrator.core.values import Json, canonical, digest
from orchestrator.store.clocks import ManualClock
from orchestrator.store.index_ports import IndexPage, Window
from orchestrator.store.memory import MemoryStore
from orchestrator.store.permit_ports import PermitState
from orchestrator.store.ports import (
    AttemptKey,
    ClaimAnswer,
    Kind,
    Posted,
    RunKey,
    Start,
    StoredEvent,
)

#: One: so what was started first is worked on first.
_PARTITIONS = 1


class Mover(Protocol):
    """What lets the world go on."""

    def settle(self) -> None:
        """Let everything happen that can by now."""
        ...

    def wait(self, is_over: Callable[[], bool], wait_ms: int, workflow_id: str) -> None:
        """Let time pass until `is_over`, for `wait_ms` at most."""
        ...

    def turn_engine(self) -> None:
        """Let the orchestrator work, but no worker."""
        ...


class EnvironmentStore(MemoryStore):
    """See `MemoryStore`; `mover` is set once there is one."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(_PARTITIONS, clock)
        self.mover: Mover | None = None
        self._is_moving = False
        #: How often somebody outside told a run something, or started one.
        self.told = 0

    @contextmanager
    def moving(self) -> Iterator[bool]:
        """While the block runs nobody else moves the world; gives whether it is ours to move."""
        if self._is_moving:
            yield False
            return
        self._is_moving = True
        try:
            yield True
        finally:
            self._is_moving = False

    def _look(self) -> None:
        if self.mover is not None and not self._is_moving:
            self.mover.settle()

    # --- what a client says -----------------------------------------------------------------------

    def start(
        self,
        workflow_id: str,
        *,
        request_id: str,
        body: Mapping[str, Json],
        message: tuple[Kind, Mapping[str, Json]] | None = None,
    ) -> Start:
        """See `ClientStore.start`."""
        self.told += not self._is_moving
        return super().start(workflow_id, request_id=request_id, body=body, message=message)

    def post(
        self, workflow_id: str, kind: Kind, body: Mapping[str, Json], *, run: int = 0
    ) -> Posted:
        """See `ClientStore.post`."""
        self.told += not self._is_moving
        return super().post(workflow_id, kind, body, run=run)

    # --- what a client looks at (TS1) ---------------------------------------------------------

    def find_row(self, workflow_id: str) -> dict[str, str] | None:
        """See `OwnerStore.find_row`."""
        self._look()
        return super().find_row(workflow_id)

    def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """See `OwnerStore.read_history`."""
        self._look()
        return super().read_history(key, after_seq=after_seq, count=count)

    def page_runs(self, indexes: Sequence[str], window: Window) -> IndexPage:
        """See `RunIndex.page_runs`."""
        self._look()
        return super().page_runs(indexes, window)

    def index_sizes(self, indexes: Sequence[str]) -> list[int]:
        """See `RunIndex.index_sizes`."""
        self._look()
        return super().index_sizes(indexes)

    def read_permits(self, key: str) -> PermitState:
        """See `PermitStore.read_permits`."""
        self._look()
        return super().read_permits(key)

    def wait_for_answer(
        self, workflow_id: str, reply_to: str, *, wait_ms: int
    ) -> dict[str, Json] | None:
        """See `ClientStore.wait_for_answer`; time passes only if there is no answer by now."""
        found = super().wait_for_answer
        if self.mover is not None:
            self.mover.wait(
                lambda: found(workflow_id, reply_to, wait_ms=0) is not None, wait_ms, workflow_id
            )
        return found(workflow_id, reply_to, wait_ms=0)

    def wait_for_event(self, key: RunKey, *, after_seq: int, wait_ms: int) -> bool:
        """See `ClientStore.wait_for_event`; the end of the run ends every wait."""
        found = super().wait_for_event
        if self.mover is not None:
            self.mover.wait(
                lambda: self.is_over(key) or found(key, after_seq=after_seq, wait_ms=0),
                wait_ms,
                key.workflow_id,
            )
        return found(key, after_seq=after_seq, wait_ms=0)

    # --- what a body says -----------------------------------------------------------------------

    def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """See `WorkerStore.heartbeat`; what was asked for meanwhile is done before it answers."""
        if self.mover is not None:
            self.mover.turn_engine()
        return super().heartbeat(key, token, details)

    # --- what the test's world asks --------------------------------------------------------------

    def is_over(self, key: RunKey) -> bool:
        """Return whether the run has ended."""
        part = self._of(key.workflow_id)
        row = part.rows.get(key.workflow_id)
        return row is None or row["run"] != str(key.run) or key.workflow_id not in part.open

    def due_at_ms(self, cared_for: Mapping[AttemptKey, object]) -> int | None:
        """Return when the next timer is due or claim expires; `cared_for` are renewed in time."""
        dues = [at for part in self._parts for at in part.timers.values()]
        for part in self._parts:
            dues += [at for key, at in part.claims.items() if key not in cared_for]
        return min(dues, default=None)

    def blocked_runs(self) -> list[RunKey]:
        """Return the runs that rest because their code cannot go on."""
        return [key for number in range(len(self._parts)) for key in self.list_blocked(number)]


class MemoryBlobs:
    """See `engine.ports.BlobStore`."""

    def __init__(self) -> None:
        self._values: dict[str, Json] = {}

    def put(self, value: Json) -> BlobRef:
        """See `BlobStore.put`."""
        size = len(canonical(value))
        if size > BLOB_BYTES_MAX:
            raise PayloadTooLarge("value for the blob store", size, BLOB_BYTES_MAX)
        sha = digest(value)
        self._values[sha] = value
        return BlobRef(sha256=sha, size=size)

    def get(self, ref: BlobRef) -> Json:
        """See `BlobStore.get`."""
        if ref.sha256 not in self._values:
            raise BlobUnavailable(f"blob {ref.sha256}", "it is not in memory")
        return self._values[ref.sha256]
