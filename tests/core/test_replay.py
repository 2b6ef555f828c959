"""P3: same history and same code give the same commands; disagreement shows both sides."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core.blobs import BlobRef
from orchestrator.core.errors import ActivationFailed, NondeterminismError
from orchestrator.core.events import (
    Event,
    RunBlocked,
    RunCompleted,
    RunTerminated,
    RunUnblocked,
    StepAttemptFailed,
    StepCompleted,
    StepRetried,
    StepScheduled,
    TerminateRequested,
    TimerFired,
)
from orchestrator.core.failure import Failure
from orchestrator.core.replay import Replayed, replay
from orchestrator.core.retry import Retry
from orchestrator.core.saga import Saga
from orchestrator.core.values import canonical, digest
from tests.core.driver import Driver, define, kinds

Drive = Callable[..., Driver]


def replayed_as(function: Callable[..., Awaitable[Any]], history: list[Event]) -> Replayed:
    return replay(define(function), "w-1", 1, history)


def disagreement(
    function: Callable[..., Awaitable[Any]], history: list[Event]
) -> NondeterminismError:
    with pytest.raises(NondeterminismError) as caught:
        replayed_as(function, history)
    return caught.value


async def order() -> str:
    await workflow.step("reserve", 1)
    await workflow.sleep(timedelta(seconds=5))
    return str(await workflow.step("charge", 2))


def recorded(drive: Drive) -> list[Event]:
    run = drive(order)
    run.complete(1)
    run.fire(1)
    return run.history


def test_replay_stands_where_the_history_ends_and_goes_on(drive: Drive) -> None:
    replayed = replayed_as(order, recorded(drive))
    assert replayed.pending == []
    assert replayed.execution.replaying is False
    (ended,) = replayed.execution.apply(StepCompleted(at_ms=9, step=2, attempt=1, result="ok"))
    assert ended == RunCompleted(at_ms=9, result="ok")


def test_renamed_step_is_refused_with_both_names(drive: Drive) -> None:
    async def changed() -> None:
        await workflow.step("reserve", 1)
        await workflow.sleep(5)
        await workflow.step("bill", 2)

    error = disagreement(changed, recorded(drive))
    assert "task='charge'" in error.recorded
    assert "task='bill'" in error.issued
    assert "differs in task" in error.issued
    assert error.seq == 6
    assert "test_replay.py:" in error.where


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("reserve", 9), "args_digest"),
        (("book", 1), "task"),
    ],
)
def test_a_changed_argument_is_refused(drive: Drive, changed: Any, says: str) -> None:
    async def other() -> None:
        await workflow.step(*changed)

    error = disagreement(other, recorded(drive))
    assert says in error.issued.partition("differs in")[2]


def test_a_changed_duration_is_refused(drive: Drive) -> None:
    async def slower() -> None:
        await workflow.step("reserve", 1)
        await workflow.sleep(6)

    error = disagreement(slower, recorded(drive))
    assert "duration_ms=5000" in error.recorded
    assert "duration_ms=6000" in error.issued


def test_changed_order_is_refused(drive: Drive) -> None:
    async def sleepy() -> None:
        await workflow.sleep(5)
        await workflow.step("reserve", 1)

    error = disagreement(sleepy, recorded(drive))
    assert error.recorded.startswith("StepScheduled(")
    assert error.issued.startswith("TimerStarted(")


def test_removed_step_is_refused(drive: Drive) -> None:
    async def shorter() -> None:
        await workflow.step("reserve", 1)
        await asyncio.Event().wait()

    error = disagreement(shorter, recorded(drive))
    assert "TimerStarted" in error.recorded
    assert error.issued == "nothing more"
    assert "test_replay.py:" in error.where, "where the code waits instead"


def test_an_added_step_is_refused(drive: Drive) -> None:
    async def longer() -> None:
        await asyncio.gather(order(), workflow.step("extra"))

    error = disagreement(longer, recorded(drive)[:2])
    assert error.recorded == "its end"
    assert "task='extra'" in error.issued


def test_workflow_cannot_swallow_the_refusal(drive: Drive) -> None:
    async def greedy() -> str:
        try:
            await workflow.step("something else")
        except BaseException:
            return "swallowed"
        return "fine"

    assert "something else" in disagreement(greedy, recorded(drive)).issued


def test_what_is_untold_may_change(drive: Drive) -> None:
    async def tuned() -> None:
        await workflow.step("reserve", 1, retry=Retry(attempts=9), queue="fast")

    replayed_as(tuned, recorded(drive)[:2])


def test_payloads_are_shown_as_digests_only(drive: Drive) -> None:
    async def secretive() -> str:
        return "secret two"

    history = [*recorded(drive)[:1], RunCompleted(at_ms=1, result="secret one")]
    assert "secret" not in str(disagreement(secretive, history))


def test_a_large_result_is_compared_by_its_digest(drive: Drive) -> None:
    async def large() -> str:
        return "x" * 100

    start = recorded(drive)[0]
    value = "x" * 100
    ref = BlobRef(sha256=digest(value), size=len(canonical(value)))
    replayed_as(large, [start, RunCompleted(at_ms=1, result=ref.as_json())])
    other = replace(ref, sha256=digest("y"))
    disagreement(large, [start, RunCompleted(at_ms=1, result=other.as_json())])


def test_notes_are_passed_over(drive: Drive) -> None:
    history = recorded(drive)
    failure = Failure(type="Boom", message="")
    notes = [
        StepAttemptFailed(
            at_ms=1, step=1, attempt=1, kind="failed", failure=failure, retry_at_ms=2
        ),
        StepRetried(at_ms=2, step=1, attempt=2),
    ]
    replayed_as(order, [*history[:2], *notes, *history[2:]])


def test_a_history_that_ends_blocked_hands_out_what_is_not_recorded(drive: Drive) -> None:
    history = recorded(drive)
    start, step, done = history[:3]
    blocked = RunBlocked(at_ms=2, kind="bug", message="KeyError")
    replayed = replayed_as(order, [start, step, done, blocked])
    assert kinds(replayed.pending) == ["TimerStarted"]
    assert replayed.pending[0].at_ms == done.at_ms
    disagreement(order, [start, step, done])


def test_commands_of_blocked_inputs_follow_when_the_run_moves_again(drive: Drive) -> None:
    async def parallel() -> None:
        await asyncio.gather(*(chain(name) for name in "ab"))

    async def chain(name: str) -> None:
        await workflow.step(f"{name}1")
        await workflow.step(f"{name}2")

    run = drive(parallel)
    (a2,), (b2,) = run.complete(1), run.complete(2)
    start, a1, b1, a1_done, _, b1_done, _ = run.history
    blocked = RunBlocked(at_ms=5, kind="bug", message="x")
    history = [start, a1, b1, a1_done, blocked, b1_done, RunUnblocked(at_ms=6), a2, b2]
    assert replayed_as(parallel, history).pending == []
    disagreement(parallel, [*history[:-2], b2, a2])


def test_code_that_breaks_in_replay_is_reported_as_what_it_is(drive: Drive) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ActivationFailed, match="ZeroDivisionError"):
        replayed_as(broken, recorded(drive))


def test_a_history_begins_with_its_start(drive: Drive) -> None:
    for history in ([], recorded(drive)[1:]):
        with pytest.raises(ValueError, match="RunStarted"):
            replayed_as(order, history)


def test_a_finished_history_replays_to_a_finished_execution(drive: Drive) -> None:
    run = drive(order)
    for commands in (run.complete(1), run.fire(1), run.complete(2, "ok")):
        assert commands
    replayed = run.replayed()
    assert replayed.execution.is_finished
    assert replayed.pending == []


def test_source_lines_are_noted_only_while_replaying(drive: Drive) -> None:
    run = drive(order)
    assert run.execution.places == []
    replayed = run.replayed()
    assert replayed.execution.places != []
    replayed.execution.apply(StepCompleted(at_ms=9, step=1, attempt=1))
    assert replayed.execution.places == []


def test_a_command_of_the_cores_own_has_no_source_line(drive: Drive) -> None:
    async def doomed() -> None:
        async with Saga() as saga:
            await saga.step("a", undo="undo_a")

    run = drive(doomed)
    run.execution.replaying = True
    run.terminate()
    assert [place is None for place in run.execution.places] == [True]
    run.complete(1)
    assert run.execution.places == [None, None], "not even the caller of the engine's"
    run.execution.replaying = False


def test_a_compensation_replays_although_no_line_of_code_asks_for_it(drive: Drive) -> None:
    async def doomed() -> None:
        async with Saga() as saga:
            await saga.step("a", undo="undo_a")
            await saga.step("b")

    run = drive(doomed)
    run.complete(1)
    run.fail(2)
    history = [
        replace(event, task="renamed")
        if isinstance(event, StepScheduled) and event.compensates
        else event
        for event in run.history
    ]
    assert "task='undo_a'" in disagreement(doomed, history).issued


def test_a_run_that_was_terminated_while_blocked_ended_without_its_code(drive: Drive) -> None:
    async def flow() -> None:
        await workflow.sleep(1)
        await workflow.step("job")

    run = drive(flow)
    started, timer = run.history
    blocked = RunBlocked(at_ms=run.now_ms, kind="bug", message="oops")
    fired = TimerFired(at_ms=run.now_ms + 1000, timer=1)
    asked = TerminateRequested(at_ms=run.now_ms + 1000, reason="enough")
    ended = RunTerminated(at_ms=run.now_ms + 1000, reason="terminated while blocked")
    run.history = [started, timer, blocked, fired, asked, ended]
    replayed = run.replayed()
    assert kinds(replayed.pending)[0] == "StepScheduled"
    replayed.execution.close()
