"""A schedule takes every instant once, whatever dies, and says what became of each (SC1-SC4)."""

import itertools
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.client.schedule_spec import (
    Schedule,
    ScheduleAction,
    ScheduleIntervalSpec,
    ScheduleSpec,
)
from orchestrator.client.schedules import schedule_definition
from orchestrator.core import events as e
from orchestrator.core.errors import ApplicationError
from orchestrator.core.flags import FIRST, STREAMS
from orchestrator.core.schedule import SCHEDULE_TYPE
from orchestrator.core.values import Json, loads
from orchestrator.engine import mail
from orchestrator.payloads import PydanticCodec
from tests.engine.test_crashes import Faulty
from tests.engine.world import Node, World

ID = "orc-schedule:s"
MINUTE = 60_000


async def quick() -> int:
    about = workflow.info().schedule
    assert about is not None
    assert about.schedule_id == "s"
    return about.scheduled_at_ms


async def patient() -> None:
    await workflow.signal("end")


async def failing() -> None:
    raise ApplicationError("no")


def made(name: str = "quick", **policy: Any) -> Schedule:
    spec = policy.pop("spec", None) or ScheduleSpec(
        intervals=[ScheduleIntervalSpec(timedelta(minutes=1))]
    )
    return Schedule(action=ScheduleAction(workflow=name), spec=spec, **policy)


def scheduled(name: str = "quick", **policy: Any) -> World:
    world = World(quick, patient, failing, schedule_definition(PydanticCodec()))
    world.start(SCHEDULE_TYPE, "s", made(name, **policy).as_json(PydanticCodec()), id=ID)
    world.settle()
    return world


def state(world: World) -> Any:
    return loads(world.row(ID)["state"])


def minutes(world: World, count: int) -> None:
    for _ in range(count):
        world.advance(MINUTE)
        world.settle()


def tell(world: World, do: str, **parts: Json) -> None:
    world.signal("command", {"do": do, **parts}, id=ID)
    world.settle()


def instants(world: World) -> list[int]:
    return [
        int(str(event.scheduled["at_ms"]))
        for event in world.events(ID)
        if isinstance(event, e.ChildScheduled)
    ]


def started_ids(world: World) -> list[str]:
    return [event.id for event in world.events(ID) if isinstance(event, e.ChildScheduled)]


def is_every_minute(found: list[int]) -> bool:
    return all(later - earlier == MINUTE for earlier, later in itertools.pairwise(found))


def test_every_instant_starts_one_run_that_knows_its_schedule_and_instant() -> None:
    world = scheduled()
    minutes(world, 120)
    assert len(instants(world)) == 120
    assert is_every_minute(instants(world))
    for run_id, at_ms in zip(started_ids(world), instants(world), strict=True):
        assert world.result(run_id) == at_ms
        assert int(world.row(run_id)["run"]) == 1
    world.check_chain(ID)


def test_months_of_a_monthly_schedule_pass_in_one_history() -> None:
    world = scheduled(spec=ScheduleSpec(crons=["0 9 1 * *"], timezone="Europe/Berlin"))
    for _ in range(366):
        world.advance(24 * 60 * MINUTE)
        world.settle()
    assert [one[:15] for one in started_ids(world)] == [
        f"s-{year}-{month:02d}-01T0{8 if month in (11, 12, 1, 2, 3) else 7}"
        for year, month in [(2025, m) for m in range(7, 13)] + [(2026, m) for m in range(1, 7)]
    ]


@pytest.mark.parametrize(
    ("overlap", "starts", "skipped", "buffered"),
    [
        ("skip", 1, 4, 0),
        ("buffer_one", 1, 3, 1),
        ("buffer_all", 1, 0, 4),
        ("allow_all", 5, 0, 0),
    ],
)
def test_an_overlap_policy_says_what_becomes_of_an_instant(
    overlap: str, starts: int, skipped: int, buffered: int
) -> None:
    world = scheduled("patient", overlap=overlap)
    minutes(world, 5)
    found = state(world)
    assert (len(instants(world)), found["skipped"], found["buffered"]) == (
        starts,
        skipped,
        buffered,
    )
    for _ in range(5):
        for run_id in list(state(world)["running"]):
            world.signal("end", id=run_id)
        world.settle()
    assert len(instants(world)) == starts + buffered


@pytest.mark.parametrize(
    ("overlap", "ends"), [("cancel_other", "cancelled"), ("terminate_other", "terminated")]
)
def test_an_overlap_policy_ends_the_run_that_is_open(overlap: str, ends: str) -> None:
    world = scheduled("patient", overlap=overlap)
    minutes(world, 3)
    first, second, third = started_ids(world)
    assert [world.status(one) for one in (first, second, third)] == [ends, ends, "running"]


