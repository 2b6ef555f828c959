"""The door for people: signals written with redis-cli, passed on to their runs' inboxes.

A line stays in the door until it is in an inbox or in the rejected list.  Passed on twice, after a
crash in between, it is one signal all the same: its id is the line's.
"""

import logging
from collections.abc import Mapping
from typing import Protocol

from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.limits import NAME_CHARS_MAX, PAYLOAD_BYTES_MAX, WORKFLOW_ID_CHARS_MAX
from orchestrator.core.values import Json, loads_foreign
from orchestrator.store.ports import ClientStore, DoorEntry, Kind, OwnerStore, PostedAnswer

#: Lines per visit.
_LINES_MAX = 100
#: Characters of each field beside the payload.
_CHARS_MAX = {"workflow": WORKFLOW_ID_CHARS_MAX, "signal": NAME_CHARS_MAX, "id": NAME_CHARS_MAX}

logger = logging.getLogger("orchestrator.engine")


class DoorStore(OwnerStore, ClientStore, Protocol):
    """The store as the door needs it."""


def pass_on(store: DoorStore) -> int:
    """Pass on what lies in the door; return the number of lines.

    Raises:
        StoreUnavailable: No answer; the lines stay, or were passed on already.
    """
    entries = store.read_door(count=_LINES_MAX)
    for entry in entries:
        try:
            reason = _pass_one(store, entry)
        except StoreUnavailable:
            raise
        except Exception as error:
            # Anybody may write here: no line may keep the lines behind it, or end who reads it.
            logger.exception("door line %s: it could not be passed on", entry.id)
            reason = f"it could not be passed on: {type(error).__name__}"
        if reason:
            store.reject({"door": entry.id, **_without_payload(entry.fields)}, reason)
    if entries:
        store.ack_door([entry.id for entry in entries])
    return len(entries)


def _without_payload(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: value[:200] for name, value in fields.items() if name != "payload"}


def _pass_one(store: DoorStore, entry: DoorEntry) -> str:
    """Return why the line went nowhere; "" when it reached a run."""
    workflow_id, name = entry.fields.get("workflow", ""), entry.fields.get("signal", "")
    if not workflow_id or not name:
        return "fields workflow and signal are wanted, and payload with JSON where there is one"
    for field, chars_max in _CHARS_MAX.items():
        if len(entry.fields.get(field, "")) > chars_max:
            return f"field {field} has more than {chars_max} characters"
    payload, problem = _payload(entry.fields.get("payload"))
    body: dict[str, Json] = {
        "signal": name,
        "signal_id": entry.fields.get("id") or f"door:{entry.id}",
        "payload": payload,
    }
    if problem:
        # The run exists, as far as we know: its history tells that somebody tried.
        body["rejected"] = problem
    answer = store.post(workflow_id, Kind.SIGNAL, body).answer
    if answer is PostedAnswer.NOT_FOUND:
        return "no run has this id"
    if answer is PostedAnswer.CLOSED:
        return "the run has ended"
    return ""


def _payload(text: str | None) -> tuple[Json, str]:
    if text is None:
        return None, ""
    size = len(text.encode())
    if size > PAYLOAD_BYTES_MAX:
        return None, f"the payload has {size} bytes, at most {PAYLOAD_BYTES_MAX} fit"
    try:
        return loads_foreign(text), ""
    except ValueError as error:
        return None, f"the payload is not JSON: {error}"
