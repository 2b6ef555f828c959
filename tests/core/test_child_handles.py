"""A child that is started, not called: its handle, its retries, and whom it makes wait (CH2)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core import child_call
from orchestrator.core import context as workflow
from orchestrator.core.errors import ChildWorkflowError, NondeterminismError, UsageError
from orchestrator.core.events import (
    ChildCancelRequested,
    ChildCompleted,
    ChildFailed,
    ChildScheduled,
    ChildStarted,
    Command,
    ExternalCompleted,
    ExternalFailed,
    ExternalSignalSent,
    RunCancelled,
    RunCompleted,
)
from orchestrator.core.failure import Failure
from tests.core.driver import Driver

Drive = Callable[..., Driver]


def begin(run: Driver, child: int = 1, number: int = 4) -> list[Command]:
    return run.apply(ChildStarted(at_ms=run._later(10), child=child, run=number))


def fail(run: Driver, child: int, kind: str = "failed", **more: Any) -> list[Command]:
    failure = Failure(type="OutOfStock", message="none left", **more)
    number = 0 if kind == "refused" else child
    return run.apply(
        ChildFailed(at_ms=run._later(10), child=child, run=number, kind=kind, failure=failure)
    )


async def starting() -> Any:
    handle = await child_call.child.start("ship", "order-1")
    before = handle.is_done
    return [handle.id, handle.run, before, await handle, await handle.result(), handle.is_done]


def test_a_handle_is_there_once_the_run_is_known_and_not_before(drive: Drive) -> None:
    run = drive(starting)
    (ordered,) = run.started
    assert isinstance(ordered, ChildScheduled)
    assert ordered.announced
    assert begin(run) == []
    (ended,) = run.apply(ChildCompleted(at_ms=run._later(10), child=1, run=4, result=7))
    assert isinstance(ended, RunCompleted)
    assert ended.result == ["w-1.1.child-1", 4, False, 7, 7, True]


def test_a_child_that_ended_before_it_was_heard_of_has_begun_too(drive: Drive) -> None:
    run = drive(starting)
    (ended,) = run.apply(ChildCompleted(at_ms=run._later(10), child=1, run=4, result=7))
    assert isinstance(ended, RunCompleted)
    assert ended.result == ["w-1.1.child-1", 4, True, 7, 7, True]


def test_a_child_that_is_called_is_ordered_as_ever(drive: Drive) -> None:
    async def parent() -> None:
        await child_call.child("ship", retry="the child's own")

    (ordered,) = drive(parent).started
    assert isinstance(ordered, ChildScheduled)
    assert not ordered.announced
    assert ordered.kwargs == {"retry": "the child's own"}


def test_a_refused_child_raises_where_it_is_started(drive: Drive) -> None:
    async def parent() -> Any:
        try:
            await child_call.child.start("ship")
        except ChildWorkflowError as error:
            return [error.status, error.run]

    (ended,) = fail(drive(parent), 1, "refused")
    assert isinstance(ended, RunCompleted)
    assert ended.result == ["refused", 0]


def test_code_that_starts_does_not_replay_what_code_that_calls_has_recorded() -> None:
    async def calling() -> Any:
        return await child_call.child("ship", "order-1")

    async def one() -> Any:
        return await (await child_call.child.start("ship", "order-1"))

    run = Driver(calling)
    run.definition = Driver(one).definition
    with pytest.raises(NondeterminismError, match="announced"):
        run.replayed()


def test_cancelling_who_waits_for_the_beginning_stops_the_child(drive: Drive) -> None:
    run = drive(starting)
    (asked,) = run.cancel()
    assert isinstance(asked, ChildCancelRequested)
    assert begin(run) == []
    (ended,) = fail(run, 1, "cancelled")
    assert isinstance(ended, RunCancelled)


async def commanding() -> Any:
    handle = await child_call.child.start("ship")
    await handle.signal("faster", {"by": 2})
    handle.cancel()
    handle.cancel()
    try:
        await handle
    except ChildWorkflowError as error:
        return error.status


def test_a_handle_signals_its_run_and_cancels_it_once(drive: Drive) -> None:
    run = drive(commanding)
    (sent,) = begin(run)
    assert isinstance(sent, ExternalSignalSent)
    assert (sent.id, sent.run, sent.signal, sent.payload) == (
        "w-1.1.child-1",
        4,
        "faster",
        {"by": 2},
    )
    asked = run.apply(ExternalCompleted(at_ms=run._later(10), external=1, run=4))
    assert asked == [ChildCancelRequested(at_ms=run.now_ms, child=1)]
    (ended,) = fail(run, 1, "cancelled")
    assert isinstance(ended, RunCompleted)
    assert ended.result == "cancelled"


async def waiting_until_asked() -> Any:
    call = child_call.child.options(cancellation_type="wait_cancellation_requested")
    waiter = asyncio.create_task(call("ship"))
    await workflow.sleep(1)
    waiter.cancel()
    try:
        return await waiter
    except asyncio.CancelledError:
        return "cancelled"


@pytest.mark.parametrize("answer", ["taken", "closed", "ended"])
def test_who_waits_until_the_child_is_asked_waits_for_its_answer_or_its_end(
    drive: Drive, answer: str
) -> None:
    run = drive(waiting_until_asked)
    (asked,) = run.fire(1)
    assert isinstance(asked, ChildCancelRequested)
    assert asked.external == 1
    at_ms = run._later(10)
    if answer == "taken":
        (ended,) = run.apply(ExternalCompleted(at_ms=at_ms, external=1, run=1))
    elif answer == "closed":
        failure = Failure(type="WorkflowClosed", message="it has ended")
        (ended,) = run.apply(
            ExternalFailed(at_ms=at_ms, external=1, run=1, kind="closed", failure=failure)
        )
    else:
        (ended,) = fail(run, 1, "cancelled")
    assert isinstance(ended, RunCompleted)
    assert ended.result == "cancelled"


def test_what_is_no_retry_is_refused() -> None:
    with pytest.raises(UsageError, match="retry is a Retry"):
        child_call.child.options(retry=3)  # type: ignore[arg-type]
