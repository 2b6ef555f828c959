"""LE1 to LE4: a run knows the last result of its schedule, and the failure just before it."""

from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import workflow
from orchestrator.client.schedules import schedule_definition
from orchestrator.core import events as e
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.errors import ApplicationError, ExternalWorkflowError
from orchestrator.core.limits import INLINE_BYTES_MAX, LAST_FAILURE_BYTES_MAX
from orchestrator.core.replay import replay
from orchestrator.core.retry import Retry
from orchestrator.core.schedule import SCHEDULE_TYPE
from orchestrator.core.values import Json, loads
from orchestrator.payloads import PydanticCodec
from tests.engine.test_schedules import ID, made, minutes, started_ids, state, tell
from tests.engine.world import World


class Cursor(BaseModel):
    """What one run leaves to the next."""

    position: int


def known() -> list[Any]:
    """Return what a run is told: whether there is a result, which, and the failure's message."""
    failure = workflow.last_failure()
    found = workflow.last_completion_result()
    return [workflow.has_last_completion_result(), found, failure and failure.message]


async def told() -> Any:
    """End as its signal says, and publish what it was told."""
    workflow.publish(known())
    how, value = await workflow.signal("end")
    if how == "fails":
        raise ApplicationError(value, "Busy", details=["x"])
    if how == "goes on":
        workflow.continue_as_new()
    return value


async def walk() -> Cursor:
    last = workflow.last_completion_result(Cursor)
    return Cursor(position=1 if last is None else last.position + 1)


