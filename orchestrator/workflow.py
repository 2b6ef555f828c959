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

from orchestrator.core.child_call import child, continue_as_new
from orchestrator.core.child_handle import ChildWorkflowHandle
from orchestrator.core.context import (
    deprecate_patch,
    info,
    now,
    on_query,
    patched,
    publish,
    random,
    rng,
    sleep,
    step,
    time,
    uuid4,
    wait_condition,
)
from orchestrator.core.execution import Execution
from orchestrator.core.external_handle import (
    ExternalWorkflowHandle,
    external,
    get_external_workflow_handle,
)
from orchestrator.core.fan_out import map_step as map
from orchestrator.core.last_ends_face import (
    has_last_completion_result,
    last_completion_result,
    last_failure,
)
from orchestrator.core.loop import WorkflowLoop
from orchestrator.core.permit_face import mutex, rate_limit, semaphore
from orchestrator.core.run_info import RunInfo
from orchestrator.core.saga import Saga
from orchestrator.core.saga import Saga as saga
from orchestrator.core.side_effects import side_effect
from orchestrator.core.signals import on_signal, signal, signals
from orchestrator.core.update_face import all_handlers_finished, on_update
from orchestrator.core.visibility import (
    set_current_details,
    upsert_memo,
    upsert_search_attributes,
)
from orchestrator.core.waits import as_completed, wait

__all__ = [
    "ChildWorkflowHandle",
    "ExternalWorkflowHandle",
    "RunInfo",
    "Saga",
    "all_handlers_finished",
    "as_completed",
    "child",
    "continue_as_new",
    "deprecate_patch",
    "external",
    "get_external_workflow_handle",
    "has_last_completion_result",
    "info",
    "last_completion_result",
    "last_failure",
    "logger",
    "map",
    "mutex",
    "now",
    "on_query",
    "on_signal",
    "on_update",
    "patched",
    "publish",
    "random",
    "rate_limit",
    "rng",
    "saga",
    "semaphore",
    "set_current_details",
    "side_effect",
    "signal",
    "signals",
    "sleep",
    "step",
    "time",
    "upsert_memo",
    "upsert_search_attributes",
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
