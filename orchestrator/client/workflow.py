"""A workflow as its module and its clients hold it: callable for tests, startable for real."""

import copy
import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, Unpack

from orchestrator.client import messages, with_start
from orchestrator.client.handle import AsyncRunHandle, RunHandle, Sessions
from orchestrator.client.ids import checked_workflow_id, new_workflow_id
from orchestrator.client.messages import Target
from orchestrator.client.port import run_in_place
from orchestrator.client.start_options import StartOptions, StartSettings, start_options
from orchestrator.client.update_handle import AsyncUpdateHandle, Timeout, UpdateHandle
from orchestrator.client.with_start import ToStart
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.interceptors import StartWorkflow
from orchestrator.core.values import Json

P = ParamSpec("P")
R = TypeVar("R")

#: Validates a call against the function's signature and returns it as JSON.
EncodeInput = Callable[[tuple[Any, ...], Mapping[str, Any]], tuple[list[Json], dict[str, Json]]]


class Workflow(Generic[P, R]):
    """A registered workflow.

    Calling it returns the coroutine of the function itself, for tests; it runs for real once it is
    started, by an orchestrator.

    Args:
        function: The ``async def``.
        definition: See `WorkflowDefinition`.
        encode_input: See `EncodeInput`.
        sessions: The app's way to the store.
    """

    __name__: str

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        definition: WorkflowDefinition,
        encode_input: EncodeInput,
        sessions: Sessions,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self.encode_input = encode_input
        self._sessions = sessions
        self.definition = definition
        self.aio: AsyncWorkflow[P, R] = AsyncWorkflow(self)
        self._options = StartOptions()

    @property
    def name(self) -> str:
        """The workflow type, as histories record it."""
        return self.definition.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the function's coroutine; it needs an activation to run in."""
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Workflow {self.name}>"

    def options(self, **settings: Unpack[StartSettings]) -> "Workflow[P, R]":
        """Return this workflow with settings for its starts; see `StartOptions`.

        Raises:
            UsageError: A setting that there is not.  What a setting may hold is checked by the
                start, before anything is sent.
        """
        bound = copy.copy(self)
        bound._options = start_options(settings)
        bound.aio = AsyncWorkflow(bound)
        return bound

    def start(self, *args: Any, id: str | None = None, **kwargs: Any) -> RunHandle[R]:
        """Open a run and return its handle; everything else is the function's input.

        Args:
            args: Positional input.
            id: The workflow id: a business key, so that a second start with it is refused while
                the first run is open.  Without one, an id is made up.
            kwargs: Input by name.  A parameter that is itself called ``id`` is given by position,
                or through `apply_async`.

        Raises:
            InvalidPayload: The input does not fit the function's annotations; nothing was sent.
            InvalidWorkflowId: See `ids`.
            PayloadTooLarge, RunExists, DuplicateRun, StoreUnavailable: See `conflicts.start`.
        """
        return self.apply_async(args, kwargs, task_id=id)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Open a run under a new id, as one does with a Celery task; see `start`."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
    ) -> RunHandle[R]:
        """Open a run, as one does with a task; `task_id` is the workflow id.  See `start`."""
        return RunHandle(self._sessions, run_in_place(self._started(args, kwargs, task_id)))

    def signal_with_start(
        self,
        name: str,
        payload: Any = None,
        *,
        id: str,
        args: Sequence[Any] = (),
        signal_id: str | None = None,
    ) -> RunHandle[R]:
        """Signal the open run of `id`, or start one on `args` whose first signal this is.

        One act; see `with_start.signal_with_start`.
        """
        session = self._sessions.blocking()
        start = self._to_start(id, args)
        work = with_start.signal_with_start(session, start, name, payload, signal_id)
        return RunHandle(self._sessions, run_in_place(work))

    def start_update_with_start(
        self,
        name: str,
        *update_args: Any,
        id: str,
        args: Sequence[Any] = (),
        update_id: str | None = None,
    ) -> UpdateHandle:
        """Send an update to the open run of `id`, or to one that is started on `args` for it.

        One act; it does not wait for anything.  See `with_start.update_with_start`.
        """
        session = self._sessions.blocking()
        start = self._to_start(id, args)
        work = with_start.update_with_start(session, start, name, update_args, update_id)
        return UpdateHandle(self._sessions.blocking, run_in_place(work))

    def execute_update_with_start(
        self,
        name: str,
        *update_args: Any,
        id: str,
        args: Sequence[Any] = (),
        timeout: Timeout = None,
    ) -> Any:
        """Do the same, and wait for the update's answer."""
        handle = self.start_update_with_start(name, *update_args, id=id, args=args)
        return handle.result(timeout)

    def _to_start(self, workflow_id: str, args: Sequence[Any]) -> ToStart:
        input_args, input_kwargs = self.encode_input(tuple(args), {})
        return ToStart(
            workflow_id=checked_workflow_id(workflow_id),
            definition=self.definition,
            args=input_args,
            kwargs=input_kwargs,
            said=self._options.said_with_message(self.definition.codec),
        )

    async def _started(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        workflow_id: str | None,
        *,
        on_running_loop: bool = False,
    ) -> Target:
        if workflow_id is None:
            workflow_id = new_workflow_id(self.name)
        checked_workflow_id(workflow_id)
        input_args, input_kwargs = self.encode_input(tuple(args), kwargs or {})
        sessions = self._sessions
        session = sessions.on_running_loop() if on_running_loop else sessions.blocking()
        said = self._options.as_body(session.codec)
        call = StartWorkflow(
            workflow_id=workflow_id, workflow=self.name, args=input_args, kwargs=input_kwargs
        )
        run = await messages.start(
            session, self.definition, call, said, self._options.conflict_policy
        )
        return Target(workflow_id=workflow_id, run=run, definition=self.definition)


