"""What a body did, as the body of an outcome; see `WorkerStore.post_outcome`.

OC1  An outcome fits: a large result becomes a blob's reference, a larger one a failure.
OC2  ``"ran": false`` stands only where it is certain that the body was never entered; ``true``
     where a failure for good must not be taken for a refusal, because the body did its work.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.definition import Codec
from orchestrator.core.errors import PayloadTooLarge, StepCancelled
from orchestrator.core.failure import Failure, failure_of
from orchestrator.core.limits import INLINE_BYTES_MAX
from orchestrator.core.values import Json, canonical
from orchestrator.engine.ports import BlobStore

#: An outcome's body, ready for the store.
Body = dict[str, Json]


def heartbeat_details(details: object, codec: Codec) -> Json:
    """Return what a heartbeat carries.

    Raises:
        TypeError: No JSON can be made of it.
        PayloadTooLarge: It is more than a heartbeat carries.
    """
    value = codec.encode(details)
    size = len(canonical(value))
    if size > INLINE_BYTES_MAX:
        raise PayloadTooLarge("details of a heartbeat", size, INLINE_BYTES_MAX)
    return value


def completed(result: object, *, codec: Codec, blobs: BlobStore) -> Body:
    """Return the outcome of a body that returned `result`.

    A result that cannot be recorded is a failure for good: the body would only return it again.

    Raises:
        StoreUnavailable: The blob store cannot take it now.
    """
    try:
        value = codec.encode(result)
    except TypeError as error:
        return _unrecordable("ResultNotJson", str(error))
    data = canonical(value)
    # A value that looks like a reference would be taken for one; as a blob's content it is not.
    if len(data) <= INLINE_BYTES_MAX and find_blob_ref(value) is None:
        return {"kind": "completed", "result": value}
    try:
        return {"kind": "completed", "result": blobs.put(value).as_json()}
    except PayloadTooLarge as error:
        return _unrecordable("ResultTooLarge", str(error))


def failed(error: BaseException) -> Body:
    """Return the outcome of a body that raised `error`."""
    if isinstance(error, Retry):
        return {"kind": "failed", "failure": _retry_failure(error).as_json()}
    failure = failure_of(error)
    if isinstance(error, Ignore | Reject):
        reason = str(error) or "the body raised it; it gives no result"
        failure = Failure(type=f"Task{type(error).__name__}", message=reason)
    try:
        canonical(failure.as_json())
    except (TypeError, ValueError, RecursionError):
        # `details` are whatever the application put there.
        failure = Failure(
            type=failure.type,
            message=f"{_printable(failure.message)} (its details are not JSON and were left out)",
            non_retryable=failure.non_retryable,
            next_retry_delay_ms=failure.next_retry_delay_ms,
            traceback=_printable(failure.traceback),
        )
    return {"kind": "failed", "failure": failure.as_json()}


def refused(kind: str, message: str) -> Body:
    """Return the outcome of a step whose body cannot be entered, nor by a further attempt."""
    failure = Failure(type=kind, message=message, non_retryable=True)
    return {"kind": "failed", "failure": failure.as_json(), "ran": False}


def failed_before(kind: str, message: str) -> Body:
    """Return the outcome of an attempt whose body was never entered, but the next one's may be."""
    failure = Failure(type=kind, message=message)
    return {"kind": "failed", "failure": failure.as_json(), "ran": False}


def cancelled(message: str, *, kind: str = "StepCancelled", ran: bool = True) -> Body:
    """Return the outcome of a step that was told to stop."""
    failure = Failure(type=kind, message=message)
    body: Body = {"kind": "cancelled", "failure": failure.as_json()}
    return body if ran else {**body, "ran": False}


def lost(message: str) -> Body:
    """Return the outcome of an attempt whose process died."""
    return {"kind": "lost", "failure": Failure(type="WorkerLost", message=message).as_json()}


def timed_out(message: str) -> Body:
    """Return the outcome of an attempt that a time limit ended."""
    failure = Failure(type="TimeLimitExceeded", message=message)
    return {"kind": "timed_out", "failure": failure.as_json()}


def is_interruption(error: BaseException) -> bool:
    """Return whether `error` is how a body ends that was told to stop."""
    return isinstance(error, SoftTimeLimitExceeded | StepCancelled | asyncio.CancelledError)


def _unrecordable(kind: str, message: str) -> Body:
    failure = Failure(type=kind, message=message, non_retryable=True)
    return {"kind": "failed", "failure": failure.as_json(), "ran": True}


def _retry_failure(error: Retry) -> Failure:
    """The failure behind ``self.retry()`` or ``autoretry_for``, with the delay they ask for."""
    cause: Any = error.exc if isinstance(error.exc, BaseException) else error
    failure = failure_of(cause)
    return Failure(
        type=failure.type,
        message=failure.message or "the task asked for another attempt",
        next_retry_delay_ms=_delay_ms(error.when),
        traceback=failure.traceback,
        cause=failure.cause,
    )


def _delay_ms(when: Any) -> int | None:
    if isinstance(when, timedelta):
        return max(0, round(when.total_seconds() * 1000))
    if isinstance(when, int | float):
        return max(0, round(when * 1000))
    if isinstance(when, datetime):
        now = datetime.now(UTC if when.tzinfo else None)  # noqa: TID251 - Celery gave an instant
        return max(0, round((when - now).total_seconds() * 1000))
    return None


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
