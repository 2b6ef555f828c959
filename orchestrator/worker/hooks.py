"""What the main process of a worker learns of steps that could not report themselves.

A child was killed, a hard time limit struck, a message was revoked, a task is unknown here: Celery
tells it by its own hooks, and it is posted at once, instead of waiting for the claim to expire.

HK1  No hook raises: an exception from there can end the worker.
HK2  Each posts once, without patience, as the main process serves all its children.  What could not
     be posted comes out when the claim expires, or when nobody claims.
"""

import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery, signals
from celery.worker import state as worker_state

from orchestrator.core.errors import StoreUnavailable
from orchestrator.store.ports import AttemptKey, WorkerStore
from orchestrator.worker import outcomes
from orchestrator.worker.header import HEADER, find_key
from orchestrator.worker.identity import is_pool_child, worker_name

logger = logging.getLogger("orchestrator.worker")

#: The token of an attempt that nobody has claimed.
_UNCLAIMED = ""
#: How Celery tells that a child is no more; before 5.6 also by what made it exit.
_ENDS_OF_A_CHILD = (WorkerLostError, TimeLimitExceeded, SystemExit, KeyboardInterrupt)


def _never_raises(hook: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(hook)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            logger.exception("hook %s", hook.__name__)

    return guarded


class ParentHooks:
    """The hooks of one app; see HK1 and HK2.

    Args:
        app: Other apps' tasks in this process are left alone.
        store: Gives the store, when there is something to post.
    """

    def __init__(self, app: Celery, store: Callable[[], WorkerStore]) -> None:
        self._app = app
        self._store = store
        #: Requests by task id; the hook for a failure is given no headers.
        self._requests: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def connect(self) -> None:
        """Let Celery call these hooks, for as long as the process lives."""
        signals.task_received.connect(_never_raises(self._received), weak=False)
        signals.task_failure.connect(_never_raises(self._failed), weak=False)
        signals.task_revoked.connect(_never_raises(self._revoked), weak=False)
        signals.task_unknown.connect(_never_raises(self._unknown), weak=False)
        signals.task_rejected.connect(_never_raises(self._rejected), weak=False)

    def _received(self, *, request: Any = None, **_: Any) -> None:
        if request is not None and HEADER in request.request_dict:
            self._requests[request.id] = request

    def _failed(self, *, task_id: str = "", exception: Any = None, **_: Any) -> None:
        if not isinstance(exception, _ENDS_OF_A_CHILD) or is_pool_child():
            return
        request = self._requests.get(task_id)
        key = find_key(request.request_dict) if request is not None else None
        if key is None or any(other.id == task_id for other in tuple(worker_state.active_requests)):
            # Another copy runs in this worker, and may hold the claim.
            return
        if isinstance(exception, TimeLimitExceeded):
            self._post(key, worker_name(), outcomes.timed_out(f"hard time limit: {exception}"))
        else:
            text = str(exception) or type(exception).__name__
            self._post(key, worker_name(), outcomes.lost(text))

    def _revoked(self, *, request: Any = None, terminated: bool = False, **_: Any) -> None:
        key = find_key({HEADER: getattr(request, HEADER, None)})
        if key is None or is_pool_child():
            return
        text = "terminated by remote control" if terminated else "revoked by remote control"
        body = outcomes.cancelled(text, kind="TaskRevoked", ran=terminated)
        self._post(key, worker_name() if terminated else _UNCLAIMED, body)

    def _unknown(
        self, *, sender: Any = None, message: Any = None, name: str = "", **_: Any
    ) -> None:
        key = self._key_of(sender, message)
        if key is not None:
            text = f"no task {name!r} in the worker that got the message; was it deployed there?"
            self._post(key, _UNCLAIMED, outcomes.failed_before("UnknownTask", text))

    def _rejected(self, *, sender: Any = None, message: Any = None, **_: Any) -> None:
        key = self._key_of(sender, message)
        if key is not None:
            text = "the worker could not make a request of the message"
            self._post(key, _UNCLAIMED, outcomes.failed_before("MessageRejected", text))

    def _key_of(self, consumer: Any, message: Any) -> AttemptKey | None:
        if getattr(consumer, "app", self._app) is not self._app:
            return None
        return find_key(getattr(message, "headers", None))

    def _post(self, key: AttemptKey, token: str, body: outcomes.Body) -> None:
        try:
            answer = self._store().post_outcome(key, token, body)
        except StoreUnavailable as error:
            logger.warning("%s: %s, not posted: %s", key, body["kind"], error.reason)
        else:
            logger.info("%s: %s, %s", key, body["kind"], answer.value)
