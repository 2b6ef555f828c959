"""A step's recorded arguments as its task takes them.

A task is run unchanged, so what is plain JSON stays as it is, whatever the annotation says.  Only
arguments whose annotation holds something that JSON cannot carry (a model, a date, an enum …) are
converted; a task made with ``pydantic=True`` converts its own.
"""

import dataclasses
import inspect
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, get_args, get_type_hints
from uuid import UUID

from pydantic import BaseModel

from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.definition import Codec
from orchestrator.core.errors import InvalidPayload
from orchestrator.core.values import Json
from orchestrator.engine.ports import BlobStore
from orchestrator.payloads import annotations_of

_CONVERTED = (BaseModel, Enum, date, datetime, time, timedelta, Decimal, UUID, bytes)


def load_arguments(
    function: Callable[..., Any], args: Json, kwargs: Json, *, blobs: BlobStore, codec: Codec
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments to call `function` with.

    Args:
        function: The body; bound, if it is a method.
        args: A JSON list, or a blob's reference.
        kwargs: A JSON object, or a blob's reference.
        blobs: Where references lead.
        codec: See `Codec`.

    Raises:
        InvalidPayload: They do not fit the annotations.
        StoreUnavailable: A blob cannot be read.
    """
    args, kwargs = _resolve(args, blobs), _resolve(kwargs, blobs)
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidPayload("step", "its arguments are not a list and an object")
    signature, kinds = _converted_kinds(function)
    if not kinds:
        return args, kwargs
    positional, named = annotations_of(signature, kinds, len(args), kwargs)
    where = "argument"
    try:
        loaded = []
        for index, (kind, value) in enumerate(zip(positional, args, strict=True)):
            where = f"argument {index + 1}"
            loaded.append(codec.decode(kind, value))
        loaded_by_name = {}
        for name, value in kwargs.items():
            where = f"argument {name}"
            loaded_by_name[name] = codec.decode(named[name], value)
    except ValueError as error:
        raise InvalidPayload(where, str(error)) from None
    return loaded, loaded_by_name


def _resolve(value: Json, blobs: BlobStore) -> Json:
    ref = find_blob_ref(value)
    return value if ref is None else blobs.get(ref)


@lru_cache(maxsize=4096)
def _converted_kinds(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    signature = inspect.signature(function)
    if _is_celery_pydantic(function):
        return signature, {}
    try:
        hints = get_type_hints(inspect.unwrap(function))
    except (NameError, TypeError, AttributeError):
        # An annotation for type checkers only: Celery would not look at it either.
        return signature, {}
    hints.pop("return", None)
    return signature, {name: kind for name, kind in hints.items() if _is_converted(kind)}


def _is_converted(kind: Any) -> bool:
    if isinstance(kind, type) and (issubclass(kind, _CONVERTED) or dataclasses.is_dataclass(kind)):
        return True
    return any(_is_converted(part) for part in get_args(kind) if part is not kind)


def _is_celery_pydantic(function: Callable[..., Any]) -> bool:
    """Whether ``pydantic=True`` has wrapped the function; Celery keeps no other trace of it."""
    layer: Any = getattr(function, "__func__", function)
    while layer is not None:
        code = getattr(layer, "__code__", None)
        if code is not None and code.co_qualname == "pydantic_wrapper.<locals>.wrapper":
            return True
        layer = getattr(layer, "__wrapped__", None)
    return False
