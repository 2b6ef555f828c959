"""What a run knows of the ends of those before it: runs of its schedule, attempts of its own.

LE1  The last result is that of the run which completed last, over however many that did not.
LE2  The last failure is that of the latest run which completed or failed: none where it completed.
     One that was cancelled or terminated, or never began, changes neither.
LE3  Both come with the start and stand in the first event, so that they never change in a run.
LE4  An attempt knows the failure of the attempt before it; a run that goes on as new knows what the
     run before it knew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.limits import LAST_FAILURE_BYTES_MAX
from orchestrator.core.values import Json, canonical

#: How a run that was awaited ended, as whoever awaited it was told.
End = e.ChildCompleted | e.ChildFailed | e.ExternalCompleted | e.ExternalFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class LastEnds:
    """See the module.  A large `result` is a reference; `failure` is `Failure.as_json`, or {}."""

    has_result: bool = False
    result: Json = None
    failure: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def of(cls, started: e.RunStarted) -> "LastEnds":
        """Return what the run's first event says (LE3)."""
        return cls(
            has_result=started.has_last_result,
            result=started.last_result,
            failure=started.last_failure,
        )

    def after(self, end: End) -> "LastEnds":
        """Return what is known once a run has ended so (LE1, LE2)."""
        if isinstance(end, e.ChildCompleted | e.ExternalCompleted):
            return LastEnds(has_result=True, result=end.result)
        return self.failed(end.failure) if end.kind == "failed" else self

    def failed(self, failure: Failure) -> "LastEnds":
        """Return what is known once a run has failed."""
        return replace(self, failure=_brief(failure).as_json())

    def as_body(self) -> dict[str, Json]:
        """Return what a START says of it."""
        body: dict[str, Json] = {"last_result": self.result} if self.has_result else {}
        return body | ({"last_failure": self.failure} if self.failure else {})


def last_ends_in(body: Mapping[str, Json]) -> dict[str, Any]:
    """Return the fields of `RunStarted` that a START's body asks for; see `LastEnds.as_body`."""
    found: dict[str, Any] = {}
    if "last_result" in body:
        found |= {"has_last_result": True, "last_result": body["last_result"]}
    failure = body.get("last_failure")
    return found | ({"last_failure": failure} if isinstance(failure, dict) else {})


def _brief(failure: Failure) -> Failure:
    """Return a failure as a start may carry it; where it happened stands in the run that failed."""
    brief = _without_tracebacks(failure)
    if len(canonical(brief.as_json())) <= LAST_FAILURE_BYTES_MAX:
        return brief
    note = f"{brief.message} (details and causes left out: too large to be handed on)"
    return replace(brief, message=note, details=None, cause=None)


def _without_tracebacks(failure: Failure) -> Failure:
    cause = failure.cause and _without_tracebacks(failure.cause)
    return replace(failure, traceback="", cause=cause)
