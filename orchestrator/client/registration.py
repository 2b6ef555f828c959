"""From a decorated function to a workflow's definition; and which functions can be workflows.

W1  A workflow is a plain ``async def`` at the top of a module, so that every process that imports
    the module finds the same one.
W2  One name and version is one function.  The same function again (a module that runs as
    ``__main__`` and is imported as well) replaces itself.
W3  A name stands for its default version, which holds the others: see `core.versions`.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from orchestrator.client.workflow import EncodeInput
from orchestrator.core.definition import Codec, WorkflowDefinition
from orchestrator.core.errors import ConfigurationError
from orchestrator.core.interceptors import Interceptor
from orchestrator.core.own_signals import is_reserved
from orchestrator.core.values import Json
from orchestrator.core.versions import PINNED, VERSIONINGS
from orchestrator.payloads import InputCodec


class WorkflowSettings(TypedDict, total=False):
    """What `Orchestrator.workflow` may be told; see `core.definition.WorkflowDefinition` for most.

    name: Under which histories know it; the function's own unless given.
    versioning: Whether it takes over open runs of other versions, once it is the default one:
        "auto_upgrade", or "pinned"; see `core.versions`.
    default: New runs begin under this version; else under the one registered last.
    """

    name: str | None
    version: str
    signals: Mapping[str, Any] | None
    failure_types: tuple[type[BaseException], ...]
    bugs_fail: bool
    versioning: str
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOptions:
    """What `Orchestrator.workflow` was told; see `WorkflowSettings`."""

    name: str | None = None
    version: str = ""
    signals: Mapping[str, Any] | None = None
    failure_types: tuple[type[BaseException], ...] = ()
    bugs_fail: bool = False
    versioning: str = PINNED
    default: bool = False
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
    _check_signals(options.signals or {}, name)
    if options.versioning not in VERSIONINGS:
        raise ConfigurationError(
            f"versioning of workflow {name!r}",
            repr(options.versioning),
            f"one of {', '.join(VERSIONINGS)} is wanted",
        )

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
        versioning=options.versioning,
        is_default=options.default,
        interceptors=options.interceptors,
    )
    return definition, lambda args, kwargs: input_codec().encode(args, kwargs)


def register(
    registry: MutableMapping[str, WorkflowDefinition], definition: WorkflowDefinition
) -> None:
    """Add `definition` to `registry`, beside other versions of its name (W2, W3).

    Raises:
        ConfigurationError: Another function has this name and version, or another version was
            named the default one.
    """
    name = definition.name
    known = registry.get(name)
    versions = {} if known is None else {each.version: each for each in (*known.others, known)}
    same = versions.get(definition.version)
    if same is not None and _identity(same) != _identity(definition):
        raise ConfigurationError(
            f"workflow {name!r}" + (f" version {same.version!r}" if same.version else ""),
            f"it is {_place(same.function)} already",
            f"give {_place(definition.function)} another name, or a version of its own: "
            "@orc.workflow(name=…, version=…)",
        )
    # One that is there keeps its place: the last one stays the last.
    versions[definition.version] = definition
    named = [each for each in versions.values() if each.is_default]
    if len(named) > 1:
        raise ConfigurationError(
            f"workflow {name!r}",
            f"versions {' and '.join(repr(each.version) for each in named)} say default=True",
            "one of them may",
        )
    default = named[0] if named else list(versions.values())[-1]
    del versions[default.version]
    others = tuple(replace(each, others=()) for each in versions.values())
    registry[name] = replace(default, others=others)


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


def _check_signals(signals: Mapping[str, Any], workflow: str) -> None:
    for name in filter(is_reserved, signals):
        raise ConfigurationError(
            f"signals of workflow {workflow!r}",
            repr(name),
            "names that begin with two underscores are the engine's own",
        )


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
