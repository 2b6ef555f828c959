"""Interceptors: code of the application's that stands around calls, and headers that travel along.

IC1  An interceptor is handed the call and `proceed`, which makes it, and returns what it returns;
     it may change the call, look at the outcome, or raise and so refuse.  The first one of an
     app's list is the outermost.
IC2  Headers are the run's: they come with its start, are recorded in its first event, and go on
     into its steps, its children and the run that continues it, unless they are changed on the way.
IC3  What is named ``_workflow`` here without a client, and whatever orders, runs inside the
     activation and again on every replay: it keeps to the rules of workflow code.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.errors import PayloadTooLarge, UsageError
from orchestrator.core.limits import HEADERS_BYTES_MAX
from orchestrator.core.options import StepOptions
from orchestrator.core.values import Json, canonical

Headers = Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalWorkflow:
    """A client signals a run; `run` 0 is whichever is open."""

    workflow_id: str
    run: int
    signal: str
    payload: Any
    signal_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateWorkflow:
    """A client sends an update."""

    workflow_id: str
    run: int
    update: str
    args: tuple[Any, ...]
    update_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWorkflow:
    """A client starts a run; its input is JSON, and was validated.

    `message` is what is sent with the start, in one act; the headers are those of the run that is
    opened, if one is.
    """

    workflow_id: str
    workflow: str
    args: list[Json]
    kwargs: dict[str, Json]
    headers: Headers = field(default_factory=dict)
    message: SignalWorkflow | UpdateWorkflow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryWorkflow:
    """A client asks a run."""

    workflow_id: str
    run: int
    query: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWorkflow:
    """A client asks a run to stop, or ends it."""

    workflow_id: str
    run: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteWorkflow:
    """A run's function is called with its input; more is in `workflow.info`."""

    workflow: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleMessage:
    """A handler of a signal, a query or an update is called."""

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStep:
    """Workflow code orders a step, or a saga its undoing; options and headers may be changed."""

    task: str
    args: Sequence[Json]
    kwargs: Mapping[str, Json]
    options: StepOptions
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChild:
    """Workflow code orders a child; its headers may be changed."""

    workflow: str
    args: Sequence[Json]
    kwargs: Mapping[str, Json]
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteStep:
    """The body of a step is called; more is in `step.current`."""

    task: str
    workflow_id: str
    run: int
    step: int
    attempt: int
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    headers: Headers


class Interceptor:
    """Stands around what clients, workflows and steps do; override what you need (IC1).

    One instance serves a whole process: keep what belongs to one call in that call.
    """

    # --- clients: anything may be done here; on the blocking client only `proceed` is awaited ----

    async def start_workflow(
        self, call: StartWorkflow, proceed: Callable[[StartWorkflow], Awaitable[int]]
    ) -> int:
        """Start a run; return its number."""
        return await proceed(call)

    async def signal_workflow(
        self, call: SignalWorkflow, proceed: Callable[[SignalWorkflow], Awaitable[str]]
    ) -> str:
        """Send a signal; return its id."""
        return await proceed(call)

    async def query_workflow(
        self, call: QueryWorkflow, proceed: Callable[[QueryWorkflow], Awaitable[Json]]
    ) -> Json:
        """Ask, and return the answer."""
        return await proceed(call)

    async def update_workflow(
        self, call: UpdateWorkflow, proceed: Callable[[UpdateWorkflow], Awaitable[str]]
    ) -> str:
        """Send an update and return its id; what the workflow makes of it comes later."""
        return await proceed(call)

    async def cancel_workflow(
        self, call: StopWorkflow, proceed: Callable[[StopWorkflow], Awaitable[None]]
    ) -> None:
        """Ask a run to stop."""
        await proceed(call)

    async def terminate_workflow(
        self, call: StopWorkflow, proceed: Callable[[StopWorkflow], Awaitable[None]]
    ) -> None:
        """End a run."""
        await proceed(call)

    # --- workflows: in the activation, and again on replay (IC3) ---------------------------------

    async def execute_workflow(
        self, call: ExecuteWorkflow, proceed: Callable[[ExecuteWorkflow], Awaitable[Any]]
    ) -> Any:
        """Run the workflow function; return its result."""
        return await proceed(call)

    def handle_signal(self, call: HandleMessage, proceed: Callable[[HandleMessage], Any]) -> Any:
        """Call a handler of `on_signal`; of a coroutine function that returns its coroutine."""
        return proceed(call)

    def handle_query(self, call: HandleMessage, proceed: Callable[[HandleMessage], Any]) -> Any:
        """Call a handler of `on_query`, and return its answer; it must only read."""
        return proceed(call)

    def handle_update(self, call: HandleMessage, proceed: Callable[[HandleMessage], Any]) -> Any:
        """Call a handler of `on_update`; of a coroutine function that returns its coroutine."""
        return proceed(call)

    def order_step(self, call: OrderStep) -> OrderStep:
        """Return the step as it is to be ordered: options and headers count, the rest stays.

        Summary, permits and rates are dealt with before: setting them here changes nothing.
        """
        return call

    def order_child(self, call: OrderChild) -> OrderChild:
        """Return the child as it is to be ordered: its headers count, the rest stays."""
        return call

    # --- steps: in the worker, or in the orchestrator for a local one ----------------------------

    def execute_step(self, call: ExecuteStep, proceed: Callable[[ExecuteStep], Any]) -> Any:
        """Run the body and return its result, also of a coroutine function."""
        return proceed(call)


def chained(
    interceptors: Sequence[Interceptor], name: str, last: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """Return a function that makes a call through all `interceptors`, and at the end by `last`."""
    for one in reversed(overriding(interceptors, name)):
        last = _around(getattr(one, name), last)
    return last


def overriding(interceptors: Sequence[Interceptor], name: str) -> list[Interceptor]:
    """Return those of `interceptors` that do something about calls of `name`."""
    default = getattr(Interceptor, name)
    return [one for one in interceptors if getattr(type(one), name) is not default]


def _around(method: Callable[..., Any], proceed: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda call: method(call, proceed)


def checked_interceptors(interceptors: Sequence[Any]) -> tuple[Interceptor, ...]:
    """Return the list of an app.

    Raises:
        UsageError: One is no `Interceptor`.
    """
    for one in interceptors:
        if not isinstance(one, Interceptor):
            found = one.__name__ if isinstance(one, type) else type(one).__name__
            raise UsageError(
                "interceptors: an instance of a class derived from Interceptor is wanted, "
                f"found {found}"
            )
    return tuple(interceptors)


def checked_headers(headers: Headers) -> dict[str, Json]:
    """Return headers that can travel.

    Raises:
        PayloadTooLarge: More than ``HEADERS_BYTES_MAX`` bytes as JSON.
        UsageError: A name that is no text, or a value that has no JSON form.
    """
    found = dict(headers)
    try:
        if not all(isinstance(name, str) for name in found):
            raise TypeError("their names are texts")
        size = len(canonical(found))
    except (TypeError, ValueError) as error:
        raise UsageError(f"headers are names with values that have a JSON form: {error}") from error
    if size > HEADERS_BYTES_MAX:
        raise PayloadTooLarge("headers", size, HEADERS_BYTES_MAX)
    return found
