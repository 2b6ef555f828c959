"""RT2, DL3 and what a reset means for clocks, versions, parked runs and those who wait."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core import resetting
from orchestrator.core.errors import ApplicationError, ResetRefused, StepTimeout
from orchestrator.core.failure import Failure
from orchestrator.core.replay import replay
from orchestrator.core.retry import Retry
from orchestrator.core.values import Json
from orchestrator.store.ports import AttemptKey, Kind
from tests.engine.resetting import (
    begin_from,
    check,
    check_cut,
    number_of,
    order,
    paid_until_charged,
    reset,
    world_of,
)
from tests.engine.world import QUEUE, World, definition

MINUTE_MS = 60_000


async def patient() -> str:
    await workflow.step("price", 1)
    await workflow.signal("on")
    return "done"


@pytest.mark.parametrize("timeout", ["run_timeout_ms", "execution_timeout_ms"])
@pytest.mark.parametrize("at", [1, 3], ids=["anew", "copied"])
def test_deadlines_stand_still_between_the_event_and_the_reset(timeout: str, at: int) -> None:
    world = world_of(patient)
    said: Any = {timeout: MINUTE_MS}
    world.start("patient", **said)
    world.settle()
    world.advance(MINUTE_MS - 1)
    reset(world, at)
    world.advance(MINUTE_MS - 1)
    world.settle()
    assert (world.row()["run"], world.status()) == ("2", "running")
    world.advance(1)
    world.settle()
    assert world.status() == "failed"
    check(world)


def test_run_that_timed_out_is_reset_and_has_its_time_again() -> None:
    world = world_of(patient)
    world.start("patient", run_timeout_ms=MINUTE_MS)
    world.settle()
    world.advance(MINUTE_MS)
    world.settle()
    assert world.status() == "failed"
    begin_from(world, 3)
    assert world.status() == "running"
    world.advance(MINUTE_MS)
    world.settle()
    assert world.status() == "failed"


def test_what_is_ordered_anew_counts_from_the_reset() -> None:
    async def napping() -> str:
        await workflow.signal("on")
        await workflow.sleep(timedelta(minutes=1))
        return "rested"

    world = world_of(napping)
    world.start("napping")
    world.settle()
    world.signal("on")
    world.settle()
    world.advance(MINUTE_MS - 1)
    reset(world, number_of(world, e.SignalReceived))
    world.advance(MINUTE_MS - 1)
    world.settle()
    assert world.status() == "running"
    world.advance(1)
    world.settle()
    assert world.result() == "rested"


def test_version_and_attempt_are_those_of_the_run_that_was_reset() -> None:
    async def trying() -> list[Json]:
        await workflow.step("price", 1)
        await workflow.signal("on")
        if workflow.info().attempt == 1:
            raise ApplicationError("again", "Busy")
        await workflow.signal("on")
        return [workflow.info().version, workflow.info().attempt]

    world = world_of(definition(trying, version="7"))
    policy = Retry(attempts=3, initial=timedelta(0)).as_json()
    world.start("trying", retry=policy, version="7")
    world.settle()
    world.signal("on")
    world.settle()
    assert world.row()["run"] == "2"
    for run, at in ((2, 3), (3, 1)):
        reset(world, at, run=run, request=f"q{run}")
        assert world.row()["run"] == str(run + 1)
        assert world.row()["version"] == "7"
        assert world.row()["start"] == ""
    for _ in range(2):
        world.signal("on")
        world.settle()
    assert world.result() == ["7", 2]
    started = world.events("w", 4)[0]
    assert isinstance(started, e.RunStarted)
    assert started.is_pinned
    check(world)


async def buggy(number: str) -> list[Any]:
    first = await workflow.signal("on")
    if first == "bad":
        raise RuntimeError("a bug")
    return [number, first, await workflow.signal("on")]


async def mended(number: str) -> list[Any]:
    return [number, await workflow.signal("on"), await workflow.signal("on")]


def blocked_with_mail() -> Any:
    world = world_of(definition(buggy, name="moody"))
    world.start("moody", "7")
    world.settle()
    world.signal("on", "bad")
    world.signal("on", "good")
    world.settle()
    assert world.names()[-2:] == ["RunBlocked", "SignalReceived"]
    return world


def test_prefix_that_ends_blocked_rests_until_code_fits_also_after_a_take_over() -> None:
    world = blocked_with_mail()
    begin = number_of(world, e.RunBlocked)
    reset(world, begin)
    assert (world.row()["run"], world.status()) == ("2", "blocked")
    partitions = range(world.store.partitions)
    assert [str(key) for p in partitions for key in world.store.list_blocked(p)] == ["w.2"]
    world.deploy(definition(mended, name="moody"))
    world.restart()
    world.settle()
    assert world.result() == ["7", "bad", "good"]


def test_prefix_that_ends_blocked_moves_at_once_where_code_fits_now() -> None:
    world = blocked_with_mail()
    world.deploy(definition(mended, name="moody"))
    reset(world, number_of(world, e.RunBlocked))
    assert world.result() == ["7", "bad", "good"]
    assert "RunUnblocked" in world.names("w", 2)
    world.check_chain("w", 2)
    assert replay(world.registry["moody"], "w", 2, world.events("w", 2)).pending == []


def test_step_that_follows_from_what_is_given_again_is_sent_once() -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    world.signal("approve", "ana")
    world.settle()
    at = number_of(world, e.SignalReceived)
    world.post(Kind.RESET, {"run": 1, "event": at, "request_id": "q"})
    world.turn()
    assert len(world.store.queues[QUEUE]) == 1


def test_step_that_waits_for_a_retry_and_is_held_waits_on() -> None:
    async def held() -> Any:
        policy = Retry(initial=timedelta(minutes=1), interval_max=timedelta(minutes=1))
        tried = asyncio.create_task(workflow.step.options(retry=policy)("flaky"))
        await workflow.signal("on")
        return await tried

    world = world_of(held)
    world.tasks["flaky"] = lambda: 1 // 0
    world.start("held")
    world.settle()
    world.post(Kind.DECISION, {"step": 1, "decision": "pause", "reason": "wait"})
    world.settle()
    reset(world, number_of(world, e.StepPaused))
    world.advance(2 * MINUTE_MS)
    world.settle()
    assert len(world.ran) == 1
    world.tasks["flaky"] = lambda: "done"
    world.post(Kind.DECISION, {"step": 1, "decision": "unpause"})
    world.signal("on")
    world.settle()
    assert world.result() == "done"
    check(world)


async def limited() -> Any:
    """A step that has an hour for all of its attempts, and nobody to look after one of them."""
    minute = timedelta(minutes=1)
    tried = asyncio.create_task(
        workflow.step(
            "flaky",
            retry=Retry(attempts=5, initial=minute, interval_max=minute),
            schedule_to_close=timedelta(hours=1),
        )
    )
    await workflow.signal("on")
    try:
        return await tried
    except StepTimeout:
        return "timed out"


def ten_minutes_later(*, in_back_off: bool) -> World:
    """Return a world whose run took a signal ten minutes after its step was ordered."""
    world = world_of(limited)
    world.start("limited")
    world.turn()
    message = world.pop()
    assert message
    world.advance(10 * MINUTE_MS)
    if in_back_off:
        world.claim(message)
        world.finish(message, {"kind": "failed", "failure": {"type": "T", "message": "m"}})
    world.signal("on")
    world.turn()
    return world


@pytest.mark.parametrize("in_back_off", [False, True], ids=["scheduled", "back-off"])
@pytest.mark.parametrize("is_fork", [False, True], ids=["reset", "fork"])
def test_time_of_a_step_stands_still_between_the_event_and_the_new_run(
    *, in_back_off: bool, is_fork: bool
) -> None:
    world = ten_minutes_later(in_back_off=in_back_off)
    world.advance(24 * 60 * MINUTE_MS)
    world.tasks["flaky"] = lambda: 1 // 0
    at = number_of(world, e.SignalReceived)
    id, run = ("x", 1) if is_fork else ("w", 2)
    if is_fork:
        begin_from(world, at, id=id)
    else:
        reset(world, at)
    assert world.names(id, run)[-1] == "StepAttemptFailed"
    world.advance(2 * MINUTE_MS)
    world.turn()
    message = world.pop()
    assert message
    assert message["key"].startswith(f"{id}.{run}.")
    world.claim(message)
    world.store.detach(AttemptKey.parse(message["key"]), "worker/1")
    # The step was ordered with the last event that was copied, or ten minutes before it.
    left_ms = (50 if in_back_off else 60) * MINUTE_MS
    world.advance(left_ms - 2 * MINUTE_MS - 1)
    world.turn()
    assert world.status(id) == "running"
    world.advance(1)
    world.turn()
    assert world.result(id) == "timed out"
    check(world, id)


def test_step_that_was_cancelled_between_two_attempts_is_not_tried_again() -> None:
    async def unwanted() -> Any:
        tried = asyncio.create_task(workflow.step("flaky", retry=Retry(attempts=5)))
        await workflow.signal("on")
        tried.cancel()
        return await workflow.signal("off")

    world = world_of(unwanted)
    world.tasks["flaky"] = lambda: 1 // 0
    world.start("unwanted")
    world.settle()
    world.signal("on")
    world.settle()
    assert world.names()[-2:] == ["StepCancelRequested", "StepFailed"]
    reset(world, number_of(world, e.StepCancelRequested), signals=False)
    assert world.names("w", 2)[-2:] == ["HistoryCopied", "StepFailed"]
    assert len(world.ran) == 1
    world.signal("off", "done")
    world.settle()
    assert world.result() == "done"
    check(world)


def test_whoever_began_to_wait_behind_the_event_hears_of_the_end() -> None:
    async def reader() -> Any:
        return await workflow.external("w").result()

    world = world_of(patient, reader)
    world.start("patient")
    world.settle()
    world.start("reader", id="reader")
    world.settle()
    assert world.names()[-1] == "WatcherAdded"
    reset(world, number_of(world, e.StepCompleted))
    world.signal("on")
    world.settle()
    assert world.result("reader") == "done"


def test_signal_that_is_given_again_is_given_once() -> None:
    async def three() -> list[Any]:
        return [await workflow.signal("word") for _ in range(3)]

    world = world_of(three)
    world.start("three")
    world.settle()
    for word in ("a", "b"):
        world.signal("word", word)
        world.settle()
    reset(world, number_of(world, e.SignalReceived))
    assert world.names("w", 2).count("SignalReceived") == 2
    world.signal("word", "c")
    world.settle()
    assert world.result() == ["a", "b", "c"]


# --- what is refused -----------------------------------------------------------------------------


def test_step_that_certainly_never_ran_is_no_effect_nor_is_an_undoing() -> None:
    world = paid_until_charged()
    world.signal("go")
    world.signal("verdict", "no")
    world.settle()
    events = world.events()
    lost = resetting.lost_steps(resetting.cut_at(events, 1))
    assert [(one.task, one.is_effect) for one in lost] == [("reserve", False), ("charge", False)]
    no = Failure(type="Refused", message="no")
    failed = e.StepFailed(at_ms=0, step=1, attempt=1, kind="failed", failure=no, may_have_run=False)
    lost = resetting.lost_steps(resetting.cut_at([*events[:2], failed], 1))
    assert [(one.task, one.is_effect) for one in lost] == [("reserve", False)]


def test_end_and_middle_of_an_undoing_are_no_events_to_go_on_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = paid_until_charged()
    world.signal("go")
    world.signal("verdict", "no")
    world.settle()
    with pytest.raises(ResetRefused, match="that event is its end"):
        check_cut(world, len(world.events()))
    undoing = number_of(world, e.CompensationStarted) + 1
    middle = resetting.cut_at(world.events(), undoing + 1)
    with pytest.raises(ResetRefused, match="it undoes a saga"):
        resetting.check(middle, is_fork=True, despite_effects=True)
    monkeypatch.setattr(resetting, "COPIED_BYTES_MAX", 100)
    with pytest.raises(ResetRefused, match=r"have \d+ bytes, at most 100 can be copied"):
        check_cut(world, number_of(world, e.StepCompleted))
