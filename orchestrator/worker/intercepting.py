"""The body of a step, as its interceptors see it."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.core.interceptors import ExecuteStep
from orchestrator.step import StepInfo


def call_of(info: StepInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ExecuteStep:
    """Return the call of a body with these arguments."""
    return ExecuteStep(
        task=info.task,
        workflow_id=info.workflow_id,
        run=info.run,
        step=info.step,
        attempt=info.attempt,
        args=args,
        kwargs=kwargs,
        headers=info.headers,
    )
