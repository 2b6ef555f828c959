"""Canonical JSON, digests and the hash chain over a history.

V1  One value has one encoding: sorted keys, no blanks, UTF-8, no NaN.
V2  The chain's head after event n is ``sha256(head after n-1 ‖ bytes of event n)``, in hex; the
    head before the first event names the run, so that histories cannot be exchanged.
V3  What others wrote is read by `loads_foreign`: what passes it has an encoding, so that it cannot
    fail later, in whoever has to carry it on.
"""

import hashlib
import json
import math
import re
from typing import NoReturn, TypeAlias, Union

from orchestrator.core.limits import JSON_DEPTH_MAX

#: Any JSON value.
Json: TypeAlias = Union[None, bool, int, float, str, list["Json"], dict[str, "Json"]]

_encoder = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical(value: Json) -> bytes:
    """Return the one encoding of `value` (V1).

    Raises:
        TypeError: A part that JSON does not have.
        ValueError: NaN or infinity, or a circular structure.
    """
    return _encoder.encode(value).encode()


def loads(data: bytes | str) -> Json:
    """Return the value that `data` encodes.

    Raises:
        ValueError: Not JSON; the text names the place.
    """
    value: Json = json.loads(data)
    return value


def loads_foreign(data: bytes | str) -> Json:
    """Return the value that somebody else's `data` encodes (V3).

    Raises:
        ValueError: Not JSON by RFC 8259, not UTF-8, a number that no float holds, text that is not
            Unicode, or deeper than ``JSON_DEPTH_MAX``.  The text never quotes the value.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        value: Json = _foreign.decode(text)
        if _ESCAPED_SURROGATE.search(text):
            canonical(value)
    except UnicodeError:
        raise ValueError("text that is not valid Unicode") from None
    except RecursionError:
        raise _too_deep() from None
    check_depth(value, text.count("[") + text.count("{"))
    return value


def check_depth(value: Json, brackets: int) -> None:
    """Refuse what is nested too deep; `brackets` opening ones are in its encoding.

    Raises:
        ValueError: Deeper than ``JSON_DEPTH_MAX``.
    """
    if brackets <= JSON_DEPTH_MAX:
        return
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(JSON_DEPTH_MAX):
        level = [
            part
            for whole in level
            for part in (whole.values() if isinstance(whole, dict) else whole)
            if isinstance(part, list | dict)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"lists and objects lie inside each other deeper than {JSON_DEPTH_MAX}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is larger than any float")
    return number


_foreign = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
#: Half of a pair may stand alone, which no encoding has; whole pairs are looked at too.
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def digest(value: Json) -> str:
    """Return the SHA-256 of the canonical encoding, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def first_head(workflow_id: str, run: int) -> str:
    """Return the chain's head before the first event (V2)."""
    return hashlib.sha256(f"orc:1:{workflow_id}:{run}".encode()).hexdigest()


def next_head(head: str, event: bytes) -> str:
    """Return the chain's head once `event` follows `head` (V2)."""
    return hashlib.sha256(bytes.fromhex(head) + event).hexdigest()
