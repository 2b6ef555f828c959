"""What may be a search attribute, and what workflow code may say of its run."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core import events as e
from orchestrator.core.errors import PayloadTooLarge, UsageError
from orchestrator.core.limits import (
    SEARCH_ATTRIBUTE_BYTES_MAX,
    SEARCH_ATTRIBUTE_ITEMS_MAX,
    SEARCH_ATTRIBUTE_NAME_CHARS_MAX,
    SEARCH_ATTRIBUTES_MAX,
    SUMMARY_BYTES_MAX,
)
from orchestrator.core.options import StepOptions
from orchestrator.core.search_attributes import (
    attribute_indexes,
    decode_attributes,
    encode_attributes,
    index_of_value,
)
from orchestrator.core.values import canonical, loads

VALUES = st.one_of(
    st.text(max_size=50),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.just(UTC)),
    st.lists(st.text(max_size=9), max_size=5),
)


@given(st.dictionaries(st.from_regex(r"x[a-z_.-]{0,9}", fullmatch=True), VALUES, max_size=5))
def test_what_was_recorded_decodes_to_what_was_given(given_values: dict[str, Any]) -> None:
    data = loads(canonical(encode_attributes(given_values)))
    assert isinstance(data, dict)
    found = decode_attributes(data)
    assert found == given_values
    assert {n: type(v) for n, v in found.items()} == {n: type(v) for n, v in given_values.items()}


def test_instants_are_kept_in_utc_to_the_microsecond() -> None:
    at = datetime(2026, 11, 25, 21, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
    data = encode_attributes({"due": at})
    assert data == {"due": {"datetime": "2026-11-25T20:00:00.123456+00:00"}}
    assert decode_attributes(data) == {"due": at}


BAD: list[tuple[Any, str]] = [
    ({"a b": 1}, "search attribute 'a b': a name begins with a letter and goes on with letters"),
    ({"": 1}, "a name begins with a letter"),
    ({1: 1}, "a name begins with a letter"),
    ({"x" * (SEARCH_ATTRIBUTE_NAME_CHARS_MAX + 1): 1}, "65 characters, at most 64 fit"),
    ({"StartTime": 1}, "'StartTime': the name has a meaning in filters; choose another"),
    ({"Between": 1}, "'Between': the name has a meaning in filters"),
    ({"x": object()}, "'x': found a object; wanted is a text, a number, a truth value, an aware"),
    ({"x": {"a": 1}}, "'x': found a dict; wanted is a text"),
    ({"x": [1, 2]}, "'x': found a list; wanted is a text"),
    ({"x": datetime(2026, 1, 1)}, "'x': an instant without a zone; give it one"),  # noqa: DTZ001
    ({"x": float("nan")}, "'x': nan is no number to search by"),
    ({"x": 2**63}, "'x': the number does not fit 64 bits"),
    ({"x": "a" * SEARCH_ATTRIBUTE_BYTES_MAX}, "'x': 1026 bytes, at most 1024 fit"),
    ({"x": ["a"] * (SEARCH_ATTRIBUTE_ITEMS_MAX + 1)}, "'x': 33 texts, at most 32 fit"),
    ({"x": "\ud800"}, "'x': the text is no valid Unicode"),
    ({f"x{n}": 1 for n in range(SEARCH_ATTRIBUTES_MAX + 1)}, "65 search attributes: a run has at"),
    (["x"], "search attributes are a mapping of names to values, not list"),
]


@pytest.mark.parametrize(
    ("attributes", "reason"), BAD, ids=lambda part: part[:40] if isinstance(part, str) else ""
)
def test_what_cannot_be_an_attribute_is_refused_in_one_sentence(
    attributes: Any, reason: str
) -> None:
    with pytest.raises(UsageError) as refused:
        encode_attributes(attributes)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_equal_values_share_an_index_and_others_do_not() -> None:
    tokyo = timezone(timedelta(hours=9))
    same: Callable[..., str] = lambda value: index_of_value("x", value)  # noqa: E731
    assert same(1) == same(1.0)
    assert same(0.0) == same(-0.0)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert same(noon) == same(noon.astimezone(tokyo))
    kinds = [True, 1, "1", "True", 1.5, "1.5", noon, noon.isoformat()]
    assert len({same(value) for value in kinds}) == len(kinds)


def test_list_is_in_the_index_of_each_of_its_texts() -> None:
    assert attribute_indexes({"tags": ["b", "a", "b"], "n": 1}) == [
        *("has:n", "has:tags", "is:n=n:1", "is:tags=s:a", "is:tags=s:b")
    ]


def test_old_events_decode_and_say_nothing_of_what_they_did_not_know() -> None:
    old = b'{"at_ms":1,"seed":"00","type":"RunStarted","workflow":"order"}'
    event = e.decode(loads(old))  # type: ignore[arg-type]
    assert isinstance(event, e.RunStarted)
    assert (event.search_attributes, event.memo, event.summary, event.details) == ({}, {}, "", "")
    assert e.encode(event) == old
    timer = e.TimerStarted(at_ms=1, timer=1, duration_ms=5)
    assert b"summary" not in e.encode(timer)


def test_summary_of_a_step_is_one_bounded_text() -> None:
    assert StepOptions(summary="x" * SUMMARY_BYTES_MAX).as_json() == {}
    with pytest.raises(PayloadTooLarge, match="summary of a step: 401 bytes"):
        StepOptions(summary="x" * (SUMMARY_BYTES_MAX + 1))
    with pytest.raises(UsageError, match="summary of a step is a text, found int"):
        StepOptions(summary=5)  # type: ignore[arg-type]