async def loud() -> None:
    try:
        raise ApplicationError("deep", details=["y" * (LAST_FAILURE_BYTES_MAX // 2)])
    except ApplicationError as cause:
        details = ["z" * (LAST_FAILURE_BYTES_MAX // 2)]
        raise ApplicationError("loud", "Loud", details=details) from cause


async def stubborn() -> Any:
    workflow.publish(known())
    await workflow.signal("go")
    if workflow.info().attempt < 3:
        raise ApplicationError(f"attempt {workflow.info().attempt}")
    return known()


async def family(part: int = 1) -> None:
    if part == 1:
        await workflow.child("told", id="child")
        with suppress(ExternalWorkflowError):
            await workflow.external("other").result()
        workflow.continue_as_new(2)


def scheduled(name: str = "told", **policy: Any) -> World:
    world = World(told, walk, loud, stubborn, schedule_definition(PydanticCodec()))
    config = made(name, **policy).as_json(PydanticCodec())
    world.start(SCHEDULE_TYPE, "s", config, id=ID)
    world.settle()
    return world


def end(world: World, run_id: str, how: str, value: Json = None) -> None:
    world.signal("end", [how, value], id=run_id)
    world.settle()


def first(world: World, run_id: str, run: int = 1) -> e.RunStarted:
    started = world.events(run_id, run)[0]
    assert isinstance(started, e.RunStarted)
    return started


def said(world: World, run_id: str, run: int = 1) -> list[Any]:
    started = first(world, run_id, run)
    failure = started.last_failure.get("message")
    return [started.has_last_result, started.last_result, failure]


def test_first_run_of_a_schedule_knows_of_none_before_it() -> None:
    world = scheduled()
    minutes(world, 1)
    (run_id,) = started_ids(world)
    assert said(world, run_id) == [False, None, None]
    world.start("told", id="alone")
    world.settle()
    assert said(world, "alone") == [False, None, None]


def test_result_is_carried_over_failures_and_the_failure_is_that_of_the_latest_run() -> None:
    world = scheduled()
    ends: list[tuple[str, Json]] = [
        ("fails", "a"),
        ("completes", 1),
        ("fails", "b"),
        ("fails", "c"),
        ("completes", None),
    ]
    for how, value in [*ends, ("completes", 2)]:
        minutes(world, 1)
        end(world, started_ids(world)[-1], how, value)
    assert [said(world, one) for one in started_ids(world)] == [
        [False, None, None],
        [False, None, "a"],
        [True, 1, None],
        [True, 1, "b"],
        [True, 1, "c"],
        [True, None, None],
    ]
    world.check_chain(ID)


def test_code_sees_what_the_start_says_as_the_declared_type() -> None:
    world = scheduled("walk")
    minutes(world, 4)
    assert [world.result(one) for one in started_ids(world)] == [
        {"position": position} for position in (1, 2, 3, 4)
    ]


def test_code_sees_the_same_for_as_long_as_the_run_goes_on_and_in_a_replay() -> None:
    world = scheduled(overlap="allow_all")
    minutes(world, 2)
    one, two = started_ids(world)
    end(world, one, "completes", 1)
    minutes(world, 1)
    third = started_ids(world)[-1]
    end(world, two, "fails", "no")
    world.restart()
    minutes(world, 1)
    assert world.row(third)["state"] == "[true,1,null]"
    assert said(world, started_ids(world)[-1]) == [True, 1, "no"]
    end(world, third, "completes", 3)
    replayed = replay(world.registry["told"], third, 1, world.events(third))
    assert replayed.execution.published == [True, 1, None]
    replayed.execution.close()


def test_runs_that_overlap_leave_the_result_of_the_one_that_completed_last() -> None:
    world = scheduled(overlap="allow_all")
    minutes(world, 3)
    one, two, three = started_ids(world)
    for run_id in (two, three, one):
        end(world, run_id, "completes", run_id)
    minutes(world, 1)
    assert said(world, started_ids(world)[-1]) == [True, one, None]


@pytest.mark.parametrize("overlap", ["cancel_other", "terminate_other"])
def test_runs_that_were_stopped_change_neither(overlap: str) -> None:
    world = scheduled(overlap=overlap)
    minutes(world, 1)
    end(world, started_ids(world)[-1], "completes", 1)
    minutes(world, 1)
    end(world, started_ids(world)[-1], "fails", "no")
    minutes(world, 2)
    assert [said(world, one) for one in started_ids(world)[2:]] == [[True, 1, "no"]] * 2


def test_start_that_waits_in_the_buffer_is_told_of_the_run_it_waited_for() -> None:
    world = scheduled(overlap="buffer_all")
    minutes(world, 2)
    end(world, started_ids(world)[0], "completes", 1)
    assert said(world, started_ids(world)[1]) == [True, 1, None]


def test_schedule_that_goes_on_as_new_remembers_and_hears_of_the_runs_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.core.schedule.HISTORY_EVENTS_SUGGESTED", 8)
    world = scheduled()
    minutes(world, 1)
    end(world, started_ids(world)[-1], "completes", 1)
    minutes(world, 1)
    end(world, state(world)["running"][0], "fails", "no")
    minutes(world, 120)
    assert int(world.row(ID)["run"]) > 1
    assert said(world, ID, int(world.row(ID)["run"])) == [True, 1, "no"]
    (running,) = state(world)["running"]
    assert said(world, running) == [True, 1, "no"]
    awaited = [
        event.id
        for event in world.events(ID, int(world.row(ID)["run"]))
        if isinstance(event, e.ExternalResultAwaited)
    ]
    assert awaited == [running]
    end(world, running, "completes", 2)
    minutes(world, 1)
    assert said(world, state(world)["running"][0]) == [True, 2, None]


def test_large_result_is_handed_on_by_reference_and_read_as_it_is() -> None:
    world, value = scheduled(), "x" * (INLINE_BYTES_MAX + 1)
    minutes(world, 1)
    end(world, started_ids(world)[-1], "completes", value)
    world.restart()
    minutes(world, 1)
    run_id = started_ids(world)[-1]
    assert find_blob_ref(first(world, run_id).last_result) is not None
    world.restart()
    end(world, run_id, "fails", "no")
    assert loads(world.row(run_id)["state"]) == [True, value, None]


def test_failure_is_handed_on_without_what_is_too_large_for_a_start() -> None:
    world = scheduled("loud")
    minutes(world, 2)
    failure = first(world, started_ids(world)[-1]).last_failure
    assert failure["type"] == "Loud"
    assert str(failure["message"]).startswith("loud (details and causes left out")
    assert failure.keys() == {"type", "message"}


def test_failure_is_handed_on_with_its_details_but_without_tracebacks() -> None:
    world = scheduled()
    minutes(world, 1)
    end(world, started_ids(world)[-1], "fails", "no")
    minutes(world, 1)
    failure = first(world, started_ids(world)[-1]).last_failure
    assert failure == {"type": "Busy", "message": "no", "details": ["x"]}


def test_attempt_knows_the_failure_of_the_attempt_before_it_and_the_last_result() -> None:
    world = World(stubborn)
    policy = Retry(attempts=3).as_json()
    world.start("stubborn", retry=policy, last_result=7)
    for _ in range(3):
        world.settle()
        world.signal("go")
        world.settle()
        world.advance(60_000)
    world.settle()
    assert world.result() == [True, 7, "attempt 2"]
    assert [said(world, "w", run)[2] for run in (1, 2, 3)] == [None, "attempt 1", "attempt 2"]


def test_run_that_goes_on_as_new_knows_what_the_run_before_it_knew() -> None:
    world = scheduled()
    minutes(world, 1)
    end(world, started_ids(world)[-1], "completes", 1)
    minutes(world, 1)
    end(world, started_ids(world)[-1], "fails", "no")
    minutes(world, 1)
    run_id = started_ids(world)[-1]
    end(world, run_id, "goes on")
    assert said(world, run_id, 2) == [True, 1, "no"]
    end(world, run_id, "completes", 2)
    minutes(world, 1)
    assert said(world, started_ids(world)[-1]) == [True, 2, None]


def test_what_a_run_hears_of_others_is_not_what_the_run_after_it_is_told() -> None:
    world = World(told, family)
    world.start("told", id="other")
    world.start("family")
    world.settle()
    for run_id, how in (("child", "completes"), ("other", "fails")):
        end(world, run_id, how, "theirs")
    assert world.names()[-1] == "RunContinuedAsNew"
    assert said(world, "w", 2) == [False, None, None]


def test_run_left_open_that_is_asked_to_stop_has_not_completed_by_hearing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.core.schedule.HISTORY_EVENTS_SUGGESTED", 8)
    world = scheduled()
    minutes(world, 120)
    (running,) = state(world)["running"]
    config = made("told", overlap="cancel_other").as_json(PydanticCodec())
    tell(world, "update", schedule=config)
    minutes(world, 1)
    assert world.status(running) == "cancelled"
    assert said(world, state(world)["running"][0]) == [False, None, None]
