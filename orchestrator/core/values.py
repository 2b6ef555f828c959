"""Canonical JSON, digests and the hash chain over a history.

V1  One value has one encoding: sorted keys, no blanks, UTF-8, no NaN.
V2  The chain's head after event n is ``sha256(head after n-1 ‖ bytes of event n)``, in hex; the
    head before the first event names the run, so that histories cannot be exchanged.
"""

import hashlib
import json
from typing import TypeAlias, Union

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


def digest(value: Json) -> str:
    """Return the SHA-256 of the canonical encoding, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def first_head(workflow_id: str, run: int) -> str:
    """Return the chain's head before the first event (V2)."""
    return hashlib.sha256(f"orc:1:{workflow_id}:{run}".encode()).hexdigest()


def next_head(head: str, event: bytes) -> str:
    """Return the chain's head once `event` follows `head` (V2)."""
    return hashlib.sha256(bytes.fromhex(head) + event).hexdigest()
