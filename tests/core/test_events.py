"""An event's bytes give the event back, and one event has one form."""

import json
from dataclasses import MISSING, fields
from typing import Any

import pytest

from orchestrator.core.events import COMMANDS, INPUTS, NOTES, Event, decode, encode
from orchestrator.core.failure import Failure

KINDS = [*INPUTS, *COMMANDS, *NOTES]
VALUES: dict[str, Any] = {
    "int": 7,
    "str": "tëxt",
    "Json": {"a": [1, None, "ä"]},
    "list[Json]": [1, {"b": 2}],
    "list[int]": [3, 2],
    "list[str]": ["a", "ä"],
    "list[dict[str, Json]]": [{"run": 1}],
    "list[list[int]]": [[3, 4], [5, 5]],
    "dict[str, Json]": {"k": [True]},
    "Failure": Failure(type="Boom", message="it broke", cause=Failure(type="Why", message="")),
    "bool": False,
    "str | None": "name",
    "int | None": 4,
}


def full(kind: type[Event]) -> Event:
    return kind(**{part.name: VALUES[_name(part.type)] for part in fields(kind)})


def bare(kind: type[Event]) -> Event:
    needed = [
        part for part in fields(kind) if part.default is MISSING and part.default_factory is MISSING
    ]
    return kind(**{part.name: VALUES[_name(part.type)] for part in needed})


def _name(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    text = str(kind)
    if "NoneType" in text or "list[ForwardRef" in text or text.startswith("typing.Union"):
        return "Json"
    if "Union" in text or "ForwardRef" in text:
        return "list[Json]" if text.startswith("list") else "dict[str, Json]"
    return kind.__name__ if isinstance(kind, type) and "[" not in text else text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_event_survives_its_bytes(kind: type[Event]) -> None:
    for event in (full(kind), bare(kind)):
        data = encode(event)
        again = decode(json.loads(data))
        assert type(again) is kind
        for part in fields(kind):  # also those that replay does not compare
            assert getattr(again, part.name) == getattr(event, part.name)
        assert encode(again) == data


def test_what_is_at_its_default_is_left_out() -> None:
    for kind in KINDS:
        data = json.loads(encode(bare(kind)))
        needed = {
            part.name
            for part in fields(kind)
            if part.default is MISSING and part.default_factory is MISSING
        }
        assert data.keys() == needed | {"type"}


def test_families_are_disjoint() -> None:
    assert len(set(KINDS)) == len(KINDS)


@pytest.mark.parametrize(
    "data",
    [
        {"type": "FromTheFuture", "at_ms": 1},
        {"at_ms": 1},
        {"type": "TimerFired", "at_ms": 1},
        {"type": "TimerFired", "at_ms": 1, "timer": 1, "colour": "red"},
        {"type": "StepFailed", "at_ms": 1, "step": 1, "attempt": 1, "kind": "lost"},
    ],
)
def test_what_does_not_fit_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="event"):
        decode(data)


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(INPUTS[1](at_ms=1, step=1, attempt=1, result=float("nan")))  # type: ignore[call-arg]
