"""Payloads kept out of Flower: what its events say of arguments, results and failures.

Flower's own hook, ``format_task``, changes two of its pages and neither the API nor the search, and
it loses a task's children.  So events are stripped where Flower takes them in.
"""

import re
from collections.abc import Mapping
from typing import Any

import flower.events

HIDDEN = "(hidden)"
#: The type of an exception, as its ``repr`` begins.
_EXCEPTION_TYPE = re.compile(r"[A-Za-z_][\w.]*")


class WithoutPayloads(flower.events.EventsState):
    """See `flower.events.EventsState`."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Take an event in, without its payloads."""
        super().event(without_payloads(event))


def hide_payloads() -> None:
    """Have the Flower that starts next in this process store no payloads; safe to repeat."""
    flower.events.EventsState = WithoutPayloads


def hides_payloads() -> bool:
    """Return whether `hide_payloads` was called."""
    return bool(flower.events.EventsState is WithoutPayloads)


def without_payloads(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return `event` with neither arguments nor result; of a failure, the type alone is left."""
    stripped = dict(event)
    for name in ("args", "kwargs", "result"):
        if name in stripped:
            stripped[name] = HIDDEN
    if "exception" in stripped:
        found = _EXCEPTION_TYPE.match(str(stripped["exception"]))
        stripped["exception"] = found[0] if found else HIDDEN
    if "traceback" in stripped:
        stripped["traceback"] = HIDDEN
    return stripped
