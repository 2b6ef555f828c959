"""How a run ended, as its row and its parent are told."""

from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.values import Json


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
        case _:
            raise AssertionError(f"{type(ending).__name__} ends no run")
