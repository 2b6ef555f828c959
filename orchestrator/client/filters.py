"""A filter over runs: what it asks, whether a run has it, and which indexes can answer it.

F1  A comparison with an attribute that the run does not have is not true, ``!=`` and ``NOT``
    included; only ``IS NULL`` asks for its absence.
F2  Values of different kinds are never equal and in no order, but for whole and broken numbers;
    a text that reads as an instant is one where the run has an instant.
F3  A list has ``=``, ``IN`` and ``STARTS_WITH`` if one of its texts has it, and ``!=`` if none is
    equal; it is in no order.
F4  Every run that a filter takes is in one of its plan's indexes and started within its bounds;
    the row of each decides, so that an index is never more than a short cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from orchestrator.core.search_attributes import (
    ALL_RUNS,
    OPEN_RUNS,
    SYSTEM_NAMES,
    Scalar,
    SearchValue,
    index_of_name,
    index_of_status,
    index_of_type,
    index_of_value,
)
from orchestrator.core.states import CLOSED_STATUSES

#: What a filter sees of a run, by name; None for what it does not have.
ValueOf: TypeAlias = Callable[[str], SearchValue | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison.  `operator`: = != < <= > >= IN STARTS_WITH BETWEEN or IS NULL.

    `is_negated` is NOT before IN, STARTS_WITH, BETWEEN and NULL.
    """

    name: str
    operator: str
    values: tuple[Scalar, ...] = ()
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class All:
    """All parts hold; none is true of every run."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Any_:
    """One part holds."""

    parts: tuple["Filter", ...]


Filter: TypeAlias = Comparison | All | Any_

EVERY_RUN = All(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where to look (F4).  `newest_ms` and `oldest_ms` bound the start, inclusive.

    `is_exact`: the indexes hold what the filter takes, no more, and no run is in two of them.
    """

    indexes: tuple[str, ...] = (ALL_RUNS,)
    newest_ms: int | None = None
    oldest_ms: int | None = None
    is_exact: bool = False


def matches(wanted: Filter, value_of: ValueOf) -> bool:
    """Return whether a run is one of those that `wanted` takes."""
    match wanted:
        case All():
            return all(matches(part, value_of) for part in wanted.parts)
        case Any_():
            return any(matches(part, value_of) for part in wanted.parts)
        case Comparison():
            return _holds(wanted, value_of(wanted.name))


def _holds(wanted: Comparison, value: SearchValue | None) -> bool:
    if wanted.operator == "IS NULL":
        return (value is None) is not wanted.is_negated
    if value is None:
        return False
    test = _TESTS[wanted.operator]
    if isinstance(value, str | int | float | datetime):
        return test(value, wanted.values) is not wanted.is_negated
    if wanted.operator == "!=":
        return all(test(one, wanted.values) for one in value)
    if wanted.operator not in ("=", "IN", "STARTS_WITH"):
        return False
    return any(test(one, wanted.values) for one in value) is not wanted.is_negated


def _aligned(value: Scalar, wanted: Scalar) -> tuple[Scalar, Scalar] | None:
    """Return both as values of one kind, or None (F2)."""
    if isinstance(value, datetime) and isinstance(wanted, str):
        parsed = instant_in(wanted)
        return None if parsed is None else (value, parsed)
    if isinstance(value, bool) or isinstance(wanted, bool):
        return (value, wanted) if isinstance(value, bool) and isinstance(wanted, bool) else None
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return value, wanted
    return (value, wanted) if type(value) is type(wanted) else None


def _compared(test: Callable[..., bool], *, otherwise: bool = False) -> Callable[..., bool]:
    def compare(value: Scalar, values: Sequence[Scalar]) -> bool:
        pair = _aligned(value, values[0])
        return otherwise if pair is None else test(*pair)

    return compare


_equal = _compared(lambda one, other: one == other)


def _is_in(value: Scalar, values: Sequence[Scalar]) -> bool:
    return any(_equal(value, (each,)) for each in values)


def _starts_with(value: Scalar, values: Sequence[Scalar]) -> bool:
    return isinstance(value, str) and isinstance(values[0], str) and value.startswith(values[0])


def _is_between(value: Scalar, values: Sequence[Scalar]) -> bool:
    return _at_least(value, values[:1]) and _at_most(value, values[1:])


_at_least = _compared(lambda one, other: one >= other)
_at_most = _compared(lambda one, other: one <= other)

