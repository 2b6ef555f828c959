"""A spec's instants: in order, inside its bounds, and right when the clocks change (ST1-ST4)."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.client.schedule_spec import (
    Schedule,
    ScheduleAction,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleRange,
    ScheduleSpec,
    at_ms,
)
from orchestrator.core.errors import UsageError
from orchestrator.engine.schedule_times import count_between, fires
from orchestrator.payloads import PydanticCodec

Calendar = ScheduleCalendarSpec


def times(spec: ScheduleSpec, after: str, count: int) -> list[str]:
    start = at_ms(datetime.fromisoformat(after).replace(tzinfo=UTC))
    found = fires("s", spec.as_json(), start, count)
    return [
        datetime.fromtimestamp(one.nominal_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        for one in found
    ]


def berlin(**parts: Any) -> ScheduleSpec:
    return ScheduleSpec(timezone="Europe/Berlin", **parts)


def test_a_calendar_leaves_out_what_the_clocks_jump_over() -> None:
    spec = berlin(calendars=[Calendar(hour=2, minute=30)])
    assert times(spec, "2026-03-28", 2) == ["2026-03-28 01:30", "2026-03-30 00:30"]


def test_a_calendar_takes_twice_what_the_clocks_repeat() -> None:
    spec = berlin(calendars=[Calendar(hour=2, minute=30)])
    assert times(spec, "2026-10-24 12:00", 3) == [
        "2026-10-25 00:30",
        "2026-10-25 01:30",
        "2026-10-26 01:30",
    ]


def test_a_cron_string_with_a_fixed_hour_comes_once_on_both_changes() -> None:
    spec = berlin(crons=["30 2 * * *"])
    assert times(spec, "2026-03-28 12:00", 2) == ["2026-03-29 01:00", "2026-03-30 00:30"]
    assert times(spec, "2026-10-24 12:00", 2) == ["2026-10-25 00:30", "2026-10-26 01:30"]


def test_a_cron_string_of_every_hour_keeps_its_distance_over_both_changes() -> None:
    spec = berlin(crons=["0 * * * *"])
    for day in ("2026-03-28 20:00", "2026-10-24 20:00"):
        found = [datetime.fromisoformat(one) for one in times(spec, day, 12)]
        assert {b - a for a, b in itertools.pairwise(found)} == {timedelta(hours=1)}


def test_a_leap_day_comes_every_four_years() -> None:
    spec = ScheduleSpec(calendars=[Calendar(month=2, day_of_month=29)])
    assert times(spec, "2026-01-01", 2) == ["2028-02-29 00:00", "2032-02-29 00:00"]
    assert times(ScheduleSpec(crons=["0 0 29 2 *"]), "2026-01-01", 1) == ["2028-02-29 00:00"]


def test_ranges_steps_and_days_of_the_week_narrow_a_calendar() -> None:
    calendar = Calendar(hour=ScheduleRange(8, 18, 5), day_of_week=[0, 6], comment="weekends")
    assert times(ScheduleSpec(calendars=[calendar]), "2026-01-01", 4) == [
        "2026-01-03 08:00",
        "2026-01-03 13:00",
        "2026-01-03 18:00",
        "2026-01-04 08:00",
    ]


def test_skip_leaves_out_and_start_and_end_bound() -> None:
    spec = ScheduleSpec(
        crons=["0 0 * * *"],
        skip=[Calendar(hour=0, day_of_week=ScheduleRange(1, 5))],
        start_at=datetime(2026, 1, 2, tzinfo=UTC),
        end_at=datetime(2026, 1, 10, tzinfo=UTC),
    )
    assert times(spec, "2025-01-01", 9) == [
        "2026-01-03 00:00",
        "2026-01-04 00:00",
        "2026-01-10 00:00",
    ]


def test_an_interval_counts_from_the_epoch_and_its_offset() -> None:
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(timedelta(hours=6), timedelta(hours=1))])
    assert times(spec, "2026-01-01", 2) == ["2026-01-01 01:00", "2026-01-01 07:00"]


def test_sources_that_agree_give_an_instant_once() -> None:
    spec = ScheduleSpec(
        crons=["0 * * * *"], intervals=[ScheduleIntervalSpec(timedelta(minutes=30))]
    )
    assert len(set(times(spec, "2026-01-01", 20))) == 20


def test_a_spec_that_excludes_everything_comes_to_an_end() -> None:
    spec = ScheduleSpec(
        intervals=[ScheduleIntervalSpec(timedelta(minutes=1))],
        skip=[Calendar(minute=ScheduleRange(0, 59), hour=ScheduleRange(0, 23))],
    )
    assert times(spec, "2026-01-01", 1) == []
    never = ScheduleSpec(calendars=[Calendar(month=2, day_of_month=30)])
    assert times(never, "2026-01-01", 1) == []


@settings(max_examples=40, deadline=None)
@given(
    after=st.integers(0, 4_000_000_000_000),
    interval=st.tuples(st.integers(1, 5_000), st.integers(0, 4_999)),
    jitter=st.integers(0, 10_000),
    cron=st.sampled_from(["*/7 * * * *", "15 3 * * 1-5", "0 0 1 * *", "*/20 * * * * *"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    hour=st.integers(0, 23),
)
def test_instants_rise_lie_after_what_was_asked_and_jitter_stays_below_the_next(
    after: int, interval: tuple[int, int], jitter: int, cron: str, zone: str, hour: int
) -> None:
    every, offset = interval
    spec = ScheduleSpec(
        crons=[cron],
        calendars=[Calendar(hour=hour, minute=[0, 30])],
        intervals=[
            ScheduleIntervalSpec(timedelta(seconds=every), timedelta(seconds=offset % every))
        ],
        timezone=zone,
        jitter=timedelta(seconds=jitter),
    )
    found = fires("s", spec.as_json(), after, 20)
    assert found == fires("s", spec.as_json(), after, 20)
    assert found[0].nominal_ms > after
    assert all(0 <= one.due_ms - one.nominal_ms <= jitter * 1000 for one in found)
    assert all(a.due_ms < b.nominal_ms for a, b in itertools.pairwise(found))
    # Asked from the middle, the rest is the same: a takeover computes what was computed.
    rest = fires("s", spec.as_json(), found[9].nominal_ms, 10)
    assert rest[:-1] == found[10:-1]
    assert count_between(spec.as_json(), after, found[9].nominal_ms) == 10


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ScheduleSpec(), "without instants"),
        (lambda: ScheduleSpec(crons=["* * *"]), "five fields are wanted"),
        (lambda: ScheduleSpec(crons=["61 * * * *"]), "'61 * * * *': Bad minute"),
        (lambda: ScheduleSpec(crons="* * * * *"), "a list of cron strings"),
        (lambda: ScheduleSpec(crons=["* * * * *"], timezone="Mars/Base"), "'Mars/Base'"),
        (lambda: Calendar(hour=24), "hour of a calendar: found 24-24/1"),
        (lambda: Calendar(month=ScheduleRange(5, 2)), "month of a calendar: found 5-2/1"),
        (lambda: ScheduleIntervalSpec(timedelta(0)), "at least a second"),
        (lambda: ScheduleIntervalSpec(timedelta(hours=1), timedelta(hours=1)), "shorter"),
        (
            lambda: ScheduleSpec(crons=["* * * * *"], start_at=datetime(2026, 1, 1)),  # noqa: DTZ001
            "aware",
        ),
        (lambda: made(overlap="never"), "one of skip, buffer_one"),
        (lambda: made(catchup_window=timedelta(seconds=1)), "at least 0:00:10"),
        (lambda: made(remaining_actions=-1), "0 or more"),
    ],
)
def test_bad_input_is_told_in_one_sentence(make: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def made(**policy: Any) -> Schedule:
    spec = ScheduleSpec(
        crons=["0 9 * * *"],
        calendars=[Calendar(hour=ScheduleRange(1, 5, 2), comment="odd")],
        intervals=[ScheduleIntervalSpec(timedelta(hours=1))],
        jitter=timedelta(seconds=3),
        end_at=datetime(2030, 1, 1, tzinfo=UTC),
    )
    return Schedule(action=ScheduleAction(workflow="quick", args=[1]), spec=spec, **policy)


def test_a_schedule_reads_back_as_it_was_recorded() -> None:
    codec = PydanticCodec()
    recorded = made(overlap="buffer_all", note="why", remaining_actions=3).as_json(codec)
    assert Schedule.from_json(recorded).as_json(codec) == recorded
