"""From a schedule's spec, as JSON, to the instants at which it acts.

ST1  Called outside of activations: it reads the time zone database.  What it returns is recorded,
     so that another version of a library or of that database does not change a recorded past.
ST2  Instants are in order, each once, after `after_ms`, inside start and end, none excluded.
ST3  A calendar is compared with the clock on the wall: an instant that a change of the clocks
     leaves out does not come, one that it repeats comes twice.  A cron string with a fixed hour
     does as Debian's cron does: it comes once, right after the gap or at the first of the two.
ST4  Jitter follows from the schedule's id and the instant alone, and never reaches the next one.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from heapq import merge
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from orchestrator.core.limits import SCHEDULE_SEARCH_MAX, SCHEDULE_SEARCH_YEARS_MAX
from orchestrator.core.values import Json

#: The parts of a calendar: lowest and highest value, and what stands there unless given.
CALENDAR_PARTS: dict[str, tuple[int, int, bool]] = {
    "second": (0, 59, False),
    "minute": (0, 59, False),
    "hour": (0, 23, False),
    "day_of_month": (1, 31, True),
    "month": (1, 12, True),
    "year": (1970, 9998, True),
    "day_of_week": (0, 6, True),
}


@dataclass(frozen=True, slots=True)
class Fire:
    """An instant of a schedule, and when it is acted upon: as late as the jitter says."""

    nominal_ms: int
    due_ms: int


class Calendar:
    """A calendar spec; ranges are ``{"start": …, "end": …, "step": …}``; Sunday is day 0."""

    def __init__(self, parts: dict[str, Json]) -> None:
        self._values = {name: _values(name, parts.get(name)) for name in CALENDAR_PARTS}

    def has(self, local: datetime) -> bool:
        """Return whether the clock on the wall shows an instant of it."""
        values = self._values
        return self._has_day(local.date()) and all(
            getattr(local, name) in values[name] for name in ("second", "minute", "hour")
        )

    def after(self, after_ms: int, zone: tzinfo) -> Iterator[int]:
        """Yield its instants in order, without end but for the years' (ST3)."""
        day = _local(after_ms, zone).date() - timedelta(days=1)
        last_year = min(day.year + SCHEDULE_SEARCH_YEARS_MAX, CALENDAR_PARTS["year"][1])
        while day.year <= last_year:
            if self._has_day(day):
                for hour in self._values["hour"]:
                    yield from (at for at in self._in_hour(day, hour, zone) if at > after_ms)
            day += timedelta(days=1)

    def _has_day(self, day: date) -> bool:
        values = self._values
        return (
            day.year in values["year"]
            and day.month in values["month"]
            and day.day in values["day_of_month"]
            and day.isoweekday() % 7 in values["day_of_week"]
        )

    def _in_hour(self, day: date, hour: int, zone: tzinfo) -> list[int]:
        found = set()
        for minute in self._values["minute"]:
            for second in self._values["second"]:
                wall = datetime.combine(day, time(hour, minute, second))
                for fold in (0, 1):
                    at = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
                    if at.astimezone(zone).replace(tzinfo=None) == wall:
                        found.add(_ms(at))
        return sorted(found)


def zone_of(name: str) -> tzinfo:
    """Return the time zone of that IANA name.

    Raises:
        ValueError: There is none; the text says what is wanted.
    """
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"time zone {name!r} is not known here; an IANA name like Europe/Berlin is wanted"
        ) from error


def check_cron(text: str) -> None:
    """Raise `ValueError`, which names `text`, if it is no cron string of five or six fields."""
    try:
        CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except (CronSimError, ValueError) as error:
        raise ValueError(
            f"cron string {text!r}: {error}; five fields are wanted (minute, hour, day of month, "
            "month, day of week), or six with the second first"
        ) from error


def nominals(spec: dict[str, Any], after_ms: int) -> Iterator[int]:
    """Yield the instants of `spec` after `after_ms`, without jitter (ST2).

    Raises:
        ValueError: A spec that cannot be; the text says why.
    """
    zone = zone_of(str(spec.get("timezone") or "UTC"))
    start_ms, end_ms = spec.get("start_at_ms"), spec.get("end_at_ms")
    if start_ms is not None:
        after_ms = max(after_ms, start_ms - 1)
    sources = [_of_calendar(each, after_ms, zone) for each in spec.get("calendars") or []]
    sources += [_of_interval(each, after_ms) for each in spec.get("intervals") or []]
    sources += [_of_cron(each, after_ms, zone) for each in spec.get("crons") or []]
    skipped = [Calendar(each) for each in spec.get("skip") or []]
    before, excluded = after_ms, 0
    for at in merge(*sources):
        if end_ms is not None and at > end_ms:
            return
        if at <= before:
            continue
        before = at
        if skipped and any(each.has(_local(at, zone)) for each in skipped):
            excluded += 1
            if excluded >= SCHEDULE_SEARCH_MAX:
                return
            continue
        excluded = 0
        yield at


def fires(schedule_id: str, spec: dict[str, Any], after_ms: int, count: int) -> list[Fire]:
    """Return the next `count` instants after `after_ms`, fewer where no more come (ST2, ST4).

    Raises:
        ValueError: See `nominals`.
    """
    found = list(islice(nominals(spec, after_ms), count + 1))
    jitter_ms = int(spec.get("jitter_ms") or 0)
    ends = [*found[1:], found[-1] + jitter_ms + 1] if found else []
    return [
        Fire(at, at + _jitter(schedule_id, at, min(jitter_ms, end - at - 1)))
        for at, end in zip(found, ends, strict=True)
    ][:count]


def count_between(spec: dict[str, Any], after_ms: int, until_ms: int) -> int:
    """Return how many instants lie after `after_ms` up to `until_ms`; counts no further than
    ``SCHEDULE_SEARCH_MAX``.
    """  # noqa: D205 - one sentence
    count = 0
    for at in nominals(spec, after_ms):
        if at > until_ms or count >= SCHEDULE_SEARCH_MAX:
            break
        count += 1
    return count


def _jitter(schedule_id: str, at: int, jitter_ms: int) -> int:
    if jitter_ms <= 0:
        return 0
    drawn = hashlib.sha256(f"{schedule_id}:{at}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") % (jitter_ms + 1)


def _of_calendar(parts: dict[str, Json], after_ms: int, zone: tzinfo) -> Iterator[int]:
    return Calendar(parts).after(after_ms, zone)


def _of_interval(interval: dict[str, Any], after_ms: int) -> Iterator[int]:
    every, offset = int(interval["every_ms"]), int(interval.get("offset_ms") or 0)
    at = offset + ((after_ms - offset) // every + 1) * every
    while True:
        yield at
        at += every


def _of_cron(text: str, after_ms: int, zone: tzinfo) -> Iterator[int]:
    check_cron(text)
    # Earlier by more than the clocks jump: what a change moves would else be asked for too late.
    for at in CronSim(text, _local(after_ms - 3 * 3_600_000, zone)):
        if (ms := _ms(at)) > after_ms:
            yield ms


def _values(name: str, ranges: Json) -> range | list[int]:
    low, high, is_every = CALENDAR_PARTS[name]
    if not ranges:
        return range(low, high + 1) if is_every else [low]
    found: set[int] = set()
    assert isinstance(ranges, list)
    for one in ranges:
        assert isinstance(one, dict)
        start = int(str(one["start"]))
        found.update(
            range(start, int(str(one.get("end", start))) + 1, int(str(one.get("step", 1))))
        )
    return sorted(found)


def _local(at_ms: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)


def _ms(at: datetime) -> int:
    return (at.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
