"""What workflow code says: ``from orchestrator import workflow``.

    result = await workflow.step(charge, order)
    await workflow.sleep(timedelta(days=7))
    report = await workflow.child(evaluate, model)
    approval = await workflow.signal("approve", Approval, timeout=timedelta(hours=24))

Everything here works only in workflow code, while its run is activated; asyncio's own ``gather``,
``TaskGroup``, ``timeout``, ``Queue``, ``Event`` and ``Lock`` work beside it.
"""

import logging
from asyncio import events
from collections.abc import Mapping, MutableMapping
from typing import Any

from orchestrator.core.context import (
    child,
    info,
    now,
    on_query,
    publish,
    random,
    rng,
    sleep,
    step,
    time,
    uuid4,
    wait_condition,
)
from orchestrator.core.execution import Execution, RunInfo
from orchestrator.core.fan_out import map_step as map
from orchestrator.core.loop import WorkflowLoop
from orchestrator.core.saga import Saga
from orchestrator.core.saga import Saga as saga
from orchestrator.core.signals import on_signal, signal, signals
from orchestrator.core.waits import as_completed, wait

__all__ = [
    "RunInfo",
    "Saga",
    "as_completed",
    "child",
    "info",
    "logger",
    "map",
    "now",
    "on_query",
    "on_signal",
    "publish",
    "random",
    "rng",
    "saga",
    "signal",
    "signals",
    "sleep",
    "step",
    "time",
    "uuid4",
    "wait",
    "wait_condition",
]


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """Logs what user code says once: not while its run is replayed or leaves memory."""

    def isEnabledFor(self, level: int) -> bool:
        """See logging."""
        execution = _running()
        if execution is not None and execution.is_silent:
            return False
        return super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add workflow_id, run and workflow to the record's attributes."""
        execution = _running()
        if execution is not None:
            about = execution.info
            given: Mapping[str, object] = kwargs.get("extra") or {}
            kwargs["extra"] = {
                "workflow_id": about.workflow_id,
                "run": about.run,
                "workflow": about.workflow,
                **given,
            }
        return msg, kwargs


def _running() -> Execution | None:
    loop = events._get_running_loop()
    if isinstance(loop, WorkflowLoop) and isinstance(loop.host, Execution):
        return loop.host
    return None


#: Silent while a run is replayed; records carry ``workflow_id``, ``run`` and ``workflow``.
logger = _Logger(logging.getLogger("orchestrator.workflow"), {})
