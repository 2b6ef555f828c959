"""Search attributes, memo and texts: what people find runs by, and what they read of them.

SA1  A search attribute needs no registration: its value says what it is, a text, a number, a truth
     value, an instant or a list of texts; another run may give the name another kind of value.
SA2  An instant is recorded in UTC, as ``{"datetime": "<ISO 8601>"}``; every other value as JSON has
     it.  So what is recorded decodes to what was given.
SA3  A value is in the index ``is:<name>=<value>``, and the name in ``has:<name>``; equal values
     (1 and 1.0, one instant in two zones) are in the same index.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from orchestrator.core.errors import PayloadTooLarge, UsageError
from orchestrator.core.limits import (
    MEMO_BYTES_MAX,
    SEARCH_ATTRIBUTE_BYTES_MAX,
    SEARCH_ATTRIBUTE_ITEMS_MAX,
    SEARCH_ATTRIBUTE_NAME_CHARS_MAX,
    SEARCH_ATTRIBUTES_MAX,
)
from orchestrator.core.values import Json, canonical

#: What a search attribute may be; an instant has to know its zone.
SearchValue: TypeAlias = str | bool | int | float | datetime | Sequence[str]

#: What an index holds runs by: a value, or one text of a list.
Scalar: TypeAlias = str | bool | int | float | datetime

#: What a filter can ask of every run.
SYSTEM_NAMES = (
    "WorkflowId",
    "WorkflowType",
    "WorkflowVersion",
    "Run",
    "ExecutionStatus",
    "StartTime",
    "CloseTime",
    "HistoryLength",
)
#: Words of a filter, in any case.
KEYWORDS = frozenset(
    ("and", "or", "not", "in", "between", "is", "null", "exists", "starts_with", "true", "false")
)
#: The index of all runs, and that of those that have not ended.
ALL_RUNS = "all"
OPEN_RUNS = "open"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_INSTANT = "datetime"
_INT_MAX = 2**63


def encode_attributes(attributes: Mapping[str, object]) -> dict[str, Json]:
    """Return search attributes as JSON (SA2); None, which removes one, as null.

    Raises:
        UsageError: A name or a value that cannot be one; says which, and what is wanted.
    """
    if not isinstance(attributes, Mapping):
        raise UsageError(
            f"search attributes are a mapping of names to values, not {type(attributes).__name__}"
        )
    checked_count(attributes)
    return {_checked_name(name): _encoded(name, value) for name, value in attributes.items()}


def checked_count(attributes: Mapping[str, object]) -> None:
    """Check how many attributes a run has.

    Raises:
        UsageError: Too many.
    """
    if len(attributes) > SEARCH_ATTRIBUTES_MAX:
        raise UsageError(
            f"{len(attributes)} search attributes: a run has at most {SEARCH_ATTRIBUTES_MAX}; "
            f"what nobody searches by belongs into the memo"
        )


def decode_attributes(data: Mapping[str, Json]) -> dict[str, SearchValue]:
    """Return what `encode_attributes` was given, instants in UTC."""
    return {name: _decoded(value) for name, value in data.items() if value is not None}


def merged(before: Mapping[str, Json], upserted: Mapping[str, Json]) -> dict[str, Json]:
    """Return `before` with what was upserted; null removes."""
    found = {**before, **upserted}
    return {name: value for name, value in found.items() if value is not None}


def attributes_as_json(attributes: Mapping[str, SearchValue]) -> dict[str, Json]:
    """Return attributes for people and programs: instants as plain ISO 8601."""
    return {
        name: value.isoformat()
        if isinstance(value, datetime)
        else value
        if isinstance(value, str | int | float)
        else list(value)
        for name, value in attributes.items()
    }


def checked_memo(memo: Mapping[str, Json]) -> None:
    """Check a memo as it will be recorded.

    Raises:
        PayloadTooLarge: Beyond its bound.
    """
    size = len(canonical(dict(memo)))
    if size > MEMO_BYTES_MAX:
        raise PayloadTooLarge("memo", size, MEMO_BYTES_MAX)


def checked_text(subject: str, text: object, bytes_max: int) -> str:
    """Return `text`, a summary or details for people.

    Raises:
        UsageError: Not a text.
        PayloadTooLarge: Beyond its bound.
    """
    if not isinstance(text, str):
        raise UsageError(f"{subject} is a text, found {type(text).__name__}")
    size = len(text.encode(errors="surrogatepass"))
    if size > bytes_max:
        raise PayloadTooLarge(subject, size, bytes_max)
    return text


# --- indexes -----------------------------------------------------------------------------------


def index_of_type(workflow: str) -> str:
    """Return the index of the runs of a workflow."""
    return f"type:{workflow}"


def index_of_status(status: str) -> str:
    """Return the index of the runs of a status."""
    return f"status:{status}"


def index_of_name(name: str) -> str:
    """Return the index of the runs that have an attribute."""
    return f"has:{name}"


def index_of_value(name: str, value: Scalar) -> str:
    """Return the index of the runs whose attribute is `value`, or has it in its list (SA3)."""
    match value:
        case bool():
            key = f"b:{value}"
        case str():
            key = f"s:{value}"
        case datetime():
            key = f"d:{value.astimezone(UTC).isoformat()}"
        case float() if value.is_integer():
            key = f"n:{int(value)}"
        case _:
            key = f"n:{value!r}"
    return f"is:{name}={key}"


def attribute_indexes(data: Mapping[str, Json]) -> list[str]:
    """Return the indexes that a run with these recorded attributes is in, sorted."""
    found: set[str] = set()
    for name, value in decode_attributes(data).items():
        found.add(index_of_name(name))
        one = isinstance(value, str | int | float | datetime)
        for each in [value] if one else value:  # type: ignore[union-attr]
            found.add(index_of_value(name, each))  # type: ignore[arg-type]
    return sorted(found)


# --- inside ------------------------------------------------------------------------------------


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"search attribute {str(name)[:80]!r}: a name begins with a letter and goes on with "
            f"letters, digits, '_', '.' and '-'"
        )
    if len(name) > SEARCH_ATTRIBUTE_NAME_CHARS_MAX:
        raise UsageError(
            f"search attribute {name[:80]!r}: {len(name)} characters, "
            f"at most {SEARCH_ATTRIBUTE_NAME_CHARS_MAX} fit"
        )
    if name in SYSTEM_NAMES or name.lower() in KEYWORDS:
        raise UsageError(
            f"search attribute {name!r}: the name has a meaning in filters; choose another"
        )
    return name


def _encoded(name: str, value: object) -> Json:
    data: Json
    match value:
        case None | bool() | str():
            data = value
        case int():
            if not -_INT_MAX <= value < _INT_MAX:
                raise UsageError(f"search attribute {name!r}: the number does not fit 64 bits")
            data = int(value)
        case float():
            if not math.isfinite(value):
                raise UsageError(f"search attribute {name!r}: {value} is no number to search by")
            data = float(value)
        case datetime():
            if value.tzinfo is None:
                raise UsageError(
                    f"search attribute {name!r}: an instant without a zone; give it one, "
                    f"as in datetime.now(UTC)"
                )
            data = {_INSTANT: _in_utc(name, value)}
        case list() | tuple() if all(isinstance(one, str) for one in value):
            if len(value) > SEARCH_ATTRIBUTE_ITEMS_MAX:
                raise UsageError(
                    f"search attribute {name!r}: {len(value)} texts, "
                    f"at most {SEARCH_ATTRIBUTE_ITEMS_MAX} fit"
                )
            data = [str(one) for one in value]
        case _:
            raise UsageError(
                f"search attribute {name!r}: found a {type(value).__name__}; wanted is a text, "
                f"a number, a truth value, an aware datetime or a list of texts"
            )
    return _bounded(name, data)


def _in_utc(name: str, value: datetime) -> str:
    try:
        return value.astimezone(UTC).isoformat()
    except OverflowError:
        raise UsageError(f"search attribute {name!r}: {value} is no instant in UTC") from None


def _bounded(name: str, data: Json) -> Json:
    try:
        size = len(canonical(data))
    except UnicodeEncodeError:
        raise UsageError(f"search attribute {name!r}: the text is no valid Unicode") from None
    if size > SEARCH_ATTRIBUTE_BYTES_MAX:
        raise UsageError(
            f"search attribute {name!r}: {size} bytes, at most {SEARCH_ATTRIBUTE_BYTES_MAX} fit"
        )
    return data


def _decoded(value: Json) -> SearchValue:
    if isinstance(value, dict):
        return datetime.fromisoformat(str(value[_INSTANT]))
    if isinstance(value, list):
        return [str(one) for one in value]
    assert value is not None
    return value
