"""Tensors as canonical safetensors, and back; no format that can run code.

TE1  One set of tensors has one sequence of bytes: wider types first, then by name; a header of
     sorted names without blanks, padded to eight bytes.  Every tensor lies aligned to its type.
TE2  The official library reads what is written here.  Values stand in C order; which tensors were
     in Fortran order stands in the header's metadata, since another order rounds otherwise.
TE3  Only what the format allows is read: bounds, sizes and types agree, no byte is left over or
     used twice, no name stands twice, and the header is at most `HEADER_BYTES_MAX` long.

Source: https://huggingface.co/docs/safetensors, section "Format".
"""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
#: Bytes that nobody changes any more.
Data: TypeAlias = bytes | memoryview

#: The format allows 100 MB; a header of ours is about 100 bytes per tensor.
HEADER_BYTES_MAX = 1 << 20
#: Types by their name in the format.  What numpy lacks (bfloat16) travels as bits of another.
DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_METADATA = "__metadata__"
_FORTRAN = "fortran_order"
_PREFIX_BYTES = 8
_ALIGNED_TO = 8


def is_fortran(array: Array) -> bool:
    """Return whether an array lies in Fortran order and in no other."""
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)


def encode(tensors: Mapping[str, Array]) -> memoryview:
    """Return the one encoding of `tensors` (TE1): a copy, whatever happens to them afterwards.

    Raises:
        ValueError: A type that cannot be saved, a reserved name, or too long a header.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, Any] = {}
    end = 0
    for name in names:
        array = tensors[name]
        if array.dtype not in _NAMES:
            raise ValueError(f"tensor {name!r} has the type {array.dtype}; use {_known()}")
        if not isinstance(name, str) or name == _METADATA:
            raise ValueError(f"no tensor can be named {name!r}")
        start, end = end, end + array.nbytes
        shape, dtype = list(array.shape), _NAMES[array.dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    fortran = sorted(name for name in names if is_fortran(tensors[name]))
    if fortran:
        header[_METADATA] = {_FORTRAN: json.dumps(fortran, separators=(",", ":"))}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED_TO)
    if len(text) > HEADER_BYTES_MAX:
        raise ValueError(
            f"{len(tensors)} tensors need a header of {len(text)} bytes, at most "
            f"{HEADER_BYTES_MAX} fit; use more groups, or shorter names"
        )
    first = _PREFIX_BYTES + len(text)
    whole = np.empty(first + end, np.uint8)
    whole[:_PREFIX_BYTES] = np.frombuffer(len(text).to_bytes(_PREFIX_BYTES, "little"), np.uint8)
    whole[_PREFIX_BYTES:first] = np.frombuffer(text, np.uint8)
    for name in names:
        array = tensors[name]
        start, end = (first + offset for offset in header[name]["data_offsets"])
        # numpy lets other threads run while it copies; joining bytes would hold them all up.
        whole[start:end].view(array.dtype).reshape(array.shape)[...] = array
    return whole.data.toreadonly()


def decode(data: Data) -> dict[str, Array]:
    """Return the tensors that `data` holds, as writable copies in the order they were in.

    Raises:
        ValueError: Not such bytes (TE3); the text says what was found.
    """
    header, first = _header(data)
    fortran = _fortran(header.pop(_METADATA, {}))
    found: dict[str, Array] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        dtype, shape, start, end = _entry(name, entry, len(data) - first)
        spans.append((start, end))
        values = np.frombuffer(data, np.uint8, end - start, first + start).view(dtype)
        order = "F" if name in fortran else "C"
        found[name] = np.array(values.reshape(shape), order=order)  # type: ignore[call-overload]
    if not fortran <= found.keys():
        raise ValueError(f"Fortran order for a tensor that is not there: {sorted(fortran)}")
    at = 0
    for start, end in sorted(spans):
        if start != at:
            raise ValueError(f"byte {at} of the data belongs to no tensor, or to two")
        at = end
    if first + at != len(data):
        raise ValueError(f"{len(data) - first - at} bytes after the last tensor")
    return found


def _header(data: Data) -> tuple[dict[str, Any], int]:
    """Return the header and where the data begins."""
    if len(data) < _PREFIX_BYTES:
        raise ValueError(f"{len(data)} bytes are no safetensors")
    length = int.from_bytes(data[:_PREFIX_BYTES], "little")
    first = _PREFIX_BYTES + length
    if length > HEADER_BYTES_MAX or first > len(data):
        raise ValueError(f"a header of {length} bytes in {len(data)}, at most {HEADER_BYTES_MAX}")
    try:
        header = json.loads(bytes(data[_PREFIX_BYTES:first]), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    return header, first


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in the header")
    return found


def _entry(name: str, entry: Any, data_bytes: int) -> tuple[np.dtype[Any], list[int], int, int]:
    """Return type, shape and place of one tensor."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [start, end]} if len(
            entry
        ) == 3 and all(_is_count(number) for number in (*shape, start, end)):
            pass
        case _:
            raise ValueError(f"header entry of {name[:80]!r} is malformed")
    if kind not in DTYPES:
        raise ValueError(f"tensor {name[:80]!r} has the type {kind[:20]!r}; wanted {_known()}")
    dtype = DTYPES[kind]
    if not start <= end <= data_bytes or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"tensor {name[:80]!r}: bytes {start} to {end} of {data_bytes} are not {kind} {shape}"
        )
    return dtype, shape, start, end


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _fortran(metadata: Any) -> set[str]:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("the header's metadata maps text to text")
    names = json.loads(metadata.get(_FORTRAN, "[]"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"metadata {_FORTRAN} is a list of names")
    return set(names)


def _known() -> str:
    return ", ".join(str(dtype) for dtype in DTYPES.values())