_TESTS: dict[str, Callable[[Scalar, Sequence[Scalar]], bool]] = {
    "=": _equal,
    "!=": _compared(lambda one, other: one != other, otherwise=True),
    "<": _compared(lambda one, other: one < other),
    "<=": _at_most,
    ">": _compared(lambda one, other: one > other),
    ">=": _at_least,
    "IN": _is_in,
    "STARTS_WITH": _starts_with,
    "BETWEEN": _is_between,
}


def instant_in(text: str) -> datetime | None:
    """Return the instant that `text` is in ISO 8601, or None; without a zone it is in UTC."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# --- plans -------------------------------------------------------------------------------------


def plans(wanted: Filter) -> list[Plan]:
    """Return the plans that answer `wanted`, each by itself; the smallest is the best."""
    match wanted:
        case Comparison():
            return [_plan_of(wanted)]
        case Any_():
            return [_union([min(plans(part), key=_is_of_all) for part in wanted.parts])]
        case All():
            found = [plan for part in wanted.parts for plan in plans(part)] or [Plan(is_exact=True)]
            newest = [plan.newest_ms for plan in found if plan.newest_ms is not None]
            oldest = [plan.oldest_ms for plan in found if plan.oldest_ms is not None]
            return [
                Plan(
                    indexes=plan.indexes,
                    newest_ms=min(newest, default=None),
                    oldest_ms=max(oldest, default=None),
                    is_exact=plan.is_exact and len(found) == 1,
                )
                for plan in found
            ]


def _is_of_all(plan: Plan) -> bool:
    return ALL_RUNS in plan.indexes


def _union(parts: Sequence[Plan]) -> Plan:
    newest = [plan.newest_ms for plan in parts]
    oldest = [plan.oldest_ms for plan in parts]
    indexes = dict.fromkeys(index for plan in parts for index in plan.indexes)
    return Plan(
        indexes=(ALL_RUNS,) if ALL_RUNS in indexes else tuple(indexes),
        newest_ms=None if None in newest else max(each for each in newest if each is not None),
        oldest_ms=None if None in oldest else min(each for each in oldest if each is not None),
    )


def _plan_of(wanted: Comparison) -> Plan:
    name, operator = wanted.name, wanted.operator
    is_equality = operator in ("=", "IN") and not wanted.is_negated
    if name in ("WorkflowType", "ExecutionStatus"):
        index_of = index_of_type if name == "WorkflowType" else index_of_status
        if not is_equality:
            return Plan()
        indexes = tuple(dict.fromkeys(index_of(str(value)) for value in wanted.values))
        return Plan(indexes=indexes, is_exact=all(isinstance(v, str) for v in wanted.values))
    if name == "CloseTime":
        is_exact = operator == "IS NULL"
        if is_exact and not wanted.is_negated:
            return Plan(indexes=(OPEN_RUNS,), is_exact=True)
        return Plan(indexes=tuple(map(index_of_status, CLOSED_STATUSES)), is_exact=is_exact)
    if name == "StartTime":
        return _bounds(wanted)
    if name in SYSTEM_NAMES or (operator == "IS NULL" and not wanted.is_negated):
        return Plan()
    if is_equality:
        return _by_value(name, wanted.values)
    return Plan(indexes=(index_of_name(name),), is_exact=operator == "IS NULL")


def _by_value(name: str, values: Sequence[Scalar]) -> Plan:
    indexes = dict.fromkeys(index_of_value(name, value) for value in values)
    for value in values:
        if isinstance(value, str) and (instant := instant_in(value)) is not None:
            indexes[index_of_value(name, instant)] = None
    # A list may have two of the values.
    return Plan(indexes=tuple(indexes), is_exact=len(indexes) == 1)


def _bounds(wanted: Comparison) -> Plan:
    instants = [instant_in(v) if isinstance(v, str) else v for v in wanted.values]
    known = [round(v.timestamp() * 1000) for v in instants if isinstance(v, datetime)]
    if len(known) != len(wanted.values) or wanted.is_negated or not known:
        return Plan()
    # A row's instants are whole milliseconds, a filter's are not: one more on either side.
    first, last = min(known) - 1, max(known) + 1
    if wanted.operator in ("<", "<="):
        return Plan(newest_ms=last)
    if wanted.operator in (">", ">="):
        return Plan(oldest_ms=first)
    if wanted.operator in ("=", "IN", "BETWEEN"):
        return Plan(oldest_ms=first, newest_ms=last)
    return Plan()
