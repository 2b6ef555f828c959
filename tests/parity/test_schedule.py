"""Schedules, by the names of Temporal's own tests: client and engine together, in one process."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from pydantic import BaseModel

from orchestrator import (
    ApplicationError,
    Orchestrator,
    RunExists,
    RunNotFound,
    Schedule,
    ScheduleAction,
    ScheduleIntervalSpec,
    ScheduleSpec,
    workflow,
)
from orchestrator.client.schedules import ScheduleDescription
from orchestrator.core.errors import InvalidPayload, RunClosed
from orchestrator.store.clocks import ManualClock
from orchestrator.store.memory import MemoryStore

TRIES = 400


async def job(number: int) -> int:
    return number


class Sum(BaseModel):
    total: int = 0
    failures: int = 0


async def count() -> Sum:
    """Add to what the last run returned; the second one fails."""
    last, failure = workflow.last_completion_result(Sum) or Sum(), workflow.last_failure()
    if last.total == 1 and failure is None:
        raise ApplicationError("no")
    return Sum(total=last.total + 1, failures=last.failures + (failure is not None))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def orc(clock: ManualClock) -> Iterator[Orchestrator]:
    app = Celery("jobs", broker="memory://", set_as_current=False)
    orc = Orchestrator(app, store=MemoryStore(clock=clock))
    orc.workflow(job)
    orc.workflow(count)
    stop = threading.Event()
    thread = threading.Thread(target=orc.engine().run, args=(stop,))
    thread.start()
    yield orc
    stop.set()
    thread.join()
    app.close()


def made(orc: Orchestrator, spec: ScheduleSpec, **policy: Any) -> Schedule:
    action = ScheduleAction(workflow=orc.get_workflow("job"), args=[7], id="job")
    return Schedule(action=action, spec=spec, **policy)


HOURLY = ScheduleSpec(intervals=[ScheduleIntervalSpec(timedelta(hours=1))])


def until(
    orc: Orchestrator, is_so: Callable[[ScheduleDescription], bool], clock: ManualClock, ms: int = 0
) -> ScheduleDescription:
    """Return the schedule once `is_so`; the clock moves by `ms` at each look."""
    pause = threading.Event()
    for _ in range(TRIES):
        found = orc.schedule("s").describe()
        if found.schedule is not None and is_so(found):
            return found
        clock.advance(ms)
        pause.wait(0.02)
    raise AssertionError(f"it never came: {found}")


def test_basic(orc: Orchestrator, clock: ManualClock) -> None:
    handle = orc.schedule("s")
    handle.create(made(orc, HOURLY, note="first"))
    found = until(orc, lambda one: bool(one.next), clock)
    assert found.schedule is not None
    assert (found.schedule.note, found.schedule.overlap) == ("first", "skip")
    assert [one.id for one in orc.schedules()] == ["s"]
    assert handle.next(3)[1] - handle.next(3)[0] == timedelta(hours=1)
    handle.update(made(orc, HOURLY, note="second", overlap="allow_all"))
    until(orc, lambda one: one.schedule is not None and one.schedule.note == "second", clock)
    until(orc, lambda one: one.counts["actions"] >= 2, clock, 60_000)
    assert orc.run(found.next[0].strftime("job-%Y-%m-%dT%H:%M:%SZ")).result(30) == 7
    handle.delete()
    for _ in range(TRIES):
        if orc.run("orc-schedule:s").status() == "completed":
            break
        threading.Event().wait(0.02)
    assert orc.schedules() == []
    with pytest.raises(RunClosed):
        handle.pause()
    with pytest.raises(RunNotFound):
        orc.schedule("other").describe()


def test_cron(orc: Orchestrator, clock: ManualClock) -> None:
    orc.schedule("s").create(made(orc, ScheduleSpec(crons=["30 12 * * MON-FRI"])))
    found = until(orc, lambda one: bool(one.next), clock)
    assert {(at.hour, at.minute) for at in found.next} == {(12, 30)}
    assert {at.weekday() for at in found.next} == {0, 1, 2, 3, 4}


def test_duplicate_error(orc: Orchestrator) -> None:
    orc.schedule("s").create(made(orc, HOURLY))
    with pytest.raises(RunExists, match="orc-schedule:s"):
        orc.schedule("s").create(made(orc, HOURLY))


def test_input_that_does_not_fit_the_workflow_makes_no_schedule(orc: Orchestrator) -> None:
    action = ScheduleAction(workflow=orc.get_workflow("job"), args=["seven"])
    with pytest.raises(InvalidPayload):
        orc.schedule("s").create(Schedule(action=action, spec=HOURLY))
    assert orc.schedules() == []


def test_pause(orc: Orchestrator, clock: ManualClock) -> None:
    handle = orc.schedule("s")
    handle.create(made(orc, HOURLY, paused=True, note="not yet"))
    found = until(orc, lambda one: True, clock)
    assert found.schedule is not None
    assert (found.schedule.paused, found.schedule.note) == (True, "not yet")
    handle.unpause("now")
    until(orc, lambda one: one.schedule is not None and not one.schedule.paused, clock)
    handle.pause("enough")
    found = until(orc, lambda one: one.schedule is not None and one.schedule.paused, clock)
    assert found.schedule is not None
    assert found.schedule.note == "enough"


def test_trigger(orc: Orchestrator, clock: ManualClock) -> None:
    handle = orc.schedule("s")
    handle.create(made(orc, HOURLY, paused=True))
    handle.trigger()
    found = until(orc, lambda one: one.counts["actions"] == 1, clock)
    assert orc.run(found.recent[0]["id"]).result(30) == 7


def test_run_knows_the_last_result_and_failure_of_its_schedule(
    orc: Orchestrator, clock: ManualClock
) -> None:
    action = ScheduleAction(workflow=orc.get_workflow("count"))
    handle = orc.schedule("s")
    handle.create(Schedule(action=action, spec=HOURLY, paused=True))
    for number in range(1, 5):
        clock.advance(1_000)
        handle.trigger()
        found = until(orc, lambda one, to=number: _ended(one) == to, clock)  # type: ignore[misc]
    assert [one["status"] for one in found.recent] == ["completed", "failed"] + ["completed"] * 2
    last = orc.run(found.recent[-1]["id"]).result(30)
    assert last == Sum(total=3, failures=1)


def _ended(found: ScheduleDescription) -> int:
    return sum(one["status"] != "running" for one in found.recent)


def test_backfill(orc: Orchestrator, clock: ManualClock) -> None:
    handle = orc.schedule("s")
    handle.create(made(orc, HOURLY, paused=True))
    first = datetime(2024, 2, 28, 22, tzinfo=UTC)
    handle.backfill(first, first + timedelta(hours=4), "allow_all")
    found = until(orc, lambda one: one.counts["actions"] == 5, clock)
    assert [one["id"] for one in found.recent] == [
        f"job-2024-02-{day}T{hour:02d}:00:00Z"
        for day, hour in [(28, 22), (28, 23), (29, 0), (29, 1), (29, 2)]
    ]
