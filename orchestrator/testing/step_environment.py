"""One task's body, run as a worker runs it, with no workflow around it."""

from collections.abc import Callable
from typing import Any

from orchestrator import step as face
from orchestrator.core.errors import InvalidPayload
from orchestrator.core.steps import function_of, order_of, return_type, task_name
from orchestrator.core.values import Json
from orchestrator.payloads import PydanticCodec
from orchestrator.step import RunningStep, StepInfo
from orchestrator.testing.store import MemoryBlobs
from orchestrator.worker import outcomes
from orchestrator.worker.arguments import load_arguments
from orchestrator.worker.protocol import call_body


class StepEnvironment:
    """Runs bodies of tasks: ``StepEnvironment().run(charge, order)``.

    Arguments go through their JSON form and come back in the types that the task declares, and
    the result likewise, so that what would not survive the way is found.

    Args:
        details: What the last heartbeat of an earlier attempt left.
        attempt: From 1.
        idempotency_key: What the body finds in ``step.current()``.

    Attributes:
        heartbeats: The details of every heartbeat of the last body, as JSON.
        on_heartbeat: Called with the details of each heartbeat; a place to `cancel` from.
    """

    def __init__(
        self, *, details: Json = None, attempt: int = 1, idempotency_key: str = "test.1.1"
    ) -> None:
        self._details = details
        self._attempt = attempt
        self._idempotency_key = idempotency_key
        self._codec = PydanticCodec()
        self._step: RunningStep | None = None
        self._is_cancelled = False
        self.heartbeats: list[Json] = []
        self.on_heartbeat: Callable[[Json], None] = lambda _details: None

    def run(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what the body of `task`, a Celery task or a function, returns.

        Raises:
            InvalidPayload: An argument does not fit, or the result has no JSON form.
            StepCancelled, asyncio.CancelledError: The body let its cancellation pass.
            Exception: What else the body raises, as it is.
        """
        function = function_of(task)
        try:
            order = order_of(self._codec, task_name(task, local=True), args, kwargs, None)
        except TypeError as error:
            raise InvalidPayload(
                f"arguments of {task_name(task, local=True)}", str(error)
            ) from None
        loaded, named = load_arguments(
            function, list(order.args), order.kwargs, blobs=MemoryBlobs(), codec=self._codec
        )
        self.heartbeats = []
        self._step = RunningStep(self._info(task), self._beat)
        if self._is_cancelled:
            self._step.cancel()
        with face.running(self._step):
            result = call_body(task, loaded, named, self._step)
        return self._as_recorded(function, result)

    def cancel(self) -> None:
        """Tell the body to stop, the one that runs or those to come; from any thread."""
        self._is_cancelled = True
        if self._step is not None:
            self._step.cancel()

    def _info(self, task: Any) -> StepInfo:
        return StepInfo(
            workflow_id="test",
            workflow="test",
            run=1,
            step=1,
            attempt=self._attempt,
            idempotency_key=self._idempotency_key,
            details=self._details,
            task=task_name(task, local=True),
            token=f"test-{self._attempt}",
        )

    def _beat(self, details: object) -> bool:
        value = outcomes.heartbeat_details(details, self._codec)
        self.heartbeats.append(value)
        self.on_heartbeat(value)
        return not self._is_cancelled

    def _as_recorded(self, function: Callable[..., Any], result: object) -> Any:
        try:
            value = self._codec.encode(result)
            kind = return_type(function)
            return value if kind is None else self._codec.decode(kind, value)
        except (TypeError, ValueError) as error:
            raise InvalidPayload("result", str(error)) from None
