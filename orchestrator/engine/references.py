"""Large values leave events for the blob store, and come back before code sees them.

What the code issued is compared with history by digests (`core.blobs` B1), so that a reference in
the place of a value changes nothing on replay.
"""

from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.core import events as e
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.errors import ActivationFailed, PayloadTooLarge
from orchestrator.core.limits import EVENT_BYTES_MAX, INLINE_BYTES_MAX, PAYLOAD_BYTES_MAX
from orchestrator.core.values import Json, canonical
from orchestrator.engine.ports import BlobStore

AnyEvent = TypeVar("AnyEvent", bound=e.Event)


def as_recorded(command: e.Command, blobs: BlobStore) -> tuple[e.Command, bytes]:
    """Return the command with its large values by reference, and its bytes.

    Raises:
        ActivationFailed: A value beyond what even the blob store takes.
        StoreUnavailable: A blob could not be written.
    """
    if isinstance(command, e.RunFailed | e.UpdateFailed):
        command = replace(command, failure=command.failure.bounded())
    data = e.encode(command)
    if len(data) <= INLINE_BYTES_MAX:
        return command, data
    try:
        _check_letter(command)
        if isinstance(command, e.StepScheduled | e.ChildScheduled | e.RunContinuedAsNew):
            args, kwargs = _by_reference(command.args, blobs), _by_reference(command.kwargs, blobs)
            command = replace(command, args=args, kwargs=kwargs)
        elif isinstance(command, e.RunCompleted | e.UpdateCompleted):
            command = replace(command, result=_by_reference(command.result, blobs))
        data = e.encode(command)
        if len(data) > EVENT_BYTES_MAX:
            raise PayloadTooLarge(type(command).__name__, len(data), EVENT_BYTES_MAX)
    except PayloadTooLarge as error:
        raise ActivationFailed("limit", str(error)) from error
    return command, data


def _check_letter(command: e.Command) -> None:
    """Refuse what is beyond the bound of what another run takes in."""
    subject = ""
    value: Json = None
    if isinstance(command, e.ChildScheduled):
        subject, value = f"input of child {command.id}", [command.args, command.kwargs]
    elif isinstance(command, e.RunContinuedAsNew):
        subject, value = "input of the next run", [command.args, command.kwargs]
    elif isinstance(command, e.ExternalSignalSent):
        subject, value = f"signal {command.signal!r}", command.payload
    size = len(canonical(value))
    if size > PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(subject, size, PAYLOAD_BYTES_MAX)


def _by_reference(value: Json, blobs: BlobStore) -> Json:
    return value if len(canonical(value)) <= INLINE_BYTES_MAX else blobs.put(value).as_json()


def with_values(event: AnyEvent, blobs: BlobStore) -> AnyEvent:
    """Return the event as code is to see it: values in the place of references.

    Raises:
        StoreUnavailable: A blob is missing, or does not match its digest.
    """
    if isinstance(event, e.RunStarted):
        ref = find_blob_ref(event.last_result)
        return event if ref is None else replace(event, last_result=blobs.get(ref))
    if isinstance(event, e.StepCompleted | e.ChildCompleted | e.ExternalCompleted):
        ref = find_blob_ref(event.result)
        if ref is not None:
            return replace(event, result=blobs.get(ref))
    return event


def own(value: Json, blobs: BlobStore) -> Json:
    """Return `value` for another run to keep: of what is sealed, a reference to a copy of its own.

    Shredding the run that made it would else take it from the run that has it meanwhile
    (`sealing.blobs` SB1).

    Raises:
        StoreUnavailable: The blob is missing, or could not be written.
    """
    ref = find_blob_ref(value)
    return value if ref is None or not ref.at else blobs.put(blobs.get(ref)).as_json()


#: Where events that are copied may have references, by their types.
_REFERRING: dict[type[e.Event], tuple[str, ...]] = {
    e.RunStarted: ("last_result",),
    e.StepScheduled: ("args", "kwargs"),
    e.ChildScheduled: ("args", "kwargs"),
    e.StepCompleted: ("result",),
    e.ChildCompleted: ("result",),
    e.ExternalCompleted: ("result",),
    e.UpdateCompleted: ("result",),
}


def with_own_values(event: AnyEvent, blobs: BlobStore) -> AnyEvent:
    """Return `event` for the history of another run; see `own`.

    Raises:
        StoreUnavailable: See `own`.
    """
    found: Any = {
        name: kept
        for name in _REFERRING.get(type(event), ())
        if (kept := own(value := getattr(event, name), blobs)) is not value
    }
    return replace(event, **found) if found else event
