"""The worker side of an app: made where the app object is, used by workers alone."""

import os
from collections.abc import Callable
from typing import Any

from celery import Celery, current_app, signals

from orchestrator.store.ports import WorkerStore
from orchestrator.worker.bootsteps import ATTRIBUTE, ConsumerStep, WorkerStep
from orchestrator.worker.hooks import ParentHooks
from orchestrator.worker.protocol import StepProtocol
from orchestrator.worker.renewal import ChildClaims
from orchestrator.worker.wrapping import wrap_tasks


class Installation:
    """What steps need in a worker.

    `children` is set in the main process of a prefork worker only.
    """

    def __init__(self, app: Celery, factory: Callable[[], StepProtocol]) -> None:
        self._app = app
        self._factory = factory
        self._protocol: tuple[int, StepProtocol] | None = None
        self.children: ChildClaims | None = None

    def protocol(self) -> StepProtocol:
        """Return this process' protocol; a forked child makes its own."""
        if self._protocol is None or self._protocol[0] != os.getpid():
            self._protocol = (os.getpid(), self._factory())
        return self._protocol[1]

    def store(self) -> WorkerStore:
        """Return the store that this process' protocol uses."""
        return self.protocol().store

    def wrap(self) -> None:
        """Make every task that is known by now runnable as a step."""
        wrap_tasks(self._app.tasks.values(), self.protocol)

    def wrap_in_child(self) -> None:
        """The same in a child, where a spawned one may have another app object."""
        self.wrap()
        if current_app.main == self._app.main:
            wrap_tasks(current_app.tasks.values(), self.protocol)


def install(app: Celery, protocol_factory: Callable[[], StepProtocol]) -> None:
    """Make every task of `app` runnable as a step; nothing is connected before a step runs.

    Args:
        app: Its workers, whatever their pool, run steps from now on; again changes nothing.
        protocol_factory: Called once in each process that runs a step.
    """
    if getattr(app, ATTRIBUTE, None) is not None:
        return
    installation = Installation(app, protocol_factory)
    setattr(app, ATTRIBUTE, installation)
    app.steps["worker"].add(WorkerStep)
    app.steps["consumer"].add(ConsumerStep)
    ParentHooks(app, installation.store).connect()

    def after_finalize(**_: Any) -> None:
        installation.wrap()

    def in_child(**_: Any) -> None:
        installation.wrap_in_child()

    app.on_after_finalize.connect(after_finalize, weak=False)
    signals.worker_process_init.connect(in_child, weak=False)
    if app.finalized:
        installation.wrap()
