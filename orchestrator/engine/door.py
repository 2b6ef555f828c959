"""The door for people: signals written with redis-cli, passed on to their runs' inboxes.

A line stays in the door until it is in an inbox or in the rejected list.  Passed on twice, after a
crash in between, it is one signal all the same: its id is the line's.
"""

from collections.abc import Mapping
from typing import Protocol

from orchestrator.core.limits import PAYLOAD_BYTES_MAX
from orchestrator.core.values import Json, loads
from orchestrator.store.ports import ClientStore, DoorEntry, Kind, OwnerStore, PostedAnswer

#: Lines per visit.
_LINES_MAX = 100


class DoorStore(OwnerStore, ClientStore, Protocol):
    """The store as the door needs it."""


def pass_on(store: DoorStore) -> int:
    """Pass on what lies in the door; return the number of lines.

    Raises:
        StoreUnavailable: No answer; the lines stay, or were passed on already.
    """
    entries = store.read_door(count=_LINES_MAX)
    for entry in entries:
        reason = _pass_one(store, entry)
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
        return loads(text), ""
    except ValueError as error:
        return None, f"the payload is not JSON: {error}"
