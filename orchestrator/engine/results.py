"""The result of a run, as it goes to a run that is told of its end.

RS1  Whoever commits an end says a result that is sealed as a copy that no history refers to yet:
     shredding the run that ended finds it no more, and whoever takes it has it as its own.
RS2  What is said of an end later (`engine.externals`), or was said before results were copied,
     refers to what that run has itself.  Where it was shredded meanwhile the result is gone for
     good, and whoever waits is told so.  A blob that cannot be had though its run is readable is
     away: it is waited for.
"""

from collections.abc import Callable, Mapping

from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.failure import Failure
from orchestrator.core.values import Json
from orchestrator.engine.ports import BlobStore
from orchestrator.engine.references import own
from orchestrator.store.ports import RunKey, StoredEvent


def handed_over(result: Json, blobs: BlobStore) -> dict[str, Json]:
    """Return what a letter says of a result, for one receiver (RS1).

    Raises:
        StoreUnavailable: See `references.own`.
    """
    kept = own(result, blobs)
    return {"result": kept} if kept is result else {"result": kept, "copied": True}


def taken_over(
    body: Mapping[str, Json],
    ended: RunKey,
    blobs: BlobStore,
    read_history: Callable[[RunKey], list[StoredEvent]],
) -> Json | Failure:
    """Return the result that a letter brings, to keep; a failure where it is gone for good (RS2).

    Raises:
        StoreUnavailable: The blob cannot be had now.
    """
    result = body.get("result")
    if body.get("copied"):
        return result
    try:
        return own(result, blobs)
    except StoreUnavailable:
        if is_sealed_end(read_history(ended)):
            return sealed_result(ended)
        raise


def is_sealed_end(history: list[StoredEvent]) -> bool:
    """Return whether nobody can read any more how the run of `history` ended."""
    return bool(history) and history[-1].is_blank


def sealed_result(ended: RunKey) -> Failure:
    """Return what is said in the place of a result that nobody can read any more."""
    message = f"{ended.workflow_id} run {ended.run} completed, and its result was shredded"
    return Failure(type="PayloadSealed", message=message)
