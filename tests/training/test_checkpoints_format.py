"""Promise: a state is the same bytes everywhere, every bit comes back, and nothing else is read."""

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orchestrator.core.values import Json
from orchestrator.training import floats, layout, tensors
from orchestrator.training.errors import BadCheckpoint, TrainerMisbehaved
from orchestrator.training.state import State
from tests.training.checkpoints_kit import beginning

NAMES = st.text(min_size=0, max_size=8).filter(lambda name: name != "__metadata__")
ARRAYS = hnp.arrays(
    dtype=st.sampled_from(list(tensors.DTYPES.values())),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
).map(lambda array: np.asfortranarray(array) if array.size % 2 else array)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["~f", "~", "~~f", "a", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(first: Any, second: Any) -> bool:
    """Return whether two JSON values have the same types and bits."""
    if isinstance(first, float) and isinstance(second, float):
        both_nan = math.isnan(first) and math.isnan(second)
        return both_nan or struct.pack("d", first) == struct.pack("d", second)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    return type(first) is type(second) and bool(first == second)


def file_of(header: Any, data: bytes = b"") -> bytes:
    """Return a file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@given(JSON)
def test_json_comes_back_with_every_bit(value: Json) -> None:
    data = floats.encode(value)
    assert same(floats.decode(data), value)
    assert floats.encode(floats.decode(data)) == data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a":1,"a":2}', "stands twice"),
        (b"1.5", "bare float"),
        (b"NaN", "bare float"),
        (b'{"b":1, "a":2}', "order and spelling"),
        (b'{"~f":"0x1p9999"}', "as large"),
        (b'{"~f":"1.5"}', "order and spelling"),
        (b'{"~f":1}', "as text"),
        (b'{"~g":1}', "unknown mark"),
        (b"[" * 100_000, "deeply"),
        (b"{", "Expecting"),
        (b"\xff", "decode"),
    ],
)
def test_json_that_is_not_written_so_is_not_read(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        floats.decode(data)


@given(st.dictionaries(NAMES, ARRAYS, max_size=5))
def test_tensors_come_back_with_type_shape_order_and_bits(given: dict[str, Any]) -> None:
    data = bytes(tensors.encode(given))
    found = tensors.decode(data)
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert tensors.is_fortran(found[name]) == tensors.is_fortran(array)
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable
    reordered = dict(reversed(given.items()))
    assert bytes(tensors.encode(reordered)) == bytes(tensors.encode(found)) == data


@settings(max_examples=50)
@given(st.dictionaries(st.text("abcü.", min_size=1, max_size=8), ARRAYS, max_size=5))
def test_the_official_library_reads_what_is_written(given: dict[str, Any]) -> None:
    library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    found = library.load(bytes(tensors.encode(given)))
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_what_the_official_library_writes_is_read() -> None:
    library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    given = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3, np.int64)}
    found = tensors.decode(library.save(given))
    assert all((found[name] == given[name]).all() for name in given)


@given(st.data())
def test_damaged_tensors_are_refused_or_are_tensors(data: st.DataObject) -> None:
    good = bytearray(tensors.encode(beginning().groups["model"]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    for damaged in (bytes(good), bytes(good[:cut])):
        try:
            found = tensors.decode(damaged)
        except ValueError:
            continue
        assert all(isinstance(array, np.ndarray) for array in found.values())


U8 = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no safetensors"),
        (b"\x05" + bytes(7) + b"{}", "a header of 5 bytes"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "a header of"),
        (file_of([]), "no object"),
        (file_of(b'{"a":1,"a":1}'), "stands twice"),
        (file_of({"a": U8}, b"x"), "are not U8"),
        (file_of({"a": U8}, b"xyz"), "after the last"),
        (file_of({"a": U8, "b": U8}, b"xy"), "no tensor, or to two"),
        (file_of({"a": {**U8, "data_offsets": [1, 3]}}, b"xyz"), "byte 0"),
        (file_of({"a": {**U8, "shape": [3]}}, b"xy"), "are not U8"),
        (file_of({"a": {**U8, "shape": [-2]}}, b"xy"), "malformed"),
        (file_of({"a": {**U8, "shape": [True, 2]}}, b"xy"), "malformed"),
        (file_of({"a": {**U8, "shape": [0, 1 << 70], "data_offsets": [0, 0]}}), "Maximum allowed"),
        (file_of({"a": {**U8, "data_offsets": [2, 0]}}, b"xy"), "are not U8"),
        (file_of({"a": {**U8, "dtype": "BF16", "shape": [1]}}, b"xy"), "the type 'BF16'"),
        (file_of({"a": {**U8, "more": 1}}, b"xy"), "malformed"),
        (file_of({"__metadata__": {"fortran_order": '["a"]'}}), "not there"),
        (file_of({"__metadata__": {"fortran_order": "1"}}), "list of names"),
        (file_of({"__metadata__": {"x": 1}}), "text to text"),
        (file_of(b"[" * 100_000), "deeply"),
    ],
)
def test_tensors_that_the_format_does_not_allow_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tensors.decode(data)


def test_one_state_has_one_digest_for_ever() -> None:
    state = State(
        groups={
            "model": {
                "w": np.arange(6, dtype=np.float32).reshape(2, 3),
                "wf": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
                "on": np.array([True, False, True]),
            },
            "optimizer": {},
        },
        meta={"updates": 3, "loss": float("nan"), "~f": [0.1, None]},
    )
    # Another digest means: no checkpoint that was ever saved can be continued.
    assert state.digest() == GOLDEN
    assert state.copy().digest() == GOLDEN


GOLDEN = "ccd64c034d3a06cd83f1cef9f0ffee4a0c4b1b3f64eb19331175732f74ede0c3"


def test_a_digest_covers_order_type_shape_names_and_json() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    given: list[tuple[Any, dict[str, Json]]] = [
        (array, {}),
        (np.asfortranarray(array), {}),
        (array.astype(np.float64), {}),
        (array.reshape(3, 2), {}),
        (array, {"n": 1}),
        (array, {"n": 1.0}),
        (array, {"n": -0.0}),
        (array, {"n": 0.0}),
    ]
    others = [State(groups={"model": {"w": found}}, meta=meta) for found, meta in given]
    others.append(State(groups={"model": {"v": array}}))
    others.append(State(groups={"other": {"w": array}}))
    others.append(State(groups={"model": {"w": array}, "empty": {}}))
    assert len({state.digest() for state in others}) == len(others)


def test_a_copy_shares_nothing() -> None:
    state = beginning()
    copy = state.copy()
    assert copy.digest() == state.digest()
    state.groups["model"]["w"][0, 0] += 1
    assert copy.digest() != state.digest()


def test_a_view_that_is_in_no_order_is_saved_in_c_order() -> None:
    view = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    found = State(groups={"model": {"w": view}}).copy().groups["model"]["w"]
    assert found.flags.c_contiguous
    assert (found == view).all()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State(groups={"m": {"w": np.array(["text"])}}), "type <U4"),
        (State(groups={"m": {"w": np.array([object()])}}), "type object"),
        (State(groups={"m": {"w": np.zeros(1, ">f4")}}), "type >f4"),
        (State(groups={"m": {"__metadata__": np.zeros(1)}}), "no tensor can be named"),
        (State(groups={"meta": {}}), "no group can be named"),
        (State(groups={}, meta={"x": object()}), "not JSON serializable"),  # type: ignore[dict-item]
        (State(groups={"m": {"x" * (1 << 20): np.zeros(1)}}), "more groups"),
    ],
)
def test_a_state_that_cannot_be_saved_is_refused_in_words(state: State, said: str) -> None:
    with pytest.raises(TrainerMisbehaved, match=said):
        state.digest()


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_every_id_is_a_part_of_a_key_of_its_own(first: str, second: str) -> None:
    part = layout.part(first)
    assert part.isascii()
    assert 0 < len(part) <= 160
    assert "/" not in part
    assert not part.startswith(".")
    assert (part == layout.part(second)) == (first == second)


def test_keys_are_stored_data_and_stay() -> None:
    long = "long" * 60
    work = "0123456789abcdef" * 4
    assert layout.manifest("run/1 ü", "main@2", 45, work) == (
        "run%2F1%20%C3%BC/ckpt/main@2/000000000045-0123456789abcdef.json"
    )
    assert layout.blob("r", work) == f"r/blobs/sha256/{work}"
    assert layout.part(long).startswith("longlong")
    assert layout.part(layout.part(long)) != layout.part(long)
    key = layout.manifest("r", "main", 3, work)
    assert layout.step_of(key) == 3
    assert layout.live(layout.archived(key)) == key
    assert layout.live(key) == key
    with pytest.raises(BadCheckpoint, match="not the key of a manifest"):
        layout.step_of("r/ckpt/main/latest")
