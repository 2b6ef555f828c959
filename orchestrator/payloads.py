"""Values to JSON and back, with pydantic: the app's `core.definition.Codec`.

PC1  What encodes here is canonical JSON: no NaN, no lone surrogates, and no sets, whose order
     differs from process to process and would make a replay disagree.
PC2  The text of a refusal names the place and the rule, never the value.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails, PydanticSerializationError, to_jsonable_python

from orchestrator.core.definition import Codec
from orchestrator.core.errors import InvalidPayload, PayloadTooLarge
from orchestrator.core.limits import PAYLOAD_BYTES_MAX
from orchestrator.core.values import Json, canonical, check_depth

_REASONS_MAX = 5
#: Rules whose message would quote the input.
_QUOTING_RULES = frozenset({"union_tag_invalid"})


class PydanticCodec:
    """See `core.definition.Codec`.  Encodes what pydantic can dump, decodes by annotation."""

    def encode(self, value: object) -> Json:
        """See `Codec.encode`.  Models are dumped by alias; tuples become lists."""
        if value is None or type(value) in (bool, int):
            return value  # type: ignore[return-value]
        kind = type(value).__name__
        try:
            _refuse_what_pydantic_would_change(value)
            data: Json = to_jsonable_python(value)
            encoded = canonical(data)
        except PydanticSerializationError as error:
            raise TypeError(f"{kind} has no JSON form: {_first_words(error)}") from None
        except UnicodeError:
            raise TypeError(f"{kind} has no JSON form: text that is not valid Unicode") from None
        except (ValueError, RecursionError):
            raise TypeError(
                f"{kind} has no JSON form: NaN, infinity, or a structure without end"
            ) from None
        try:
            check_depth(data, encoded.count(b"[") + encoded.count(b"{"))
        except ValueError as error:
            raise TypeError(f"{kind}: {error}") from None
        return data

    def decode(self, kind: Any, value: Json) -> Any:
        """See `Codec.decode`."""
        if kind is None or kind is Any:
            return value
        adapter = _adapter_of(kind)
        # The quick way first.  A strict model may refuse there what it takes from JSON: a date
        # as a string, for one.  So the second way has the last word.
        with suppress(ValidationError):
            return adapter.validate_python(value)
        try:
            return adapter.validate_json(canonical(value))
        except ValidationError as error:
            raise ValueError(_reason(error)) from None


class InputCodec:
    """A function's arguments as JSON, by its annotations.

    Args:
        function: Its parameters are the input; what has no annotation passes as plain JSON.
        codec: See `Codec`.
        subject: How errors call the input, as "input of order".

    Raises:
        InvalidPayload: An annotation that cannot be resolved, or that has no schema.
    """

    def __init__(self, function: Callable[..., Any], codec: Codec, subject: str = "") -> None:
        self.subject = subject or f"input of {getattr(function, '__name__', 'the workflow')}"
        self._codec = codec
        self._signature = inspect.signature(function)
        try:
            self._kinds = get_type_hints(function)
        except (NameError, TypeError, AttributeError) as error:
            raise InvalidPayload(self.subject, f"an annotation is unknown: {error}") from error

    def encode(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> tuple[list[Json], dict[str, Json]]:
        """Return a caller's arguments as JSON, validated and with the models' defaults filled in.

        Raises:
            InvalidPayload: They do not fit the signature or the annotations.
            PayloadTooLarge: Beyond ``PAYLOAD_BYTES_MAX``.
        """
        try:
            kinds, kinds_by_name = self._kinds_of(args, kwargs)
        except ValueError as error:
            raise InvalidPayload(self.subject, str(error)) from None
        encoded_args = [
            normalize(f"{self.subject}, argument {index + 1}", kind, value, self._codec)
            for index, (kind, value) in enumerate(zip(kinds, args, strict=True))
        ]
        encoded_kwargs = {
            name: normalize(
                f"{self.subject}, argument {name}", kinds_by_name[name], value, self._codec
            )
            for name, value in kwargs.items()
        }
        check_size(self.subject, [encoded_args, encoded_kwargs])
        return encoded_args, encoded_kwargs

    def decode(
        self, args: list[Json], kwargs: dict[str, Json]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return recorded arguments as the function takes them.

        Raises:
            ValueError: They do not fit the signature or the annotations.
        """
        kinds, kinds_by_name = self._kinds_of(args, kwargs)
        decode = self._codec.decode
        return (
            tuple(decode(kind, value) for kind, value in zip(kinds, args, strict=True)),
            {name: decode(kinds_by_name[name], value) for name, value in kwargs.items()},
        )

    def _kinds_of(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> tuple[list[Any], dict[str, Any]]:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ValueError(str(error)) from None
        return annotations_of(self._signature, self._kinds, len(args), kwargs)


def annotations_of(
    signature: inspect.Signature, kinds: Mapping[str, Any], count: int, names: Iterable[str]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the annotations of `count` positional and the named arguments; None for none.

    The arguments need not fit: what has no parameter has no annotation.
    """
    parameters = list(signature.parameters.values())
    positional: list[Any] = []
    rest: Any = None
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append(kinds.get(parameter.name))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            rest = kinds.get(parameter.name)
    positional = [*positional[:count], *[rest] * (count - len(positional))]
    others = next(
        (kinds.get(p.name) for p in parameters if p.kind is p.VAR_KEYWORD),
        None,
    )
    known = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.POSITIONAL_ONLY)}
    return positional, {name: kinds.get(name) if name in known else others for name in names}


def encode_payload(subject: str, kind: Any, value: object, codec: Codec) -> Json:
    """Return a signal's payload or a query's argument as JSON; `kind` None takes any.

    Raises:
        InvalidPayload: It does not validate, or has no JSON form.
        PayloadTooLarge: Beyond ``PAYLOAD_BYTES_MAX``.
    """
    data = normalize(subject, kind, value, codec)
    check_size(subject, data)
    return data


def normalize(subject: str, kind: Any, value: object, codec: Codec) -> Json:
    """Return `value` as the JSON of a `kind`: recorded defaults stay when the code's change.

    Raises:
        InvalidPayload: It does not validate, or has no JSON form.
    """
    try:
        data = codec.encode(value)
        return data if kind is None or kind is Any else codec.encode(codec.decode(kind, data))
    except (TypeError, ValueError) as error:
        raise InvalidPayload(subject, str(error)) from None


def check_size(subject: str, data: Json, *, bytes_max: int = PAYLOAD_BYTES_MAX) -> int:
    """Return the bytes that `data` takes as canonical JSON.

    Raises:
        PayloadTooLarge: More than `bytes_max`.
    """
    size = len(canonical(data))
    if size > bytes_max:
        raise PayloadTooLarge(subject, size, bytes_max)
    return size


@lru_cache(maxsize=4096)
def _cached_adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _adapter_of(kind: Any) -> TypeAdapter[Any]:
    try:
        try:
            return _cached_adapter(kind)
        except TypeError:  # unhashable, as Annotated[int, [...]]
            return TypeAdapter(kind)
    except PydanticUserError:
        raise ValueError(
            f"{kind!r} has no schema; annotate with a JSON type, a dataclass or a pydantic model"
        ) from None


def _refuse_what_pydantic_would_change(value: object) -> None:
    """Raise for sets, which have no order, and for NaN, which in a model would become null."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticSerializationError("NaN and infinity are no JSON")
    if isinstance(value, str | bytes | int | float):
        return
    if isinstance(value, set | frozenset):
        raise PydanticSerializationError("a set has no order; pass a sorted list")
    if isinstance(value, Mapping):
        children: Iterable[object] = value.values()
    elif isinstance(value, list | tuple):
        children = value
    elif isinstance(value, BaseModel):
        children = [*value.__dict__.values(), *(value.__pydantic_extra__ or {}).values()]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        children = [getattr(value, part.name, None) for part in dataclasses.fields(value)]
    else:
        return
    for child in children:
        _refuse_what_pydantic_would_change(child)


def _first_words(error: PydanticSerializationError) -> str:
    text = str(error)
    # A custom serializer's own message may quote the value.
    return "its serializer failed" if text.startswith("Error calling function") else text[:200]


def _reason(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    words = [_words(detail) for detail in details[:_REASONS_MAX]]
    if len(details) > _REASONS_MAX:
        words.append(f"and {len(details) - _REASONS_MAX} more")
    return "; ".join(words)


def _words(detail: ErrorDetails) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    rule = detail["type"] if detail["type"] in _QUOTING_RULES else detail["msg"]
    return f"{place}: {rule}" if place else rule