def test_after_an_outage_what_is_in_the_window_is_taken_and_the_rest_is_counted() -> None:
    world = scheduled(overlap="allow_all", catchup_window=timedelta(minutes=10))
    minutes(world, 2)
    world.advance(60 * MINUTE)
    world.settle()
    world.settle()
    found = instants(world)
    assert state(world)["missed"] + len(found) == 62
    assert 10 <= len(found) - 2 <= 11
    assert is_every_minute(found[2:])


def test_a_long_outage_is_counted_and_not_walked_through() -> None:
    world = scheduled(overlap="allow_all", catchup_window=timedelta(minutes=10))
    minutes(world, 2)
    world.advance(5 * 24 * 60 * MINUTE)
    world.settle()
    world.settle()
    assert state(world)["missed"] + len(instants(world)) == 2 + 5 * 24 * 60
    assert len(world.events(ID)) < 150


def test_a_window_longer_than_the_outage_misses_nothing() -> None:
    world = scheduled(overlap="allow_all")
    minutes(world, 2)
    world.advance(200 * MINUTE)
    world.settle()
    assert len(instants(world)) == 202
    assert is_every_minute(instants(world))
    assert state(world)["missed"] == 0


@pytest.mark.parametrize("call", ["commit", "start", "post", "read_letters", "ack_letters"])
@pytest.mark.parametrize("happens", [False, True])
def test_a_death_at_any_call_loses_no_instant_and_takes_none_twice(
    call: str, *, happens: bool
) -> None:
    for at in range(1, 16):
        world = World(quick, schedule_definition(PydanticCodec()))
        world.nodes = [Node(world, "one", Faulty(world.store, call, at, happens=happens))]
        config = made(overlap="buffer_all").as_json(PydanticCodec())
        begin_ms = world.store.now_ms()
        world.start(SCHEDULE_TYPE, "s", config, id=ID)
        for _ in range(6):
            world.settle()
            world.restart()
            world.settle()
            world.advance(MINUTE)
        for _ in range(3):
            world.settle()
            world.advance(1_000)
        found = instants(world)
        assert is_every_minute(found)
        assert found[0] - begin_ms <= MINUTE + 20_000
        assert len(set(started_ids(world))) == len(found) == state(world)["actions"] >= 6
        assert {int(world.row(one)["run"]) for one in started_ids(world)} == {1}
        assert {world.status(one) for one in started_ids(world)} == {"completed"}
        world.check_chain(ID)


def test_another_computation_of_instants_does_not_change_a_recorded_past(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = scheduled()
    minutes(world, 3)
    monkeypatch.setattr(
        "orchestrator.engine.schedule_times.fires", lambda *_: pytest.fail("computed again")
    )
    world.restart()
    minutes(world, 3)
    assert world.status(ID) == "running"
    assert is_every_minute(instants(world))


def test_a_paused_schedule_rests_and_goes_on_from_now() -> None:
    world = scheduled()
    tell(world, "pause", note="stocktaking")
    minutes(world, 5)
    assert instants(world) == []
    assert state(world)["schedule"]["note"] == "stocktaking"
    tell(world, "unpause")
    minutes(world, 2)
    assert len(instants(world)) == 2
    assert state(world)["missed"] == 0


def test_a_failure_pauses_where_that_is_asked_for() -> None:
    world = scheduled("failing", pause_on_failure=True)
    minutes(world, 5)
    assert len(instants(world)) == 1
    assert "paused as s-" in state(world)["schedule"]["note"]


def test_a_limited_number_of_actions_ends_it_but_not_a_trigger() -> None:
    world = scheduled(remaining_actions=2)
    minutes(world, 5)
    assert len(instants(world)) == 2
    tell(world, "trigger")
    assert len(instants(world)) == 3
    assert state(world)["schedule"]["remaining"] == 0


def trigger_twice(world: World) -> None:
    for _ in range(2):
        world.signal("command", {"do": "trigger", "overlap": "allow_all"}, id=ID)
    world.settle()


def test_two_triggers_of_one_millisecond_are_two_runs() -> None:
    world = scheduled("patient", paused=True)
    trigger_twice(world)
    first, second = started_ids(world)
    assert [world.status(one) for one in (first, second)] == ["running"] * 2
    assert state(world)["running"] == [first, second]
    assert state(world)["refused"] == 0
    world.signal("end", id=second)
    world.settle()
    assert state(world)["running"] == [first]
    tell(world, "trigger")
    assert state(world)["skipped"] == 1, "the first one is open"
    world.restart()
    world.signal("end", id=first)
    world.settle()
    assert [each["status"] for each in state(world)["recent"]] == ["completed"] * 2


def test_a_run_that_is_refused_leaves_the_one_that_is_open() -> None:
    world = scheduled("patient")
    minutes(world, 1)
    (at_ms,), (open_id,) = instants(world), started_ids(world)
    tell(world, "backfill", start_at_ms=at_ms, end_at_ms=at_ms, overlap="allow_all")
    assert started_ids(world) == [open_id] * 2
    assert state(world)["running"] == [open_id]
    assert [each["status"] for each in state(world)["recent"]] == ["running", "refused"]
    minutes(world, 2)
    assert state(world)["skipped"] == 2
    world.signal("end", id=open_id)
    world.settle()
    assert state(world)["running"] == []


def test_a_schedule_from_before_goes_on_as_it_decided_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "FLAGS", (FIRST, STREAMS))
    world = scheduled("patient", paused=True)
    monkeypatch.undo()
    trigger_twice(world)
    tell(world, "trigger")
    assert len(set(started_ids(world))) < len(started_ids(world))
    world.restart()
    world.settle()
    tell(world, "unpause")
    minutes(world, 1)
    assert "RunBlocked" not in world.names(ID)


