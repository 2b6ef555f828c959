"""Who renews the claim of a step that begins here, and how its body is stopped.

In a child of a prefork pool the main process does: the child only shows on the board what it runs.
In every other pool a thread of this process does, for all of its steps.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from billiard.process import current_process
from celery.worker import state as worker_state

from orchestrator.step import RunningStep
from orchestrator.store.ports import AttemptKey, WorkerStore
from orchestrator.worker.board import Slot, digest_of
from orchestrator.worker.identity import is_pool_child
from orchestrator.worker.interrupts import Interrupts
from orchestrator.worker.renewal import RENEW_INTERVAL_S, Renewer


class Keeper(Protocol):
    """Keeps claims alive, and stops bodies that are no longer wanted."""

    def held_back(self) -> AbstractContextManager[None]:
        """Nothing is interrupted from outside, but for a `body`."""
        ...

    def kept(self, key: AttemptKey, token: str, step: RunningStep) -> AbstractContextManager[None]:
        """The claim is renewed; inside `held_back`."""
        ...

    def body(self, key: AttemptKey, step: RunningStep) -> AbstractContextManager[None]:
        """The body runs and may be interrupted; inside `kept`."""
        ...

    def is_worker_stopping(self) -> bool:
        """Return whether the worker was asked to stop."""
        ...


def keeper_of_this_process(store: WorkerStore) -> Keeper:
    """Return the keeper that fits the pool this process belongs to."""
    if is_pool_child():
        slot = Slot.find(getattr(current_process(), "index", -1))
        if slot is not None:
            return BoardKeeper(slot)
    return ThreadKeeper(store)


class BoardKeeper:
    """See `Keeper`.  The main process renews (`renewal.ChildClaims`)."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._interrupts = Interrupts(slot)

    def held_back(self) -> AbstractContextManager[None]:
        """See `Keeper.held_back`."""
        return self._interrupts.held_back()

    @contextmanager
    def kept(self, key: AttemptKey, token: str, step: RunningStep) -> Iterator[None]:
        """See `Keeper.kept`."""
        self._slot.enter(digest_of(str(key)))
        try:
            yield
        finally:
            self._slot.leave()

    def body(self, key: AttemptKey, step: RunningStep) -> AbstractContextManager[None]:
        """See `Keeper.body`."""
        return self._interrupts.allowed(step, digest_of(str(key)))

    def is_worker_stopping(self) -> bool:
        """See `Keeper.is_worker_stopping`."""
        return self._slot.is_worker_stopping


class ThreadKeeper:
    """See `Keeper`.  One thread renews for all steps of the process; it starts with the first.

    A plain function cannot be stopped from outside: it learns by ``step.is_cancelled()``.
    """

    def __init__(self, store: WorkerStore, *, interval_s: float = RENEW_INTERVAL_S) -> None:
        self._renewer = Renewer(store)
        self._interval_s = interval_s
        self._changed = threading.Condition()
        self._steps: dict[AttemptKey, tuple[str, RunningStep]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """See `Keeper.held_back`."""
        yield

    @contextmanager
    def kept(self, key: AttemptKey, token: str, step: RunningStep) -> Iterator[None]:
        """See `Keeper.kept`."""
        with self._changed:
            self._steps[key] = (token, step)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._keep_renewing, name="orchestrator-renewal", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._steps.pop(key, None)
                self._changed.notify_all()

    @contextmanager
    def body(self, key: AttemptKey, step: RunningStep) -> Iterator[None]:
        """See `Keeper.body`."""
        yield

    def is_worker_stopping(self) -> bool:
        """See `Keeper.is_worker_stopping`."""
        # Celery's own word for it: the steps run in its main process here.
        return worker_state.should_stop is not None or worker_state.should_terminate is not None

    def renew(self) -> None:
        """Renew the claims of all steps that run now, and stop those no longer wanted."""
        with self._changed:
            steps = dict(self._steps)
        tokens = {key: token for key, (token, _) in steps.items()}
        for key in self._renewer.renew(tokens):
            with self._changed:
                # One that has ended meanwhile was refused for that reason.
                is_running = self._steps.get(key) == steps[key]
            if is_running:
                steps[key][1].cancel()

    def _keep_renewing(self) -> None:
        """Renew at every interval, until there has been no step for a whole one."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._steps, self._interval_s)
                if not self._steps:
                    self._changed.wait_for(lambda: bool(self._steps), self._interval_s)
                if not self._steps:
                    self._thread = None
                    return
            self.renew()
