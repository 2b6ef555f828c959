"""Keeping claims alive while bodies run.

RN1  A store that does not answer, or anything else that goes wrong here, never ends the worker:
     claims that could not be renewed expire, and that is all.
"""

import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery.worker import state as worker_state

from orchestrator.core.errors import OrchestratorError, StoreUnavailable
from orchestrator.core.limits import CLAIM_RENEW_INTERVAL_MS, CLAIM_TTL_MS
from orchestrator.store.ports import AttemptKey, ClaimAnswer, WorkerStore
from orchestrator.worker.board import Board, digest_of
from orchestrator.worker.header import find_key

logger = logging.getLogger("orchestrator.worker")

RENEW_INTERVAL_S = CLAIM_RENEW_INTERVAL_MS / 1000


class Renewer:
    """Renews claims, and tells of store outages once each."""

    def __init__(self, store: WorkerStore) -> None:
        self._store = store
        self._is_away = False

    def renew(self, claims: Mapping[AttemptKey, str]) -> list[AttemptKey]:
        """Extend `claims` (token by attempt) and return those whose bodies are to stop (RN1)."""
        if not claims:
            return []
        try:
            answers = self._store.renew(claims, ttl_ms=CLAIM_TTL_MS)
        except OrchestratorError as error:
            if not self._is_away:
                reason = error.reason if isinstance(error, StoreUnavailable) else str(error)
                logger.warning("%d claims could not be renewed: %s", len(claims), reason)
            self._is_away = True
            return []
        if self._is_away:
            logger.info("claims are renewed again")
        self._is_away = False
        return [key for key, answer in answers.items() if answer is not ClaimAnswer.GRANTED]


class ChildClaims:
    """Renews, from the main process, the claims of a prefork pool's children.

    Args:
        store: Gives the store, when the first child runs a step.
        board: What the children show.
        worker: Name of this worker, which begins all its tokens.
    """

    def __init__(self, store: Callable[[], WorkerStore], board: Board, worker: str) -> None:
        self._store = store
        self._renewer: Renewer | None = None
        self._board = board
        self._worker = worker
        self._stopped: weakref.WeakSet[Any] = weakref.WeakSet()

    def show_stopping(self, **_: object) -> None:
        """Show the children that the worker was asked to stop."""
        self._board.show_stopping()

    def renew(self) -> None:
        """Renew once; stop the bodies that are no longer wanted.  Never raises (RN1)."""
        try:
            self._renew()
        except Exception:
            logger.exception("claims could not be renewed")

    @contextmanager
    def renewed_in_thread(self) -> Iterator[None]:
        """Renew from a thread, for as long as the main thread is busy elsewhere.

        Only for stretches in which the main thread forks no children: a process that forks should
        have no threads, whose locks the child would inherit in whatever state they are.
        """
        ended = threading.Event()

        def keep_renewing() -> None:
            while not ended.wait(RENEW_INTERVAL_S):
                self.renew()

        thread = threading.Thread(target=keep_renewing, name="orchestrator-renewal", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _renew(self) -> None:
        running = self._board.running()
        if not running:
            return
        if self._renewer is None:
            self._renewer = Renewer(self._store())
        requests = {}
        for request in tuple(worker_state.active_requests):
            key = find_key(request.request_dict)
            shown = running.get(request.worker_pid)
            # The board is asked as well: a request is active before its claim and after its
            # outcome, when a renewal would be refused, and rightly so.
            if key is not None and shown is not None and shown[1] == digest_of(str(key)):
                requests[key] = request
        for key in self._renewer.renew(dict.fromkeys(requests, self._worker)):
            request = requests[key]
            if request not in self._stopped:
                self._stopped.add(request)
                self._stop(key, request.worker_pid)

    def _stop(self, key: AttemptKey, pid: int) -> None:
        digest = digest_of(str(key))
        slot = self._board.running().get(pid)
        if slot is None or slot[1] != digest:
            return
        self._board.order_stop(slot[0], digest)
        logger.info("%s: no longer wanted; its process %d is interrupted", key, pid)
        try:
            os.kill(pid, signal.SIGUSR1)
        except ProcessLookupError:
            logger.info("%s: its process %d is gone", key, pid)
