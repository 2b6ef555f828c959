"""P4: a saga ends committed, or with every step that may have taken effect undone."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core.errors import ActivationFailed, ApplicationError, StepError, UsageError
from orchestrator.core.events import (
    Command,
    CompensationCompleted,
    CompensationStarted,
    RunCancelled,
    RunCompleted,
    RunTerminated,
    SagaCommitted,
    StepScheduled,
)
from orchestrator.core.options import StepOptions
from orchestrator.core.retry import RETRY_UNTIL_DONE, Retry
from orchestrator.core.saga import Saga
from tests.core.driver import Driver, kinds, tasks_of

Drive = Callable[..., Driver]


async def trip() -> str:
    async with Saga() as saga:
        await saga.step("flight", 1, undo="cancel_flight")
        await saga.step("hotel", 2, room="sea", undo="cancel_hotel")
        await saga.step("card", 3)
    return "booked"


def undos(commands: list[Command]) -> list[tuple[str, int | None]]:
    return [
        (one.task, one.compensates)
        for one in commands
        if isinstance(one, StepScheduled) and one.compensates is not None
    ]


def test_a_saga_that_ends_well_undoes_nothing(drive: Drive) -> None:
    run = drive(trip)
    run.complete(1)
    run.complete(2)
    assert kinds(run.complete(3)) == ["SagaCommitted", "RunCompleted"]


def test_the_undo_is_recorded_before_the_step_can_take_effect(drive: Drive) -> None:
    (scheduled,) = drive(trip).started
    assert isinstance(scheduled, StepScheduled)
    assert (scheduled.saga, scheduled.undo) == (1, "cancel_flight")


def test_what_completed_is_undone_newest_first_one_after_the_other(drive: Drive) -> None:
    run = drive(trip)
    run.complete(1)
    run.complete(2)
    started, first = run.fail(3)
    assert started == CompensationStarted(at_ms=run.now_ms, saga=1, steps=[2, 1])
    assert isinstance(started, CompensationStarted)
    assert started.reason.startswith("Boom")
    assert isinstance(first, StepScheduled)
    assert (first.task, first.compensates, first.saga) == ("cancel_hotel", 2, 1)
    assert (first.args, first.kwargs) == ([2], {"room": "sea"})
    options = StepOptions.from_json(first.options)
    assert (options.until_done, options.retry) == (True, RETRY_UNTIL_DONE)
    assert undos(run.complete(4)) == [("cancel_flight", 1)]
    assert kinds(run.complete(5)) == ["CompensationCompleted", "RunFailed"]


@pytest.mark.parametrize(
    ("kind", "may_have_run", "undone"),
    [
        ("timed_out", True, [("cancel_hotel", 2)]),
        ("lost", True, [("cancel_hotel", 2)]),
        ("failed", False, [("cancel_flight", 1)]),
    ],
)
def test_a_step_that_may_have_run_is_undone_and_a_certain_refusal_is_not(
    drive: Drive, kind: str, *, may_have_run: bool, undone: Any
) -> None:
    run = drive(trip)
    run.complete(1)
    assert undos(run.fail(2, kind=kind, may_have_run=may_have_run)) == undone


def test_nothing_to_undo_leaves_no_trace(drive: Drive) -> None:
    assert kinds(drive(trip).fail(1, may_have_run=False)) == ["RunFailed"]


def test_the_failure_goes_on_once_all_is_undone(drive: Drive) -> None:
    async def recovering() -> str:
        try:
            return await trip()
        except StepError as error:
            return error.name

    run = drive(recovering)
    run.complete(1)
    run.fail(2, may_have_run=False)
    assert run.complete(3) == [
        CompensationCompleted(at_ms=run.now_ms, saga=1),
        RunCompleted(at_ms=run.now_ms, result="hotel"),
    ]


def test_a_parallel_saga_undoes_all_at_once(drive: Drive) -> None:
    async def parallel() -> None:
        async with Saga(parallel=True) as saga:
            await saga.step("a", undo="undo_a")
            await saga.step("b", undo="undo_b")
            raise ApplicationError("no")

    run = drive(parallel)
    run.complete(1)
    assert undos(run.complete(2)) == [("undo_b", 2), ("undo_a", 1)]
    assert run.complete(4) == []
    assert kinds(run.complete(3)) == ["CompensationCompleted", "RunFailed"]


def test_outstanding_steps_are_cancelled_and_awaited_before_any_undo(drive: Drive) -> None:
    async def wide() -> None:
        async with Saga() as saga:
            await asyncio.gather(
                *(saga.step(name, undo=f"undo_{name}") for name in ("a", "b", "c"))
            )

    run = drive(wide)
    assert kinds(run.fail(2, may_have_run=False)) == ["StepCancelRequested"] * 2
    assert run.complete(1) == []
    (started, *_rest) = run.fail(3, kind="cancelled")
    assert isinstance(started, CompensationStarted)
    assert started.steps == [3, 1]
    assert undos(run.complete(4)) == [("undo_a", 1)]


def undo_with_result(order: int, result: Any) -> None:
    raise AssertionError("an undo's body never runs in a workflow")


def test_an_undo_that_asks_for_it_gets_the_steps_result(drive: Drive) -> None:
    class Undo:
        name = "undo"
        run = staticmethod(undo_with_result)

    async def paid() -> None:
        async with Saga() as saga:
            await saga.step("a", 7, undo=Undo, undo_retry=Retry(attempts=2))
            await saga.step("b", 8, undo=Undo)

    run = drive(paid)
    run.complete(1, {"id": "p-1"})
    _, unknown = run.fail(2, kind="lost")
    assert isinstance(unknown, StepScheduled)
    assert (unknown.args, unknown.kwargs) == ([8], {"result": None})
    (known,) = run.complete(3)
    assert isinstance(known, StepScheduled)
    assert known.kwargs == {"result": {"id": "p-1"}}
    assert known.options["retry"] == Retry(attempts=2).as_json()


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_cancellation_compensates_and_then_goes_on(drive: Drive, how: str) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await trip()

    run = drive(bounded)
    run.complete(1)
    commands = run.cancel("bye") if how == "cancel" else run.fire(1)
    assert kinds(commands).count("StepCancelRequested") == 1
    assert undos(run.fail(2, kind="cancelled", may_have_run=False)) == [("cancel_flight", 1)]
    completed, *timer, ended = run.complete(3)
    assert kinds([completed]) == ["CompensationCompleted"]
    assert kinds(timer) == (["TimerCancelled"] if how == "cancel" else [])
    if how == "cancel":
        assert ended == RunCancelled(at_ms=run.now_ms, reason="bye")
    else:
        assert kinds([ended]) == ["RunFailed"]


def test_cancel_and_time_out_do_not_stop_a_compensation(drive: Drive) -> None:
    async def bounded() -> str:
        try:
            async with asyncio.timeout(60):
                await trip()
        except StepError:
            await workflow.step("apologise")
        return "sorry"

    run = drive(bounded)
    run.complete(1)
    run.fail(2, may_have_run=False)
    assert run.fire(1) == []
    assert run.cancel("bye") == []
    commands = run.complete(3)
    assert kinds(commands)[0] == "CompensationCompleted"
    # The cancellation was held back, not lost.
    assert kinds(commands)[1:] == ["StepScheduled", "StepCancelRequested", "RunCancelled"]


def test_a_bug_inside_a_saga_blocks_even_if_swallowed_outside(drive: Drive) -> None:
    async def buggy() -> None:
        try:
            async with Saga() as saga:
                await saga.step("a", undo="undo_a")
                raise KeyError("bug")
        except KeyError:
            return

    run = drive(buggy)
    with pytest.raises(ActivationFailed, match="KeyError") as caught:
        run.complete(1)
    assert caught.value.kind == "bug"
    bugs_fail = drive(buggy, bugs_fail=True)
    assert undos(bugs_fail.complete(1)) == [("undo_a", 1)]


def test_after_the_point_of_no_return_it_goes_forward(drive: Drive) -> None:
    async def shipped() -> None:
        async with Saga() as saga:
            await saga.step("pay", undo="refund")
            saga.commit()
            await saga.step("ship")
            await saga.step("tell", retry=Retry(attempts=3))
            raise ApplicationError("too late to undo")

    run = drive(shipped)
    committed, ship = run.complete(1)
    assert committed == SagaCommitted(at_ms=run.now_ms, saga=1)
    assert isinstance(ship, StepScheduled)
    options = StepOptions.from_json(ship.options)
    assert (options.until_done, options.retry) == (True, RETRY_UNTIL_DONE)
    assert run.cancel("held back") == []
    (tell,) = run.complete(2)
    assert isinstance(tell, StepScheduled)
    assert StepOptions.from_json(tell.options).retry == Retry(attempts=3)
    assert kinds(run.complete(3)) == ["RunFailed"]


def test_a_cancellation_held_back_by_a_committed_saga_comes_after_it(drive: Drive) -> None:
    async def shipped() -> None:
        async with Saga() as saga:
            saga.commit()
            await saga.step("ship")
        await workflow.step("dessert")

    run = drive(shipped)
    assert run.cancel("bye") == []
    assert run.complete(1)[-1] == RunCancelled(at_ms=run.now_ms, reason="bye")
    assert "dessert" not in tasks_of([e for e in run.history if isinstance(e, StepScheduled)])


def test_terminate_in_the_middle_of_a_saga_compensates_without_the_users_code(
    drive: Drive,
) -> None:
    seen: list[str] = []

    async def stubborn() -> None:
        try:
            await trip()
        finally:
            seen.append("finally")
            await workflow.step("never ordered")

    run = drive(stubborn)
    run.complete(1)
    assert kinds(run.terminate("now")) == ["StepCancelRequested"]
    assert undos(run.complete(2)) == [("cancel_hotel", 2)]
    assert run.cancel() == run.signal("x") == run.terminate() == []
    assert undos(run.complete(3)) == [("cancel_flight", 1)]
    assert run.complete(4)[-1] == RunTerminated(at_ms=run.now_ms, reason="now")
    assert seen == ["finally"]


def test_terminate_does_not_stop_a_running_compensation(drive: Drive) -> None:
    run = drive(trip)
    run.complete(1)
    run.fail(2, may_have_run=False)
    assert run.terminate("now") == []
    assert kinds(run.complete(3)) == ["CompensationCompleted", "RunTerminated"]


def test_open_sagas_of_background_tasks_are_undone_before_the_run_ends(drive: Drive) -> None:
    async def leaving() -> str:
        async def background(name: str) -> None:
            async with Saga() as saga:
                await saga.step(name, undo=f"undo_{name}")
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(background(name)) for name in ("old", "new")]
        await workflow.step("last")
        return f"left {len(tasks)}"

    run = drive(leaving)
    numbers = {e.task: e.step for e in run.history if isinstance(e, StepScheduled)}
    run.complete(numbers["old"])
    run.complete(numbers["new"])
    assert [task for task, _ in undos(run.complete(numbers["last"]))] == ["undo_new"]
    assert [task for task, _ in undos(run.complete(4))] == ["undo_old"]
    assert kinds(run.complete(5)) == ["CompensationCompleted", "RunCompleted"]


def test_an_inner_saga_is_undone_before_the_outer_one(drive: Drive) -> None:
    async def nested() -> None:
        async with Saga() as outer:
            await outer.step("a", undo="undo_a")
            async with Saga() as inner:
                await inner.step("b", undo="undo_b")
                raise ApplicationError("no")

    run = drive(nested)
    run.complete(1)
    assert undos(run.complete(2)) == [("undo_b", 2)]
    assert undos(run.complete(3)) == [("undo_a", 1)]


def test_a_saga_whose_block_was_left_takes_no_more_steps() -> None:
    async def late() -> None:
        async with Saga() as saga:
            pass
        await saga.step("too late")

    with pytest.raises(ActivationFailed, match="takes no more steps"):
        Driver(late)


@pytest.mark.parametrize("misuse", ["unentered", "twice", "commit twice"])
def test_misuse_of_a_saga_is_told(misuse: str) -> None:
    async def misusing() -> None:
        saga = Saga()
        if misuse == "unentered":
            await saga.step("a")
        async with saga:
            if misuse == "commit twice":
                saga.commit()
                saga.commit()
        async with saga:
            pass

    with pytest.raises(ActivationFailed, match="UsageError"):
        Driver(misusing)
    with pytest.raises(UsageError):
        Saga()


def test_a_committed_saga_survives_a_block_that_times_out(drive: Drive) -> None:
    async def bounded() -> str:
        async with Saga() as saga:
            await saga.step("pay", undo="refund")
            saga.commit()
            try:
                async with asyncio.timeout(timedelta(minutes=1).total_seconds()):
                    await saga.step("ship")
            except TimeoutError:
                return "slow"
        return "fast"

    run = drive(bounded)
    run.complete(1)
    assert kinds(run.fire(1)) == ["StepCancelRequested", "RunCompleted"]


def test_an_undo_that_was_given_up_is_never_called_undone() -> None:
    run = Driver(trip)
    run.complete(1)
    run.fail(2, may_have_run=False)
    with pytest.raises(ActivationFailed, match="cancel_flight was given up"):
        run.fail(3)


def test_a_finally_block_that_orders_a_saga_step_does_not_hold_up_the_end(drive: Drive) -> None:
    async def tidy() -> None:
        async with Saga() as saga:
            try:
                await saga.step("flight", undo="cancel_flight")
            finally:
                await saga.step("tidy_up", undo="mess_up")

    run = drive(tidy)
    run.terminate("now")
    # The block is unwound: what it orders there is forgotten, and nothing waits for it.
    assert undos(run.complete(1)) == [("cancel_flight", 1)]
    assert isinstance(run.complete(2)[-1], RunTerminated)


def test_a_saga_that_is_opened_while_its_run_ends_does_not_hold_up_the_end(drive: Drive) -> None:
    async def tidy() -> None:
        try:
            await workflow.step("job")
        finally:
            async with Saga() as saga:
                await saga.step("tidy_up", undo="mess_up")

    assert kinds(drive(tidy).terminate("now")) == ["RunTerminated"]
