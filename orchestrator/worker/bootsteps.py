"""What runs in the main process of a worker: the name, the board, the renewal of claims.

Celery stops its event loop, and with it every timer, in two long stretches: while it reconnects to
the broker, and while it waits for running tasks on a warm shutdown.  Claims have to live on in
both.  The main thread forks no children then, so a thread renews instead.
"""

import atexit
import logging
from contextlib import ExitStack, nullcontext
from typing import Any

from celery import bootsteps, signals
from celery.concurrency import prefork

from orchestrator.core.errors import ConfigurationError
from orchestrator.worker.board import Board
from orchestrator.worker.identity import name_worker
from orchestrator.worker.renewal import RENEW_INTERVAL_S, ChildClaims
from orchestrator.worker.settings import find_harmful
from orchestrator.worker.unlisted import leave_steps_unlisted

logger = logging.getLogger("orchestrator.worker")

#: Attribute of the app under which `installation.Installation` is found.
ATTRIBUTE = "orchestrator_worker"
#: Celery looks for a dead child when its pipe closes, often a moment before it can be seen as dead,
#: and then only every 5 s.  A lost step should not wait for that.
_LOOK_FOR_DEAD_S = 0.5


class WorkerStep(bootsteps.StartStopStep):
    """Before the pool starts: names the worker, wraps its tasks, lays the board out.

    Stops before the pool does, which on a warm shutdown waits for running steps.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        if not __debug__:
            raise ConfigurationError(
                "python -O", "assertions switched off", "run workers without -O and PYTHONOPTIMIZE"
            )
        super().__init__(worker, **options)
        self._stopping = ExitStack()

    def create(self, worker: Any) -> None:
        """Prepare what children will inherit."""
        installation = getattr(worker.app, ATTRIBUTE)
        name = name_worker()
        installation.wrap()
        if issubclass(worker.pool_cls, prefork.TaskPool):
            board = Board()
            # Children end without it, so this is the main process' alone.
            atexit.register(board.close)
            installation.children = ChildClaims(installation.store, board, name)
            signals.worker_shutting_down.connect(installation.children.show_stopping, weak=False)
        for line in find_harmful(worker.app.conf, is_redis=_is_redis(worker.app)):
            logger.warning("%s", line)

    def start(self, worker: Any) -> None:
        """Nothing: the consumer's step has the timer."""

    def stop(self, worker: Any) -> None:
        """Renew from a thread until the process ends."""
        installation = getattr(worker.app, ATTRIBUTE)
        if installation.children is not None:
            self._stopping.enter_context(installation.children.renewed_in_thread())

    def terminate(self, worker: Any) -> None:
        """Nothing: a step that is cut off is for its claim to tell."""


class ConsumerStep(bootsteps.StartStopStep):
    """Renews from Celery's timer, and keeps steps unlisted: anew with each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timers: list[Any] = []
        _outlive_lost_connections(consumer)
        children = getattr(consumer.app, ATTRIBUTE).children
        connect = consumer.ensure_connected

        def connect_and_renew(connection: Any) -> Any:
            with children.renewed_in_thread() if children is not None else nullcontext():
                connected = connect(connection)
            leave_steps_unlisted(connected.default_channel)
            return connected

        consumer.ensure_connected = connect_and_renew

    def start(self, consumer: Any) -> None:
        """Begin to renew."""
        children = getattr(consumer.app, ATTRIBUTE).children
        if children is not None:
            repeat = consumer.timer.call_repeatedly
            self._timers = [
                repeat(RENEW_INTERVAL_S, children.renew),
                repeat(_LOOK_FOR_DEAD_S, consumer.pool.maintain_pool),
            ]

    def stop(self, consumer: Any) -> None:
        """End with the connection."""
        for timer in self._timers:
            timer.cancel()
        self._timers = []


def _outlive_lost_connections(consumer: Any) -> None:
    """Keep the worker where closing a lost connection fails.

    1. The broker goes away before a message is acknowledged.  2. Celery closes the connection, and
    kombu (5.7, Redis) gives the message back meanwhile: over a new connection, whose settings it
    asks of a transport that it has let go of.  3. Celery takes the AttributeError for the end of
    the worker.  The message of a step is not missed: the log sends it again.
    """
    handle = consumer.on_connection_error_after_connected

    def handle_and_live(error: Exception) -> None:
        try:
            handle(error)
        except AttributeError:
            if consumer.connection is not None:
                raise
            logger.warning("the lost connection could not be closed", exc_info=True)

    consumer.on_connection_error_after_connected = handle_and_live


def _is_redis(app: Any) -> bool:
    return bool(app.connection_for_read().transport.driver_type == "redis")
