"""`workflow.external`: another run, as workflow code holds it."""

from typing import Any

from orchestrator.core.context import current
from orchestrator.core.errors import UsageError
from orchestrator.core.ids import checked_workflow_id


class ExternalWorkflowHandle:
    """Another run, by its id.  Everything asked of it is recorded, and survives any crash.

    Each call raises `ExternalWorkflowError`, a failure, when the other run cannot be told, and says
    why: "not_found", "closed", "rejected".
    """

    __slots__ = ("id", "run")

    def __init__(self, id: str, run: int) -> None:
        self.id = id
        self.run = run

    async def signal(self, name: str, payload: Any = None) -> None:
        """Send a signal; return once the other run's history has it.

        Raises:
            ExternalWorkflowError: No open run takes it.
            TypeError: A payload that has no JSON form.
        """
        execution = current("external().signal()")
        encoded = execution.definition.codec.encode(payload)
        await execution.externals.signal(self.id, self.run, name, encoded)

    async def cancel(self, reason: str = "") -> None:
        """Ask it to stop; return once its history has the request, not once it has stopped.

        Raises:
            ExternalWorkflowError: No open run takes it.
        """
        execution = current("external().cancel()")
        reason = reason or f"{execution.info.workflow_id} asks for it"
        await execution.externals.cancel(self.id, self.run, reason)

    async def result(self, type: Any = None) -> Any:
        """Wait for its end and return its result, as `type` or as JSON.

        Of a run that has ended already the result is there at once.

        Raises:
            ExternalWorkflowError: It failed, was cancelled or terminated; or there is none.
            ValueError: The result is no `type`.
        """
        return await current("external().result()").externals.result(self.id, self.run, type)


def external(id: str, run: int | None = None) -> ExternalWorkflowHandle:
    """Return a handle on another run: `run` of that id, or whichever is open at each call.

    Raises:
        InvalidWorkflowId: See `core.ids`.
        UsageError: Runs are numbered from 1.
    """
    current("external()")
    if run is not None and run < 1:
        raise UsageError(f"run is {run!r}; runs of an id are numbered from 1")
    return ExternalWorkflowHandle(checked_workflow_id(id), run or 0)


#: Temporal's name for the same.
get_external_workflow_handle = external
