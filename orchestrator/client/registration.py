"""From a decorated function to a workflow's definition; and which functions can be workflows.

W1  A workflow is a plain ``async def`` at the top of a module, so that every process that imports
    the module finds the same one.
W2  One name is one function.  The same function again (a module that runs as ``__main__`` and is
    imported as well) replaces itself.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from orchestrator.client.workflow import EncodeInput
from orchestrator.core.definition import Codec, WorkflowDefinition
from orchestrator.core.errors import ConfigurationError
from orchestrator.core.interceptors import Interceptor
from orchestrator.core.values import Json
from orchestrator.payloads import InputCodec


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOptions:
    """What `Orchestrator.workflow` may be told; see `core.definition.WorkflowDefinition`."""

    name: str | None = None
    version: str = ""
    signals: Mapping[str, Any] | None = None
    failure_types: tuple[type[BaseException], ...] = ()
    bugs_fail: bool = False
    interceptors: tuple[Interceptor, ...] = ()


def define(
    function: Callable[..., Any], options: WorkflowOptions, codec: Codec
) -> tuple[WorkflowDefinition, EncodeInput]:
    """Return the definition of `function`, and what encodes a caller's input for it.

    Annotations are resolved when the first input is, so that they may name what the module
    defines further down.

    Raises:
        ConfigurationError: It cannot be a workflow (W1); the text says why.
    """
    name = options.name if options.name is not None else getattr(function, "__name__", "")
    _check_function(function, name)

    @functools.cache
    def input_codec() -> InputCodec:
        return InputCodec(function, codec, subject=f"input of {name}")

    def decode(args: list[Json], kwargs: dict[str, Json]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return input_codec().decode(args, kwargs)

    definition = WorkflowDefinition(
        name=name,
        version=options.version,
        function=function,
        codec=codec,
        decode_input=decode,
        signals=options.signals,
        failure_types=options.failure_types,
        bugs_fail=options.bugs_fail,
        fingerprint=_fingerprint(function),
        interceptors=options.interceptors,
    )
    return definition, lambda args, kwargs: input_codec().encode(args, kwargs)


def register(
    registry: MutableMapping[str, WorkflowDefinition], definition: WorkflowDefinition
) -> None:
    """Add `definition` to `registry` (W2).

    Raises:
        ConfigurationError: Another function has this name.
    """
    known = registry.get(definition.name)
    if known is not None and _identity(known) != _identity(definition):
        raise ConfigurationError(
            f"workflow {definition.name!r}",
            f"it is {_place(known.function)} already",
            f"name {_place(definition.function)} otherwise: @orc.workflow(name=…)",
        )
    registry[definition.name] = definition


def _check_function(function: Callable[..., Any], name: str) -> None:
    subject = f"workflow {name!r}"
    if not inspect.iscoroutinefunction(function):
        found = "an async generator" if inspect.isasyncgenfunction(function) else "a plain function"
        raise ConfigurationError(subject, found, "an async def that returns is wanted")
    if "<locals>" in function.__qualname__:
        raise ConfigurationError(
            subject,
            f"{_place(function)}, which lives inside another function",
            "define it at the top of a module, where every process finds it",
        )
    if not name or any(character.isspace() or not character.isprintable() for character in name):
        raise ConfigurationError(subject, repr(name), "a name without blanks is wanted")


def _fingerprint(function: Callable[..., Any]) -> str:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):  # typed into a prompt, or made by exec
        return ""
    return hashlib.sha256(source.encode()).hexdigest()


def _identity(definition: WorkflowDefinition) -> tuple[str, str, str]:
    function = inspect.unwrap(definition.function)
    return function.__code__.co_filename, function.__qualname__, definition.fingerprint


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
