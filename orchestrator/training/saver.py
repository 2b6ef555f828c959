"""Saves in the background: training waits for a copy in memory, not for the store.

SV1  One save is in flight at most.  Whoever wants to begin another waits for the first: a store
     that is too slow slows training down, it does not fill memory.
SV2  Nothing is lost silently: what went wrong in the background is raised by the next call.
SV3  A checkpoint exists once `finish` has returned it, and is reported then; a process that dies
     before loses that one, as if it had died before the save.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.training.checkpoints import CheckpointStore, Saved
from orchestrator.training.manifest import Description
from orchestrator.training.state import State
from orchestrator.training.tensors import Data


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """How long training stood still for a save, in milliseconds."""

    waited_ms: float
    snapshot_ms: float

    @property
    def total_ms(self) -> float:
        """All of it."""
        return self.waited_ms + self.snapshot_ms


class Saver:
    """Saves the states of one run in the background.  For one thread at a time."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._flight: _Flight | None = None

    @property
    def busy(self) -> bool:
        """Whether a save is in flight, so that `finish` may have to wait."""
        return self._flight is not None and self._flight.is_alive()

    def begin(self, state: State, description: Description, beside: Sequence[Data] = ()) -> Blocked:
        """Copy a state and begin to save it (see `CheckpointStore.save`); return how long it took.

        What was in flight must have been taken by `finish`: its manifest is this one's parent.
        """
        assert self._flight is None, "finish the save in flight first: the next one names it"
        began = time.perf_counter()
        encoded = state.encode()
        self._flight = _Flight(lambda: self._store.publish(encoded, description, beside))
        self._flight.start()
        return Blocked(waited_ms=0.0, snapshot_ms=(time.perf_counter() - began) * 1000)

    def finish(self) -> tuple[Saved, Blocked] | None:
        """Wait for the save in flight and return it, once; None if there is none.

        Raises:
            Exception: What `CheckpointStore.publish` raised in the background (SV2).
        """
        flight, self._flight = self._flight, None
        if flight is None:
            return None
        began = time.perf_counter()
        saved = flight.result()
        return saved, Blocked(waited_ms=(time.perf_counter() - began) * 1000, snapshot_ms=0.0)


class _Flight(threading.Thread):
    """One save in the background; no daemon, so that an orderly exit waits for it."""

    def __init__(self, save: Callable[[], Saved]) -> None:
        super().__init__(name="checkpoint-saver")
        self._save: Callable[[], Saved] | None = save
        self._outcome: Saved | BaseException | None = None

    def run(self) -> None:
        """Save, and keep what came of it for `result`."""
        assert self._save is not None
        try:
            self._outcome = self._save()
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._outcome = error
        # The copy of the state goes now, not when somebody asks.
        self._save = None

    def result(self) -> Saved:
        """Wait, and return or raise what came of it."""
        self.join()
        assert self._outcome is not None
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome
