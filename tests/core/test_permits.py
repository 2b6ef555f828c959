"""Permits of a run: what it asks for, and that it gives back what it was given (PM1 to PM4).

Every run here is replayed by the `drive` fixture when its test ends: commands that differ are red.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Rate, workflow
from orchestrator.core.errors import ApplicationError, StepError, UsageError
from orchestrator.core.events import (
    Command,
    PermitGranted,
    PermitReleased,
    PermitRequested,
    RunCompleted,
    StepScheduled,
    TimerStarted,
)
from orchestrator.core.interceptors import Interceptor, OrderStep
from orchestrator.core.ledger import Ledger
from orchestrator.core.limits import PERMIT_KEY_CHARS_MAX, PERMITS_MAX, RATE_MAX
from orchestrator.core.options import StepOptions
from tests.core.driver import Driver, kinds

Drive = Callable[..., Driver]
SECOND = timedelta(seconds=1)


def grant(run: Driver, permit: int, *, fence: int = 0, in_ms: int = 0) -> list[Command]:
    go_at_ms = run.now_ms + in_ms
    event = PermitGranted(at_ms=run.now_ms, permit=permit, fence=fence, go_at_ms=go_at_ms)
    return run.apply(event)


async def guarded() -> list[Any]:
    async with workflow.mutex("account-42") as permit:
        done = await workflow.step("debit", permit.fence)
    return [permit.key, permit.fence, done]


def test_a_block_is_entered_with_the_grant_and_gives_the_permit_back(drive: Drive) -> None:
    run = drive(guarded)
    (asked,) = run.started
    assert isinstance(asked, PermitRequested)
    assert (asked.permit, asked.key, asked.kind, asked.limit) == (1, "account-42", "permit", 1)
    (ordered,) = grant(run, 1, fence=7)
    assert isinstance(ordered, StepScheduled)
    assert ordered.args == [7]
    released, ended = run.complete(1, "ok")
    assert released == PermitReleased(at_ms=run.now_ms, permit=1)
    assert ended == RunCompleted(at_ms=run.now_ms, result=["account-42", 7, "ok"])


def test_a_failure_inside_the_block_gives_the_permit_back(drive: Drive) -> None:
    run = drive(guarded)
    grant(run, 1, fence=7)
    assert kinds(run.fail(1)) == ["PermitReleased", "RunFailed"]


def test_who_is_cancelled_while_he_waits_gives_his_place_back(drive: Drive) -> None:
    run = drive(guarded)
    assert kinds(run.cancel()) == ["PermitReleased", "RunCancelled"]


def test_a_time_out_of_the_wait_gives_the_place_back_and_a_late_grant_is_nothing(
    drive: Drive,
) -> None:
    async def hurried() -> str:
        try:
            async with asyncio.timeout(5), workflow.mutex("k"):
                return "in"
        except TimeoutError:
            await workflow.signal("end")
            return "late"

    run = drive(hurried)
    assert kinds(run.fire(1)) == ["PermitReleased"]
    assert grant(run, 1, fence=3) == []
    assert kinds(run.signal("end")) == ["RunCompleted"]


def test_a_task_of_the_run_that_is_cancelled_while_it_waits_gives_its_place_back(
    drive: Drive,
) -> None:
    async def racing() -> None:
        async def first() -> None:
            async with workflow.mutex("a"):
                second.cancel()

        async def inside() -> None:
            async with workflow.mutex("b"):
                await workflow.signal("never")

        await workflow.signal("begin")
        one = asyncio.create_task(first())
        second = asyncio.create_task(inside())
        await asyncio.wait([one, second])

    run = drive(racing)
    assert kinds(run.signal("begin")) == ["PermitRequested", "PermitRequested"]
    assert kinds(grant(run, 1)) == ["PermitReleased", "PermitReleased", "RunCompleted"]


def test_a_run_that_is_terminated_orders_nothing_more(drive: Drive) -> None:
    run = drive(guarded)
    grant(run, 1, fence=7)
    assert kinds(run.terminate()) == ["RunTerminated"]


def test_two_blocks_of_one_run_are_two_permits(drive: Drive) -> None:
    async def both() -> list[int]:
        async with workflow.semaphore("a", limit=2) as one, workflow.semaphore("b", limit=3) as two:
            return [one.fence, two.fence]

    run = drive(both)
    assert kinds(grant(run, 1, fence=5)) == ["PermitRequested"]
    released_first, released_second, ended = grant(run, 2, fence=9)
    assert (released_first.permit, released_second.permit) == (2, 1)  # type: ignore[union-attr]
    assert ended.result == [5, 9]  # type: ignore[union-attr]


def test_a_block_is_entered_once(drive: Drive) -> None:
    async def twice() -> str:
        block = workflow.mutex("k")
        async with block:
            pass
        try:
            async with block:
                return "again"
        except UsageError:
            return "refused"

    run = drive(twice)
    assert grant(run, 1)[-1].result == "refused"  # type: ignore[union-attr]


# --- steps ---------------------------------------------------------------------------------------


def test_a_step_is_ordered_with_the_grant_and_its_end_gives_the_permit_back(drive: Drive) -> None:
    async def limited() -> Any:
        return await workflow.step("train", 1, concurrency_key="gpu", concurrency_limit=2)

    run = drive(limited)
    (asked,) = run.started
    assert isinstance(asked, PermitRequested)
    assert (asked.key, asked.limit) == ("gpu", 2)
    (ordered,) = grant(run, 1)
    assert isinstance(ordered, StepScheduled)
    assert (ordered.args, ordered.kwargs, ordered.options) == ([1], {}, {})
    assert kinds(run.complete(1, "ok")) == ["PermitReleased", "RunCompleted"]


def test_a_step_that_runs_on_keeps_its_permit_although_nobody_waits_for_it(drive: Drive) -> None:
    async def hurried() -> str:
        try:
            async with asyncio.timeout(5):
                await workflow.step("train", concurrency_key="gpu")
        except TimeoutError:
            await workflow.signal("end")
        return "late"

    run = drive(hurried)
    grant(run, 1)
    assert kinds(run.fire(1)) == ["StepCancelRequested"]
    assert kinds(run.fail(1, kind="cancelled")) == ["PermitReleased"]
    run.signal("end")


def test_a_step_whose_wait_for_a_permit_is_cancelled_is_never_ordered(drive: Drive) -> None:
    async def limited() -> None:
        await workflow.step("train", concurrency_key="gpu")

    run = drive(limited)
    assert kinds(run.cancel()) == ["PermitReleased", "RunCancelled"]


def test_a_limited_step_of_a_saga_is_undone_like_any_other(drive: Drive) -> None:
    async def trip() -> None:
        async with workflow.saga() as saga:
            await saga.step("flight", undo="cancel_flight", concurrency_key="airline")
            await saga.step("hotel")

    run = drive(trip)
    grant(run, 1)
    assert kinds(run.complete(1)) == ["PermitReleased", "StepScheduled"]
    assert kinds(run.fail(2)) == ["CompensationStarted", "StepScheduled"]
    assert kinds(run.complete(3)) == ["CompensationCompleted", "RunFailed"]


def test_a_step_of_a_saga_that_cannot_be_ordered_gives_its_permit_back(drive: Drive) -> None:
    async def trip() -> str:
        async with workflow.saga() as saga:
            try:
                await saga.step("flight", object(), concurrency_key="airline")
            except TypeError:
                await workflow.signal("end")
        return "no flight"

    run = drive(trip)
    assert kinds(grant(run, 1)) == ["PermitReleased"]
    run.signal("end")


def test_each_item_of_a_map_has_a_permit_of_its_own(drive: Drive) -> None:
    async def mapped() -> Any:
        return await workflow.map("t", range(3), concurrency_key="gpu", concurrency_limit=2)

    run = drive(mapped)
    assert [one.permit for one in run.started] == [1, 2, 3]  # type: ignore[union-attr]
    grant(run, 1)
    grant(run, 2)
    assert kinds(run.complete(1)) == ["PermitReleased"]
    grant(run, 3)
    run.complete(2)
    assert kinds(run.complete(3)) == ["PermitReleased", "RunCompleted"]


# --- rates ---------------------------------------------------------------------------------------


async def paced() -> str:
    await workflow.rate_limit("mail", 10, SECOND)
    return "went"


def test_a_slot_that_lies_ahead_is_waited_for_by_a_timer(drive: Drive) -> None:
    run = drive(paced)
    (asked,) = run.started
    assert isinstance(asked, PermitRequested)
    assert (asked.key, asked.kind, asked.limit, asked.per_ms) == ("mail", "rate", 10, 1_000)
    (timer,) = grant(run, 1, in_ms=250)
    assert isinstance(timer, TimerStarted)
    assert timer.duration_ms == 250
    assert kinds(run.fire(1)) == ["RunCompleted"]


def test_a_slot_that_is_now_or_past_is_not_waited_for(drive: Drive) -> None:
    assert kinds(grant(drive(paced), 1, in_ms=0)) == ["RunCompleted"]
    assert kinds(grant(drive(paced), 1, in_ms=-5_000)) == ["RunCompleted"]


def test_who_is_cancelled_while_he_waits_for_a_slot_gives_nothing_back(drive: Drive) -> None:
    assert kinds(drive(paced).cancel()) == ["RunCancelled"]


def test_a_step_takes_its_permit_first_and_then_its_slot(drive: Drive) -> None:
    async def limited() -> None:
        rate = Rate("mail", 10, per=SECOND)
        await workflow.step("send", rate_limit=rate, concurrency_key="smtp")

    run = drive(limited)
    (slot,) = grant(run, 1)
    assert slot.kind == "rate"  # type: ignore[union-attr]
    assert kinds(grant(run, 2, in_ms=30)) == ["TimerStarted"]
    assert kinds(run.fire(1)) == ["StepScheduled"]
    assert kinds(run.complete(1)) == ["PermitReleased", "RunCompleted"]


def test_who_is_cancelled_before_his_slot_gives_the_permit_of_the_step_back(drive: Drive) -> None:
    async def limited() -> None:
        rate = Rate("mail", 10, per=SECOND)
        await workflow.step("send", rate_limit=rate, concurrency_key="smtp")

    run = drive(limited)
    grant(run, 1)
    grant(run, 2, in_ms=30)
    assert kinds(run.cancel()) == ["TimerCancelled", "PermitReleased", "RunCancelled"]


def test_a_slot_is_nothing_to_give_back_once_it_is_there_and_a_permit_is(drive: Drive) -> None:
    async def both() -> None:
        await workflow.rate_limit("mail", 10, SECOND)
        async with workflow.mutex("k"):
            await workflow.signal("leave")

    def outstanding() -> list[tuple[int, bool]]:
        ledger = Ledger()
        for event in run.history:
            ledger.apply(event)
        return [(number, entry.is_granted) for number, entry in ledger.permits.items()]

    run = drive(both)
    assert outstanding() == [(1, False)]
    grant(run, 1)
    assert outstanding() == [(2, False)]
    grant(run, 2)
    assert outstanding() == [(2, True)]
    run.signal("leave")
    assert outstanding() == []


# --- what may stand there ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Rate("", 1, per=SECOND), "printable text"),
        (lambda: Rate("a\nb", 1, per=SECOND), "printable text"),
        (lambda: Rate("k", 0, per=SECOND), f"from 1 to {RATE_MAX}"),
        (lambda: Rate("k", RATE_MAX + 1, per=SECOND), f"from 1 to {RATE_MAX}"),
        (lambda: Rate("k", 1, per=timedelta(0)), "per="),
        (lambda: Rate("k", 1, per=5), "per="),  # type: ignore[arg-type]
        (lambda: StepOptions(concurrency_key="x" * (PERMIT_KEY_CHARS_MAX + 1)), "a digest of it"),
        (lambda: StepOptions(concurrency_key="k", concurrency_limit=0), f"1 to {PERMITS_MAX}"),
        (lambda: StepOptions(concurrency_key="k", concurrency_limit=True), f"1 to {PERMITS_MAX}"),
        (lambda: StepOptions(concurrency_limit=3), "concurrency_key="),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert says in str(refused.value)


@pytest.mark.parametrize("call", [workflow.mutex, lambda key: workflow.semaphore(key, limit=1)])
def test_permits_are_asked_for_in_workflow_code_alone(call: Callable[[str], Any]) -> None:
    with pytest.raises(UsageError, match="works only in workflow code"):
        call("k")


def test_a_run_may_change_its_limits_while_it_is_open(drive: Drive) -> None:
    limit = 2

    async def pooled() -> None:
        async with workflow.semaphore("pool", limit=limit):
            await workflow.signal("end")

    run = drive(pooled)
    grant(run, 1)
    limit = 5
    run.replayed().execution.close()
    run.signal("end")


def test_a_failed_step_gives_its_permit_back_before_its_waiter_goes_on(drive: Drive) -> None:
    async def limited() -> str:
        try:
            await workflow.step("train", concurrency_key="gpu")
        except StepError:
            await workflow.step("clean", concurrency_key="gpu")
        return "clean"

    run = drive(limited)
    grant(run, 1)
    assert kinds(run.fail(1)) == ["PermitReleased", "PermitRequested"]
    grant(run, 2)
    assert kinds(run.complete(2)) == ["PermitReleased", "RunCompleted"]


class _Refusing(Interceptor):
    def order_step(self, call: OrderStep) -> OrderStep:
        raise ApplicationError(f"no {call.task} today")


def test_a_step_that_an_interceptor_refuses_gives_its_permit_back(drive: Drive) -> None:
    async def careful() -> str:
        try:
            await workflow.step.options(concurrency_key="account-42")("debit", 1)
        except ApplicationError as error:
            await workflow.signal("go on")
            return error.message
        return ""

    run = drive(careful, interceptors=(_Refusing(),))
    assert kinds(grant(run, 1)) == ["PermitReleased"]
