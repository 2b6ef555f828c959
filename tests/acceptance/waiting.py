"""Waiting for what other processes do: by condition, with a deadline, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: How often a bar in seconds may be missed before it counts: see `within`.
_TRIES = 3

#: Longest wait for anything; a test that needs it has failed.
WAIT_S = 60.0
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


def within(bar: float, measure: Callable[[int], float]) -> float:
    """Return the first measure below `bar`, in the same unit; `measure` is given its try's number.

    A machine that others use too may stand still for seconds, and then one figure says nothing of
    the product.  What is too slow by itself is so each time.

    Raises:
        AssertionError: None was, in three tries; with all of them.
    """
    measured: list[float] = []
    for number in range(_TRIES):
        measured.append(measure(number))
        if measured[-1] < bar:
            return measured[-1]
    raise AssertionError(f"never below {bar:g}: {', '.join(f'{each:.2f}' for each in measured)}")
