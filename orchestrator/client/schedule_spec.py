"""What a schedule is, as its author writes it, and as it is recorded.

Every part checks itself when it is made: `UsageError`, in one sentence, says what cannot be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from orchestrator.client.summary import instant
from orchestrator.core.children import ChildWorkflow
from orchestrator.core.definition import Codec
from orchestrator.core.errors import UsageError
from orchestrator.core.ids import checked_workflow_id
from orchestrator.core.schedule import OVERLAPS, stamp
from orchestrator.core.values import Json
from orchestrator.engine.schedule_times import CALENDAR_PARTS, check_cron, zone_of

ScheduleOverlapPolicy = Literal[
    "skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"
]
assert get_args(ScheduleOverlapPolicy) == OVERLAPS

#: A year; as long as Temporal's.  The least: an orchestrator that dies is replaced within it.
CATCHUP_WINDOW = timedelta(days=365)
CATCHUP_WINDOW_MIN = timedelta(seconds=10)
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class ScheduleRange:
    """The values from `start` to `end`, each `step`-th; without an end, one value."""

    start: int
    end: int | None = None
    step: int = 1

    @property
    def last(self) -> int:
        """The highest value it can have."""
        return self.start if self.end is None else self.end


Ranges = Sequence[ScheduleRange | int] | ScheduleRange | int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleCalendarSpec:
    """Instants by what the clock on the wall shows; Sunday is day 0 of the week.

    Unless given, second, minute and hour are 0 and all days of all years fit.
    """

    second: Ranges = ()
    minute: Ranges = ()
    hour: Ranges = ()
    day_of_month: Ranges = ()
    month: Ranges = ()
    year: Ranges = ()
    day_of_week: Ranges = ()
    comment: str = ""

    def __post_init__(self) -> None:
        for name, (low, high, _) in CALENDAR_PARTS.items():
            for one in _ranges(name, getattr(self, name)):
                numbers = (one.start, one.last, one.step)
                is_whole = all(type(number) is int for number in numbers)
                if not is_whole or not low <= one.start <= one.last <= high or one.step < 1:
                    raise UsageError(
                        f"{name} of a calendar: found {one.start}-{one.last}/{one.step}; whole "
                        f"numbers from {low} to {high} in rising order, with a step of at least 1, "
                        "are wanted"
                    )

    def as_json(self) -> dict[str, Json]:
        """Return it as recorded."""
        data: dict[str, Json] = {"comment": self.comment} if self.comment else {}
        for name in CALENDAR_PARTS:
            ranges = _ranges(name, getattr(self, name))
            if ranges:
                data[name] = [{"start": r.start, "end": r.last, "step": r.step} for r in ranges]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ScheduleCalendarSpec":
        """Return what `as_json` recorded.  Raises `UsageError` for a part that cannot be."""
        parts = dict(data)
        for name in CALENDAR_PARTS.keys() & parts.keys():
            parts[name] = [
                one if isinstance(one, int) else ScheduleRange(**one) for one in parts[name]
            ]
        return cls(**parts)


def _ranges(name: str, given: Ranges) -> list[ScheduleRange]:
    many = [given] if isinstance(given, ScheduleRange | int) else list(given)
    found = [ScheduleRange(one) if isinstance(one, int) else one for one in many]
    if not all(isinstance(one, ScheduleRange) for one in found):
        raise UsageError(f"{name} of a calendar: whole numbers or ScheduleRange are wanted")
    return found


@dataclass(frozen=True, slots=True)
class ScheduleIntervalSpec:
    """Instants every so often, counted from the epoch, moved by `offset`."""

    every: timedelta
    offset: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.every < timedelta(seconds=1) or not timedelta(0) <= self.offset < self.every:
            raise UsageError(
                f"interval: found every {self.every} with offset {self.offset}; at least a second, "
                "and an offset of 0 or more that is shorter, are wanted"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """When a schedule acts: at every instant of any cron string, calendar and interval.

    Args:
        crons: Five fields, or six with the second first.
        calendars: See `ScheduleCalendarSpec`.
        intervals: See `ScheduleIntervalSpec`.
        skip: Calendars whose instants are left out.
        timezone: IANA name, for cron strings and calendars.
        jitter: Each instant is acted upon up to so much later, but before the next one.
        start_at: No instant before it; aware.
        end_at: None after it; aware.
    """

    crons: Sequence[str] = ()
    calendars: Sequence[ScheduleCalendarSpec] = ()
    intervals: Sequence[ScheduleIntervalSpec] = ()
    skip: Sequence[ScheduleCalendarSpec] = ()
    timezone: str = "UTC"
    jitter: timedelta = timedelta(0)
    start_at: datetime | None = None
    end_at: datetime | None = None

    def __post_init__(self) -> None:
        if isinstance(self.crons, str):
            raise UsageError(f"crons is the text {self.crons!r}; a list of cron strings is wanted")
        if not (self.crons or self.calendars or self.intervals):
            raise UsageError("a spec without instants: crons, calendars or intervals are wanted")
        try:
            zone_of(self.timezone)
            for cron in self.crons:
                check_cron(cron)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if self.jitter < timedelta(0):
            raise UsageError(f"jitter is {self.jitter}; 0 or more is wanted")
        for name in ("start_at", "end_at"):
            _aware(name, getattr(self, name))
        if self.start_at and self.end_at and self.start_at > self.end_at:
            raise UsageError(f"start_at {self.start_at} is after end_at {self.end_at}")

    def as_json(self) -> dict[str, Json]:
        """Return it as recorded; instants and durations in milliseconds."""
        return {
            "crons": list(self.crons),
            "calendars": [each.as_json() for each in self.calendars],
            "intervals": [
                {"every_ms": each.every // _MS, "offset_ms": each.offset // _MS}
                for each in self.intervals
            ],
            "skip": [each.as_json() for each in self.skip],
            "timezone": self.timezone,
            "jitter_ms": self.jitter // _MS,
            "start_at_ms": None if self.start_at is None else at_ms(self.start_at),
            "end_at_ms": None if self.end_at is None else at_ms(self.end_at),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ScheduleSpec":
        """Return what `as_json` recorded.  Raises `UsageError` for a part that cannot be."""
        start, end = data.get("start_at_ms"), data.get("end_at_ms")
        return cls(
            crons=data.get("crons") or (),
            calendars=[ScheduleCalendarSpec.from_json(one) for one in data.get("calendars") or []],
            intervals=[
                ScheduleIntervalSpec(one["every_ms"] * _MS, one.get("offset_ms", 0) * _MS)
                for one in data.get("intervals") or []
            ],
            skip=[ScheduleCalendarSpec.from_json(one) for one in data.get("skip") or []],
            timezone=data.get("timezone") or "UTC",
            jitter=(data.get("jitter_ms") or 0) * _MS,
            start_at=None if start is None else instant(start),
            end_at=None if end is None else instant(end),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleAction:
    """The run that is started: a workflow or its name, its input, and what its ids begin with."""

    workflow: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.workflow, str | ChildWorkflow) or not self.workflow:
            raise UsageError(f"the action's workflow is {self.workflow!r}; a workflow is wanted")
        # Text is a sequence too, of letters that nobody meant.
        if isinstance(self.args, str | bytes) or not isinstance(self.args, Sequence):
            raise UsageError(
                f"the action's args are a {type(self.args).__name__}; a list is wanted"
            )
        if not isinstance(self.kwargs, Mapping) or not all(
            isinstance(name, str) for name in self.kwargs
        ):
            raise UsageError("the action's kwargs are no mapping of names to values")
        if self.id:
            checked_stem(self.id)

    def as_json(self, codec: Codec) -> dict[str, Json]:
        """Return it as recorded.  Raises `InvalidPayload` for an input that does not validate."""
        if isinstance(self.workflow, str):
            name = self.workflow
            args = [codec.encode(one) for one in self.args]
            kwargs = {key: codec.encode(one) for key, one in self.kwargs.items()}
        else:
            name = self.workflow.definition.name
            args, kwargs = self.workflow.encode_input(tuple(self.args), self.kwargs)
        return {"workflow": name, "args": args, "kwargs": kwargs, "id": self.id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule.

    Args:
        action: What is started.
        spec: When.
        overlap: What becomes of an instant while a run of an earlier one is open.
        catchup_window: After an outage, instants no older than this are still taken.
        pause_on_failure: Whether a run that fails pauses the schedule.
        paused: Whether it rests.
        note: Why; for people.
        remaining_actions: How many instants it still acts upon; None for no limit.
    """

    action: ScheduleAction
    spec: ScheduleSpec
    overlap: ScheduleOverlapPolicy = "skip"
    catchup_window: timedelta = CATCHUP_WINDOW
    pause_on_failure: bool = False
    paused: bool = False
    note: str = ""
    remaining_actions: int | None = None

    def __post_init__(self) -> None:
        checked_overlap(self.overlap)
        if self.catchup_window < CATCHUP_WINDOW_MIN:
            raise UsageError(
                f"catchup_window is {self.catchup_window}; at least {CATCHUP_WINDOW_MIN} is wanted"
            )
        if self.remaining_actions is not None and self.remaining_actions < 0:
            raise UsageError(f"remaining_actions is {self.remaining_actions}; 0 or more is wanted")

    def as_json(self, codec: Codec) -> dict[str, Json]:
        """Return it as recorded.  Raises `InvalidPayload` for an input that does not validate."""
        return {
            "action": self.action.as_json(codec),
            "spec": self.spec.as_json(),
            "overlap": self.overlap,
            "catchup_window_ms": self.catchup_window // _MS,
            "pause_on_failure": self.pause_on_failure,
            "paused": self.paused,
            "note": self.note,
            "remaining": self.remaining_actions,
        }

    @classmethod
    def from_json(cls, data: Any) -> "Schedule":
        """Return what `as_json` recorded.

        Raises:
            UsageError: It is no schedule; the text says why.
        """
        try:
            return cls(
                action=ScheduleAction(**data["action"]),
                spec=ScheduleSpec.from_json(data["spec"]),
                overlap=data.get("overlap", "skip"),
                catchup_window=data.get("catchup_window_ms", CATCHUP_WINDOW // _MS) * _MS,
                pause_on_failure=bool(data.get("pause_on_failure")),
                paused=bool(data.get("paused")),
                note=str(data.get("note") or ""),
                remaining_actions=data.get("remaining"),
            )
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
            raise UsageError(f"not a schedule: {type(error).__name__}: {error}") from error


def checked_stem(stem: str) -> str:
    """Return what the ids of a schedule's runs begin with; an instant stands behind it.

    Raises:
        InvalidWorkflowId: It cannot be in an id, or is too long for an instant to follow.
    """
    checked_workflow_id(f"{checked_workflow_id(stem)}-{stamp(1)}")
    return stem


def checked_overlap(overlap: object) -> str:
    """Return `overlap` if it is a policy; else raise `UsageError`, which names them all."""
    if overlap not in OVERLAPS:
        raise UsageError(f"overlap is {overlap!r}; it is one of {', '.join(OVERLAPS)}")
    return str(overlap)


def at_ms(at: datetime) -> int:
    """Return an aware instant in milliseconds since the epoch."""
    return (at - instant(0)) // _MS


def _aware(name: str, at: datetime | None) -> None:
    if at is not None and at.tzinfo is None:
        raise UsageError(f"{name} is {at}, without a time zone; an aware datetime is wanted")