def test_a_backfill_takes_the_range_by_its_own_policy() -> None:
    world = scheduled(paused=True)
    now_ms = world.store.now_ms()
    day_ago = now_ms - 24 * 60 * MINUTE
    end = day_ago + 99 * MINUTE
    tell(world, "backfill", start_at_ms=day_ago, end_at_ms=end, overlap="buffer_all")
    found = instants(world)
    assert is_every_minute(found)
    assert len(found) in (99, 100)
    assert day_ago <= found[0] <= found[-1] <= end


def test_an_update_replaces_the_spec_from_now_on() -> None:
    world = scheduled()
    minutes(world, 2)
    hourly = made(spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(timedelta(hours=1))]))
    tell(world, "update", schedule=hourly.as_json(PydanticCodec()))
    minutes(world, 180)
    assert len(instants(world)) == 2 + 3


def test_a_bad_command_is_on_record_and_changes_nothing() -> None:
    world = scheduled()
    bad = made().as_json(PydanticCodec())
    bad["spec"] = {"crons": ["61 * * * *"]}
    tell(world, "update", schedule=bad)
    tell(world, "backfill", start_at_ms=9, end_at_ms=1)
    tell(world, "dance")
    reasons = [one.reason for one in world.events(ID) if isinstance(one, e.SignalRejected)]
    assert len(reasons) == 3
    assert "61 * * * *" in reasons[0]
    minutes(world, 1)
    assert len(instants(world)) == 1


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"args": 5}, "args are a int; a list is wanted"),
        ({"args": "x"}, "args are a str; a list is wanted"),
        ({"kwargs": [1]}, "kwargs are no mapping"),
        ({"kwargs": "x"}, "kwargs are no mapping"),
    ],
    ids=str,
)
def test_an_action_that_could_never_begin_is_refused(part: dict[str, Json], reason: str) -> None:
    world = scheduled()
    bad: Any = made().as_json(PydanticCodec())
    bad["action"] |= part
    tell(world, "update", schedule=bad)
    (rejected,) = [one for one in world.events(ID) if isinstance(one, e.SignalRejected)]
    assert reason in rejected.reason
    minutes(world, 1)
    assert len(instants(world)) == 1


def test_a_deleted_schedule_leaves_its_runs_alone() -> None:
    world = scheduled("patient")
    minutes(world, 1)
    tell(world, "delete")
    assert world.status(ID) == "completed"
    assert world.status(started_ids(world)[0]) == "running"


def test_a_schedule_goes_on_as_new_before_its_history_grows_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.core.schedule.HISTORY_EVENTS_SUGGESTED", 60)
    world = scheduled("quick")
    minutes(world, 300)
    run = int(world.row(ID)["run"])
    assert run > 2
    assert state(world)["actions"] == 300
    assert state(world)["missed"] == 0
    due = [at for number in range(1, run + 1) for at in _instants_of(world, number)]
    assert due == sorted(set(due))
    assert len(due) == 300
    world.check_chain(ID, run)


def test_a_run_that_is_open_when_its_schedule_goes_on_still_counts_as_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.core.schedule.HISTORY_EVENTS_SUGGESTED", 8)
    world = scheduled("patient", pause_on_failure=True)
    minutes(world, 120)
    assert int(world.row(ID)["run"]) > 1
    (running,) = state(world)["running"]
    assert state(world)["actions"] == 1
    world.signal("end", id=running)
    world.settle()
    assert state(world)["running"] == []
    minutes(world, 1)
    assert state(world)["actions"] == 2


def _instants_of(world: World, run: int) -> list[int]:
    return [
        int(str(event.scheduled["at_ms"]))
        for event in world.events(ID, run)
        if isinstance(event, e.ChildScheduled)
    ]
