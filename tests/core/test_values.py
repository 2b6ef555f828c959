"""What others wrote either has an encoding of ours, or is refused where it is read (V3)."""

import pytest

from orchestrator.core.errors import InvalidPayload
from orchestrator.core.failure import Failure, failure_of
from orchestrator.core.limits import (
    FAILURE_CAUSES_MAX,
    FAILURE_MESSAGE_CHARS_MAX,
    JSON_DEPTH_MAX,
    NAME_CHARS_MAX,
    REASON_CHARS_MAX,
)
from orchestrator.core.names import checked_name, checked_reason, reason_in
from orchestrator.core.values import canonical, loads_foreign


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "data",
    [
        "NaN",
        "[1, -Infinity]",
        "1e999",
        '{"a": -1e400}',
        r'"\ud800"',
        r'{"\udfff": 1}',
        nested(JSON_DEPTH_MAX + 1),
        nested(100_000),
        "[" * 100_000,
        '{"a":' * 201 + "1" + "}" * 201,
        "9" * 5_000,
        b"\xff",
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf1",
        "{broken",
        "",
    ],
    ids=lambda data: str(data[:20]),
)
def test_what_has_no_encoding_is_refused(data: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        loads_foreign(data)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "data",
    [
        nested(JSON_DEPTH_MAX),
        "[" + "[]," * 1_000 + "[]]",
        r'"\ud83d\ude00"',
        '"\\\\ud800"',
        '{"a": [1, 2.5, null, true, "[[[["]}',
        "1e308",
    ],
    ids=lambda data: str(data[:20]),
)
def test_what_passes_has_an_encoding(data: str) -> None:
    value = loads_foreign(data)
    assert loads_foreign(canonical(value)) == value
    assert loads_foreign(data.encode()) == value


# --- names and reasons ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "x" * (NAME_CHARS_MAX + 1), 7, None])
def test_names_that_are_none_are_refused_in_one_sentence(name: object) -> None:
    with pytest.raises(InvalidPayload, match=r"^name of a signal does not validate: "):
        checked_name("name of a signal", name)  # type: ignore[arg-type]


def test_a_reason_is_refused_by_a_client_and_cut_by_an_orchestrator() -> None:
    long = "x" * (REASON_CHARS_MAX + 1)
    with pytest.raises(InvalidPayload, match=f"at most {REASON_CHARS_MAX} fit"):
        checked_reason("reason", long)
    assert reason_in(long) == checked_reason("reason", long[:-1])
    assert reason_in(None) == ""


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        {"message": ["no", "text"]},
        {"type": 7},
        {"traceback": None},
        {"next_retry_delay_ms": "soon"},
        {"next_retry_delay_ms": True},
        {"cause": "the rain"},
        {"cause": {"type": "T", "message": 1}},
        {"unknown": 1},
    ],
)
def test_a_failure_with_parts_that_do_not_fit_is_a_type_error(part: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Failure.from_json({"type": "T", "message": "m", **part})  # type: ignore[dict-item]


def test_a_failure_that_somebody_wrote_is_cut_to_the_bounds() -> None:
    found = Failure(type="T", message="m")
    for _ in range(3 * FAILURE_CAUSES_MAX):
        found = Failure(type="t" * 5_000, message="m" * 900_000, cause=found)
    bounded = found.bounded()
    assert len(bounded.type) == NAME_CHARS_MAX
    assert len(bounded.message) == FAILURE_MESSAGE_CHARS_MAX
    depth = 0
    while bounded.cause:
        bounded, depth = bounded.cause, depth + 1
    assert depth == FAILURE_CAUSES_MAX


def test_the_type_of_an_exception_is_bounded() -> None:
    error = RuntimeError("no")
    error.type = "t" * 900_000  # type: ignore[attr-defined]
    assert len(failure_of(error).type) == NAME_CHARS_MAX
