"""A cancelled wait treats its step as the step's `cancellation` says, and the same when replayed.

Every run here is replayed by the `drive` fixture when its test ends: commands that differ are red.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core.errors import ActivationFailed, UsageError
from orchestrator.core.events import RunCancelled, RunCompleted, StepCancelRequested, StepScheduled
from orchestrator.core.options import StepOptions
from orchestrator.core.saga import Saga
from tests.core.driver import Driver, kinds, tasks_of

Drive = Callable[..., Driver]


def patient_about(cancellation: Any) -> Any:
    async def patient() -> None:
        try:
            await workflow.step("long", cancellation=cancellation)
        finally:
            await workflow.step("clean up")

    return patient


def test_try_asks_the_step_to_stop_and_goes_on_at_once(drive: Drive) -> None:
    run = drive(patient_about("try"))
    assert kinds(run.cancel("bye")) == ["StepCancelRequested", "StepScheduled"]
    assert run.complete(2) == [RunCancelled(at_ms=run.now_ms, reason="bye")]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_wait_asks_the_step_to_stop_and_waits_for_its_end(drive: Drive, end: str) -> None:
    run = drive(patient_about("wait"))
    assert kinds(run.cancel("bye")) == ["StepCancelRequested"]
    ended = run.complete(1, "done after all") if end == "completed" else run.fail(1, kind=end)
    assert tasks_of(ended) == ["clean up"]
    assert run.complete(2) == [RunCancelled(at_ms=run.now_ms, reason="bye")]


def test_abandon_leaves_the_step_alone_and_passes_its_end_over(drive: Drive) -> None:
    run = drive(patient_about("abandon"))
    assert kinds(run.cancel("bye")) == ["StepScheduled"]
    assert run.complete(1, "nobody asks") == []
    assert run.complete(2) == [RunCancelled(at_ms=run.now_ms, reason="bye")]


def test_a_second_cancellation_does_not_wait(drive: Drive) -> None:
    async def hasty() -> str:
        task = asyncio.create_task(workflow.step("long", cancellation="wait"))
        await asyncio.sleep(0)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return "cancelled" if task.cancelled() else "waits"

    run = drive(hasty)
    asked = [one for one in run.started if isinstance(one, StepCancelRequested)]
    assert len(asked) == 1, "the step is asked once"
    assert run.started[-1] == RunCompleted(at_ms=run.now_ms, result="cancelled")


def test_a_time_out_around_a_step_that_is_waited_for_is_raised_after_its_end(drive: Drive) -> None:
    async def timed() -> str:
        try:
            async with asyncio.timeout(5):
                await workflow.step("long", cancellation="wait")
        except TimeoutError:
            return "too late"
        return "in time"

    run = drive(timed)
    assert kinds(run.fire(1)) == ["StepCancelRequested"]
    ended = run.fail(1, kind="cancelled")
    assert ended == [RunCompleted(at_ms=run.now_ms, result="too late")]


def test_a_task_group_waits_for_the_steps_that_are_to_be_waited_for(drive: Drive) -> None:
    async def group() -> str:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(workflow.step("fails"))
                tasks.create_task(workflow.step("slow", cancellation="wait"))
                tasks.create_task(workflow.step("free", cancellation="abandon"))
        except ExceptionGroup as failed:
            return f"{len(failed.exceptions)} failed"
        return "none failed"

    run = drive(group)
    assert run.fail(1) == [StepCancelRequested(at_ms=run.now_ms, step=2)]
    assert run.complete(2) == [RunCompleted(at_ms=run.now_ms, result="1 failed")]


def test_a_saga_undoes_an_abandoned_step_only_after_its_end_and_never_asks_it_to_stop(
    drive: Drive,
) -> None:
    async def booking() -> None:
        async with Saga() as saga:
            await saga.step("book", undo="unbook", cancellation="abandon")

    run = drive(booking)
    assert run.cancel("bye") == []
    assert kinds(run.complete(1)) == ["CompensationStarted", "StepScheduled"]
    assert kinds(run.complete(2)) == ["CompensationCompleted", "RunCancelled"]


def test_the_cancellation_type_is_recorded_and_the_default_is_left_out(drive: Drive) -> None:
    async def two() -> None:
        await workflow.step("plain", cancellation="try", queue="q")
        await workflow.step.options(cancellation="wait")("other", cancellation="the task's own")

    run = drive(two)
    [plain] = [one for one in run.started if isinstance(one, StepScheduled)]
    assert plain.options == {"queue": "q"}
    [other] = [one for one in run.complete(1) if isinstance(one, StepScheduled)]
    assert other.options == {"cancellation": "wait"}
    assert other.kwargs == {"cancellation": "the task's own"}
    assert StepOptions.from_json(other.options).cancellation == "wait"
    assert StepOptions.from_json({}).cancellation == "try"


def test_an_unknown_cancellation_type_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="try, wait, abandon, found 'never'"):
        workflow.step.options(cancellation="never")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="wants a str, found int"):
        workflow.step.options(cancellation=3)  # type: ignore[arg-type]


def test_code_that_swallows_one_cancellation_after_the_other_goes_on(drive: Drive) -> None:
    async def stubborn() -> str:
        task = asyncio.current_task()
        assert task is not None
        for _ in range(500):
            task.cancel()
            try:
                await workflow.sleep(60)
            except asyncio.CancelledError:
                task.uncancel()
        return "still here"

    run = drive(stubborn)
    assert run.started[-1] == RunCompleted(at_ms=run.now_ms, result="still here")


def test_code_that_cancels_itself_for_ever_is_stopped_and_told_why(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.core.execution.CALLBACKS_PER_ACTIVATION_MAX", 5_000)

    async def spinning() -> None:
        task = asyncio.current_task()
        assert task is not None
        waiter = asyncio.get_running_loop().create_future()
        while True:
            task.cancel()
            try:
                await asyncio.shield(waiter)
            except asyncio.CancelledError:
                continue

    with pytest.raises(ActivationFailed, match="callbacks in one activation"):
        drive(spinning)
