"""What is asked of the server, apart from who asks it: sync and asyncio clients share all of it.

A `Flow` yields batches of calls and is sent their replies; what it returns is the answer in our
own words.  `executors.py` runs flows.  Nothing here does I/O.

L1  Every change is one script, so that it happens whole or not at all, and every script may be
    sent twice.
"""

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeAlias, TypeVar

from orchestrator.core.errors import StoreUnavailable

#: What may stand in a command.
Argument: TypeAlias = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest by which the server knows it."""

    source: str
    sha1: str


@cache
def load_script(name: str) -> Script:
    """Return the script ``scripts/<name>.lua``."""
    place = resources.files("orchestrator.store") / "scripts" / f"{name}.lua"
    source = place.read_text(encoding="utf-8")
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """One command.

    Args:
        operation: The port's word for it, for errors.
        command: Name and arguments.
        script: What the command runs, if it is an ``EVALSHA``.
        blocks: It may wait for others; such a call is a batch of its own.
    """

    operation: str
    command: tuple[Argument, ...]
    script: Script | None = None
    blocks: bool = False


_T = TypeVar("_T")

#: A reply is what redis-py makes of it under protocol 2, or the error that came in its place.
Flow: TypeAlias = Generator[Sequence[Call], list[Any], _T]


def command(operation: str, *parts: Argument) -> Call:
    """Return a call of a plain command."""
    return Call(operation, parts)


def blocking(operation: str, *parts: Argument) -> Call:
    """Return a call of a command that may wait."""
    return Call(operation, parts, blocks=True)


def run_script(
    operation: str, name: str, keys: Sequence[str], arguments: Sequence[Argument]
) -> Call:
    """Return a call of a script."""
    script = load_script(name)
    return Call(operation, ("EVALSHA", script.sha1, len(keys), *keys, *arguments), script)


def ask(call: Call) -> Flow[Any]:
    """Return the reply to one call; see `ask_all`."""
    (reply,) = yield from ask_all([call])
    return reply


def ask_all(calls: Sequence[Call]) -> Flow[list[Any]]:
    """Return the replies to calls that go out in one round trip.

    Raises:
        StoreUnavailable: The server answered one of them with an error.
    """
    if not calls:
        return []
    replies = yield calls
    for call, reply in zip(calls, replies, strict=True):
        if isinstance(reply, Exception):
            raise StoreUnavailable(call.operation, f"{type(reply).__name__}: {reply}") from reply
    return replies


def text(value: bytes) -> str:
    """Return what a reply's bytes say."""
    return value.decode()


def texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    """Return a hash's fields as text."""
    return {name.decode(): value.decode() for name, value in fields.items()}