class AsyncWorkflow(Generic[P, R]):
    """The same starts for code on an event loop: ``await order.aio.start(…)``."""

    def __init__(self, workflow: Workflow[P, R]) -> None:
        self._workflow = workflow

    async def start(self, *args: Any, id: str | None = None, **kwargs: Any) -> AsyncRunHandle[R]:
        """See `Workflow.start`."""
        return await self.apply_async(args, kwargs, task_id=id)

    async def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncRunHandle[R]:
        """See `Workflow.delay`."""
        return await self.apply_async(args, kwargs)

    async def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
    ) -> AsyncRunHandle[R]:
        """See `Workflow.apply_async`."""
        started = self._workflow._started(args, kwargs, task_id, on_running_loop=True)
        return AsyncRunHandle(self._workflow._sessions, await started)

    async def signal_with_start(
        self,
        name: str,
        payload: Any = None,
        *,
        id: str,
        args: Sequence[Any] = (),
        signal_id: str | None = None,
    ) -> AsyncRunHandle[R]:
        """See `Workflow.signal_with_start`."""
        sessions = self._workflow._sessions
        start = self._workflow._to_start(id, args)
        session = sessions.on_running_loop()
        target = await with_start.signal_with_start(session, start, name, payload, signal_id)
        return AsyncRunHandle(sessions, target)

    async def start_update_with_start(
        self,
        name: str,
        *update_args: Any,
        id: str,
        args: Sequence[Any] = (),
        update_id: str | None = None,
    ) -> AsyncUpdateHandle:
        """See `Workflow.start_update_with_start`."""
        sessions = self._workflow._sessions
        start = self._workflow._to_start(id, args)
        session = sessions.on_running_loop()
        sent = await with_start.update_with_start(session, start, name, update_args, update_id)
        return AsyncUpdateHandle(sessions.on_running_loop, sent)

    async def execute_update_with_start(
        self,
        name: str,
        *update_args: Any,
        id: str,
        args: Sequence[Any] = (),
        timeout: Timeout = None,
    ) -> Any:
        """See `Workflow.execute_update_with_start`."""
        handle = await self.start_update_with_start(name, *update_args, id=id, args=args)
        return await handle.result(timeout)
