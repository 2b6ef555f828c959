"""A run at a glance, and its history, as clients get them: rows and bytes made into values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.core.events import Event, decode
from orchestrator.core.failure import Failure
from orchestrator.core.search_attributes import (
    SearchValue,
    attributes_as_json,
    decode_attributes,
)
from orchestrator.core.states import CLOSED_STATUSES, RunState
from orchestrator.core.values import Json
from orchestrator.sealing.parts import blank, is_sealed
from orchestrator.store.ports import RunKey, StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What the store's row tells of a run.

    Args:
        workflow_id: The id it was started with.
        run: Which run of this id, from 1.
        type: Name of the workflow; "" as long as nobody knows it.
        status: A `core.states.RunState` value, or "blocked" while the run rests.
        version: Of the workflow, as recorded at its start.
        started_at: When the store accepted it.
        begins_at: When it is to begin, if it was put off and has not begun.
        closed_at: When it ended; None while it is open.
        seq: Number of its last event; 0 before the first.
        head: The chain's head after that event.
        blocked: Why it rests, or ""; its `RunBlocked` event has both sides and the source line.
        rests: Why its orchestrator could not work on it, though it is not blocked, or "".
        rests_at: When that was last said.
        result: What it returned, as JSON or a blob's reference; None unless it completed.
        failure: What ended it, or None.
        is_retried: Whether it failed and the next run of the id is another attempt, or it was
            reset and that one goes on for it.
        state: What it published, as JSON; None where it published nothing.
        search_attributes: What it is found by; instants in UTC.
        memo: What it keeps for its readers, as JSON.
        summary: What its start said of it, in one line.
        details: The same, on a page.
        current_details: What its code said last of where it stands.
    """

    workflow_id: str
    run: int
    type: str
    status: str
    version: str = ""
    started_at: datetime | None = None
    begins_at: datetime | None = None
    closed_at: datetime | None = None
    seq: int = 0
    head: str = ""
    blocked: str = ""
    rests: str = ""
    rests_at: datetime | None = None
    result: Json = None
    failure: Failure | None = None
    is_retried: bool = False
    state: Json = None
    search_attributes: Mapping[str, SearchValue] = field(default_factory=dict)
    memo: Mapping[str, Json] = field(default_factory=dict)
    summary: str = ""
    details: str = ""
    current_details: str = ""

    @property
    def key(self) -> RunKey:
        """The run's name in the store."""
        return RunKey(workflow_id=self.workflow_id, run=self.run)

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self.status in CLOSED_STATUSES

    @property
    def goes_on(self) -> bool:
        """Whether it has ended, and the next run of its id goes on for it."""
        return self.is_retried or self.status == RunState.CONTINUED_AS_NEW.value

    def as_json(self) -> dict[str, Json]:
        """Return it as a JSON object, instants in ISO 8601; parts that say nothing are left out."""
        data: dict[str, Json] = {
            "workflow_id": self.workflow_id,
            "run": self.run,
            "type": self.type,
            "status": self.status,
            "events": self.seq,
        }
        if self.version:
            data["version"] = self.version
        for name in ("started_at", "begins_at", "closed_at"):
            at: datetime | None = getattr(self, name)
            if at is not None:
                data[name] = at.isoformat()
        if self.rests and self.rests_at is not None:
            data["rests"] = {"reason": self.rests, "at": self.rests_at.isoformat()}
        if self.status == RunState.COMPLETED.value:
            data["result"] = self.result
        if self.failure is not None:
            data["failure"] = self.failure.as_json()
        if self.state is not None:
            data["state"] = self.state
        if self.search_attributes:
            data["search_attributes"] = attributes_as_json(self.search_attributes)
        if self.memo:
            data["memo"] = dict(self.memo)
        names = ("blocked", "summary", "details", "current_details", "is_retried")
        data |= {name: said for name in names if (said := getattr(self, name))}
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent:
    """One event of a history: its number, from 1, what it says, and the chain's head after it."""

    seq: int
    event: Event
    head: str

    @property
    def type(self) -> str:
        """Name of the kind of event."""
        return type(self.event).__name__

    @property
    def at(self) -> datetime:
        """When it was recorded, by the store's clock."""
        return instant(self.event.at_ms)


def instant(at_ms: int) -> datetime:
    """Return an instant of the store's clock as an aware time in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def summary_of(workflow_id: str, row: Mapping[str, str]) -> RunSummary:
    """Return what `row` tells; fields as `ports.OwnerStore.find_row` lists them."""
    failure = _json_in(row, "failure")
    rests, rests_at = _rest_in(row)
    return RunSummary(
        workflow_id=workflow_id,
        run=int(row["run"]),
        type=row.get("type", ""),
        status=row["status"],
        version=row.get("version", ""),
        started_at=instant_in(row, "started_at_ms"),
        begins_at=instant_in(row, "begins_at_ms"),
        closed_at=instant_in(row, "closed_at_ms"),
        seq=int(row.get("seq") or 0),
        head=row.get("head", ""),
        blocked=row.get("blocked", ""),
        rests=rests,
        rests_at=rests_at,
        result=_json_in(row, "result"),
        failure=Failure.from_json(failure) if isinstance(failure, dict) else None,
        is_retried=bool(row.get("retried")),
        state=_json_in(row, "state"),
        search_attributes=decode_attributes(_object_in(row, "attributes")),
        memo=_object_in(row, "memo"),
        summary=str(_json_in(row, "summary") or ""),
        details=str(_json_in(row, "details") or ""),
        current_details=str(_json_in(row, "current_details") or ""),
    )


def history_event_of(stored: StoredEvent) -> HistoryEvent:
    """Return a stored event as values; what is sealed, and was not opened, is blank.

    Raises:
        ValueError: Bytes that are no event of this version.
    """
    data = json.loads(stored.data)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    if is_sealed(data):
        data = blank(data)
    return HistoryEvent(seq=stored.seq, event=decode(data), head=stored.head)


def instant_in(row: Mapping[str, str], name: str) -> datetime | None:
    """Return the instant in a field of a row; None where it has none."""
    text = row.get(name)
    return instant(int(text)) if text else None


def _rest_in(row: Mapping[str, str]) -> tuple[str, datetime | None]:
    """Return why the run rests, and when that was said; what was said before an event is over."""
    said = _object_in(row, "rests")
    at_ms, reason = said.get("at_ms"), said.get("reason")
    if str(said.get("seq")) != (row.get("seq") or "0") or not isinstance(at_ms, int):
        return "", None
    return str(reason), instant(at_ms)


def _json_in(row: Mapping[str, str], name: str) -> Json:
    text = row.get(name)
    value: Json = json.loads(text) if text else None
    return value


def _object_in(row: Mapping[str, str], name: str) -> dict[str, Json]:
    value = _json_in(row, name)
    return value if isinstance(value, dict) else {}
