"""A start and a message that belong together: one act, whoever carries it out, however often.

WS1  Either the next run opens with the message behind its START, or the run that is open gets the
     message.
WS2  The message carries its start.  Should the run that was open end before it takes the message,
     whoever notices makes the start after all, under a request that follows from the first one and
     from that run: so all who notice make the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class WithStart:
    """The bodies of both, as `ClientStore.start` takes them, and the request they are one of."""

    request_id: str
    start: dict[str, Json]
    message: dict[str, Json]


def with_start(
    request_id: str, start: Mapping[str, Json], message: Mapping[str, Json]
) -> WithStart:
    """Return the bodies of a start and of a message, bound together (WS2)."""
    body = {**start, "request_id": request_id}
    return WithStart(request_id=request_id, start=body, message={**message, "with_start": body})


def again_in(message: Mapping[str, Json], run: int) -> WithStart | None:
    """Return what is made of a message that `run` did not take (WS2); None without a start."""
    start = message.get("with_start")
    if not isinstance(start, dict):
        return None
    return with_start(f"{start.get('request_id')}:{run}", start, message)
