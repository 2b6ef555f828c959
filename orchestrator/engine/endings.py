"""How a run ended, as its row, its parent and the runs after it are told."""

from dataclasses import replace

from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.last_ends import LastEnds
from orchestrator.core.resetting import failure_of
from orchestrator.core.values import Json, canonical
from orchestrator.engine.ports import BlobStore
from orchestrator.engine.references import own


def outcome_of(ending: e.Event) -> tuple[Json, Failure | None]:
    """Return the result of an ending as recorded, and the failure: None where it completed."""
    match ending:
        case e.RunCompleted():
            return ending.result, None
        case e.RunFailed():
            return None, ending.failure
        case e.RunCancelled():
            return None, Failure(type="Cancelled", message=ending.reason)
        case e.RunTerminated():
            return None, Failure(type="Terminated", message=ending.reason)
        case e.RunReset():
            return None, failure_of(ending)
        case _:
            raise AssertionError(f"{type(ending).__name__} ends no run")


def fields_of_end(at_ms: int, result: Json, failure: Failure | None) -> dict[str, str]:
    """Return what a row says of its run's end; see `OwnerStore.find_row`."""
    if failure is None:
        told = {"result": canonical(result).decode()}
    else:
        told = {"failure": canonical(failure.as_json()).decode()}
    return {"closed_at_ms": str(at_ms), **told}


def handed_on(last: LastEnds, blobs: BlobStore) -> dict[str, Json]:
    """Return what the START of another run says of the ends before it.

    Raises:
        StoreUnavailable: See `references.own`.
    """
    return replace(last, result=own(last.result, blobs)).as_body()
