"""Promise: what goes into a history is JSON that says the same everywhere.

What comes out fits its annotation, or is refused in words that show no value.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from orchestrator.core.errors import InvalidPayload, PayloadTooLarge
from orchestrator.payloads import InputCodec, PydanticCodec, encode_payload

CODEC = PydanticCodec()


class Color(Enum):
    RED = "red"


class Line(BaseModel):
    sku: str
    count: int = 1


class Order(BaseModel):
    id: str
    due: date | None = None
    lines: list[Line] = Field(default_factory=list)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    due: date


class Aliased(BaseModel):
    total: int = Field(alias="grandTotal")


class Guarded(BaseModel):
    password: str

    @field_validator("password")
    @classmethod
    def refuse(cls, value: str) -> str:
        raise ValueError("too short")


@dataclass
class Point:
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, None),
        (True, bool),
        (2**70, int),
        ("é\u2028", str),
        (Order(id="o", due=date(2026, 1, 2), lines=[Line(sku="a")]), Order),
        (Strict(due=date(2026, 1, 2)), Strict),
        (Aliased(grandTotal=3), Aliased),
        (Point(1, 2), Point),
        ([Point(1, 2)], list[Point]),
        ({"a": Color.RED}, dict[str, Color]),
        (datetime(2026, 1, 2, tzinfo=UTC), datetime),
        (Decimal("1.10"), Decimal),
        (UUID(int=5), UUID),
        ((1, "a"), tuple[int, str]),
    ],
    ids=repr,
)
def test_value_survives_the_way_there_and_back(value: object, kind: Any) -> None:
    data = CODEC.encode(value)
    assert CODEC.decode(kind, data) == value


def test_without_a_kind_json_stays_json() -> None:
    assert CODEC.decode(Any, {"id": 1}) == {"id": 1}
    assert CODEC.decode(None, [1]) == [1]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        Order.model_construct(id=math.nan),
        object(),
        {"f": lambda: 1},
        "\ud800",
        {1, 2},
        {"nested": [frozenset("ab")]},
        Point({1}, 2),  # type: ignore[arg-type]
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_without_one_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no JSON form"):
        CODEC.encode(value)


def test_structure_without_end_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TypeError, match="has no JSON form"):
        CODEC.encode(loop)


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (Order, {"id": "o", "lines": [{"sku": 77_123}]}, "lines.0.sku"),
        (Order, {"id": "o", "due": "77123-secret"}, "due"),
        (Guarded, {"password": "77123"}, "password: Value error, too short"),
        (Literal["a", "b"], "77123", "Input should be 'a' or 'b'"),
    ],
)
def test_refusal_names_place_and_rule_but_never_the_value(
    kind: Any, value: Any, place: str
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        CODEC.decode(kind, value)
    assert place in str(caught.value)
    assert "77123" not in str(caught.value)


def test_kind_without_a_schema_is_refused_with_a_way_out() -> None:
    class Plain:
        pass

    with pytest.raises(ValueError, match="annotate with a JSON type"):
        CODEC.decode(Plain, {})


async def order(
    order: Order, /, note: str = "", *more: Line, urgent: bool = False, **extra: date
) -> None:
    """A workflow with parameters of every kind."""


def test_input_is_normalized_and_comes_back_typed() -> None:
    codec = InputCodec(order, CODEC)
    args, kwargs = codec.encode(
        [{"id": "o"}, "n", Line(sku="a")], {"urgent": True, "day": date(2026, 1, 2)}
    )
    assert args == [{"id": "o", "due": None, "lines": []}, "n", {"sku": "a", "count": 1}]
    assert kwargs == {"urgent": True, "day": "2026-01-02"}
    assert codec.decode(args, kwargs) == (
        (Order(id="o"), "n", Line(sku="a")),
        {"urgent": True, "day": date(2026, 1, 2)},
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        ([], {}, "missing a required"),
        ([{"id": "o"}], {"urgent": "perhaps"}, "argument urgent"),
        ([{"name": "o"}], {}, "argument 1 does not validate: id: Field required"),
        ([{"id": "o"}, {1}], {}, "no JSON form"),
    ],
)
def test_input_that_does_not_fit_is_refused(
    args: list[Any], kwargs: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidPayload) as caught:
        InputCodec(order, CODEC).encode(args, kwargs)
    assert reason in str(caught.value)


def test_recorded_input_that_no_longer_fits_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"too many positional|missing"):
        InputCodec(order, CODEC).decode([], {})


def test_input_beyond_its_bound_is_refused_with_both_numbers() -> None:
    with pytest.raises(PayloadTooLarge, match="at most 262144"):
        InputCodec(order, CODEC).encode([{"id": "x" * 300_000}], {})
    with pytest.raises(PayloadTooLarge):
        encode_payload("signal approve", None, "x" * 300_000, CODEC)


def test_annotation_that_cannot_be_resolved_is_told() -> None:
    async def broken(order: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    with pytest.raises(InvalidPayload, match="annotation is unknown"):
        InputCodec(broken, CODEC)
