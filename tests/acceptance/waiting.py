"""Waiting for what other processes do: by condition, with a deadline, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Longest wait for anything; a test that needs it has failed.
WAIT_S = 30.0
_LOOK_S = 0.02


def eventually(look: Callable[[], T], what: str, *, seconds: float = WAIT_S) -> T:
    """Return the first true answer of `look`.

    Raises:
        AssertionError: None came; with `what` was waited for, and the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; last seen: {answer!r}")
        time.sleep(_LOOK_S)
