"""Canonical JSON in which every float keeps its bits.

F1  A float is written as ``{"~f": float.hex()}``, so that NaN, infinities, -0.0 and the difference
    between 1 and 1.0 survive any JSON library.  NaN's sign and payload do not: there is one NaN.
F2  A name that begins with ``~`` gets one more in front, so that no object is taken for a float.
F3  One value has one encoding, and only that is read back: no duplicate names, no bare floats, no
    blanks, no other order.
"""

import json

from orchestrator.core.values import Json, canonical

#: Marks a float, and escapes names that begin with it.
MARK = "~"
FLOAT = f"{MARK}f"


def encode(value: Json) -> bytes:
    """Return the one encoding of `value` (F3); tuples are written as lists.

    Raises:
        TypeError: A part that JSON does not have, or a name that is no string.
        ValueError: A string that is no Unicode, or a circular structure.
    """
    return canonical(_tagged(value))


def decode(data: bytes) -> Json:
    """Return the value that `encode` wrote.

    Raises:
        ValueError: Not what `encode` writes for any value; the text says why.
    """
    try:
        found: Json = json.loads(
            data, object_pairs_hook=_object, parse_float=_refuse, parse_constant=_refuse
        )
        again = encode(found)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if again != data:
        raise ValueError("not in the one order and spelling that is written here")
    return found


def _tagged(value: Json) -> Json:
    if isinstance(value, float):
        return {FLOAT: float.hex(value)}
    if isinstance(value, list | tuple):
        return [_tagged(part) for part in value]
    if isinstance(value, dict):
        return {_name(name): _tagged(part) for name, part in value.items()}
    return value


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"an object's names are strings, found {type(name).__name__}")
    return f"{MARK}{name}" if name.startswith(MARK) else name


def _object(pairs: list[tuple[str, Json]]) -> Json:
    if len(pairs) == 1 and pairs[0][0] == FLOAT:
        text = pairs[0][1]
        if not isinstance(text, str):
            raise ValueError(f"a float is written as text, found {type(text).__name__}")
        try:
            return float.fromhex(text)
        except OverflowError:
            raise ValueError(f"no float is as large as {text[:40]}") from None
    found: dict[str, Json] = {}
    for name, value in pairs:
        if name.startswith(MARK):
            if not name.startswith(MARK * 2):
                raise ValueError(f"unknown mark {name[:20]!r}")
            name = name.removeprefix(MARK)
        if name in found:
            raise ValueError(f"name {name[:40]!r} stands twice in one object")
        found[name] = value
    return found


def _refuse(text: str) -> Json:
    raise ValueError(f"bare float {text[:40]}; floats are written in hexadecimal")
