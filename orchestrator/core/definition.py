"""What the core knows of a workflow: its function, and how values enter and leave it.

The core does not validate: it asks the codec, which the app supplies (pydantic lives there).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.core.interceptors import Interceptor
from orchestrator.core.values import Json


class Codec(Protocol):
    """Values to JSON and back; deterministic, because it runs inside activations."""

    def encode(self, value: object) -> Json:
        """Return `value` as JSON.

        Raises:
            TypeError: A value that has no JSON form.
        """
        ...

    def decode(self, kind: Any, value: Json) -> Any:
        """Return `value` as an object of `kind`; None and `typing.Any` leave it as it is.

        Raises:
            ValueError: It does not validate; the text says where and why, without the value.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDefinition:
    """A workflow under the name that histories know.

    Args:
        name: The workflow type.
        version: Free text, recorded with each run.
        function: ``async def``; its parameters are the input.
        codec: See `Codec`.
        decode_input: Turns recorded ``(args, kwargs)`` into the function's arguments.
        signals: Types by signal name, where declared.  Then unknown names and payloads that do
            not validate are refused on arrival; None takes every name.
        failure_types: Exception classes that fail the run, beside `ApplicationError`, `StepError`,
            ``TimeoutError`` and cancellation.  Any other exception is taken for a bug: the run is
            blocked, not failed.
        bugs_fail: Take no exception for a bug: all of them fail the run.
        fingerprint: Digest of the source, hex; "" where there is none.
        versioning: Whether this version, where it is the default one, takes over the open runs of
            the others: "pinned" or "auto_upgrade"; see `core.versions`.
        is_default: Whether it was named the default one.
        others: The versions beside this one, which is the default.
        interceptors: What stands around the run's calls, outermost first.
    """

    name: str
    version: str = ""
    function: Callable[..., Awaitable[Any]]
    codec: Codec
    decode_input: Callable[[list[Json], dict[str, Json]], tuple[tuple[Any, ...], dict[str, Any]]]
    signals: Mapping[str, Any] | None = None
    failure_types: tuple[type[BaseException], ...] = ()
    bugs_fail: bool = False
    fingerprint: str = field(default="", compare=False)
    versioning: str = "pinned"
    is_default: bool = False
    others: tuple["WorkflowDefinition", ...] = field(default=(), compare=False, repr=False)
    interceptors: tuple[Interceptor, ...] = field(default=(), compare=False)


class StepTarget(Protocol):
    """What `workflow.step` needs of the thing it is given.

    A Celery task has all of it; the app wraps it where something is missing.
    """

    name: str
