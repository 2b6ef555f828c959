"""A child is ordered once, and what became of it reaches whoever waits (CH1-CH3)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core import child_call
from orchestrator.core import context as workflow
from orchestrator.core.errors import (
    ActivationFailed,
    ChildWorkflowError,
    InvalidWorkflowId,
    UsageError,
)
from orchestrator.core.events import (
    ChildCancelRequested,
    ChildCompleted,
    ChildFailed,
    ChildScheduled,
    Command,
    RunCancelled,
    RunCompleted,
    RunFailed,
)
from orchestrator.core.failure import Failure
from orchestrator.core.values import Json
from tests.core.driver import Driver, define, kinds

Drive = Callable[..., Driver]


def end(run: Driver, child: int, result: Json = None) -> list[Command]:
    return run.apply(ChildCompleted(at_ms=run._later(10), child=child, run=1, result=result))


def fail(run: Driver, child: int, kind: str = "failed") -> list[Command]:
    failure = Failure(type="OutOfStock", message="none left", non_retryable=True)
    at_ms = run._later(10)
    return run.apply(ChildFailed(at_ms=at_ms, child=child, run=1, kind=kind, failure=failure))


async def ship(order: str) -> int:
    return len(order)


class Ship:
    """What ``@orc.workflow`` returns, as far as a child needs it."""

    definition = define(ship)

    @staticmethod
    def encode_input(args: tuple[Any, ...], kwargs: Any) -> tuple[list[Json], dict[str, Json]]:
        return list(args), dict(kwargs)


async def one_child() -> Any:
    return await child_call.child(Ship(), "order-1", express=True)


def test_a_child_is_ordered_under_an_id_made_from_its_parents(drive: Drive) -> None:
    (ordered,) = drive(one_child).started
    assert isinstance(ordered, ChildScheduled)
    assert (ordered.child, ordered.workflow, ordered.id) == (1, "ship", "w-1.1.child-1")
    assert (ordered.args, ordered.kwargs) == (["order-1"], {"express": True})
    assert ordered.parent_close_policy == "terminate"


def test_its_result_reaches_who_waits_as_the_declared_type(drive: Drive) -> None:
    run = drive(one_child)
    (ended,) = end(run, 1, 7)
    assert isinstance(ended, RunCompleted)
    assert ended.result == 7
    with pytest.raises(ActivationFailed, match="expected int"):
        end(drive(one_child), 1, "seven")


def test_settings_are_not_the_childs_input_unless_they_are_said_to_be(drive: Drive) -> None:
    async def parent() -> None:
        call = child_call.child.options(id="ship-8")
        await asyncio.gather(
            child_call.child("ship", id="ship-7", parent_close_policy="abandon", by="sea"),
            call("ship", id="the order's"),
        )

    first, second = drive(parent).started
    assert isinstance(first, ChildScheduled)
    assert (first.id, first.parent_close_policy, first.kwargs) == (
        "ship-7",
        "abandon",
        {"by": "sea"},
    )
    assert isinstance(second, ChildScheduled)
    assert (second.id, second.kwargs) == ("ship-8", {"id": "the order's"})


def test_children_run_side_by_side(drive: Drive) -> None:
    async def parent() -> list[Any]:
        return list(await asyncio.gather(*(child_call.child("ship", n) for n in range(3))))

    run = drive(parent)
    assert [one.child for one in run.started if isinstance(one, ChildScheduled)] == [1, 2, 3]
    assert end(run, 2, "b") == []
    assert end(run, 3, "c") == []
    (ended,) = end(run, 1, "a")
    assert isinstance(ended, RunCompleted)
    assert ended.result == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["failed", "cancelled", "terminated", "refused"])
def test_a_child_without_a_result_raises_where_it_is_awaited(drive: Drive, kind: str) -> None:
    async def parent() -> Any:
        try:
            await child_call.child(Ship(), "order-1")
        except ChildWorkflowError as error:
            return [error.id, error.workflow, error.status, error.type, str(error.__cause__)]

    (ended,) = fail(drive(parent), 1, kind)
    assert isinstance(ended, RunCompleted)
    assert ended.result == ["w-1.1.child-1", "ship", kind, "OutOfStock", "none left"]


def test_a_childs_failure_fails_a_parent_that_does_not_catch_it(drive: Drive) -> None:
    (ended,) = fail(drive(one_child), 1)
    assert isinstance(ended, RunFailed)
    assert ended.failure.type == "OutOfStock"
    assert "child w-1.1.child-1 (ship) failed" in ended.failure.message


def test_a_cancelled_parent_asks_its_child_to_stop_and_waits_for_its_end(drive: Drive) -> None:
    run = drive(one_child)
    (asked,) = run.cancel()
    assert isinstance(asked, ChildCancelRequested)
    (ended,) = fail(run, 1, "cancelled")
    assert isinstance(ended, RunCancelled)


def test_a_child_that_ends_well_after_all_does_not_undo_the_cancellation(drive: Drive) -> None:
    run = drive(one_child)
    run.cancel()
    assert kinds(end(run, 1, 7)) == ["RunCancelled"]


def test_a_second_cancellation_does_not_wait_for_the_child(drive: Drive) -> None:
    async def parent() -> str:
        task = asyncio.create_task(child_call.child("ship"))
        await workflow.step("a")
        task.cancel()
        await workflow.step("b")
        task.cancel()
        await asyncio.wait([task])
        return "went on"

    run = drive(parent)
    assert kinds(run.complete(1)) == ["StepScheduled", "ChildCancelRequested"]
    (ended,) = run.complete(2)
    assert isinstance(ended, RunCompleted)
    assert end(run, 1) == []


def test_a_time_out_stops_waiting_only_when_the_child_has_ended(drive: Drive) -> None:
    async def parent() -> str:
        try:
            async with asyncio.timeout(5):
                await child_call.child("ship")
        except TimeoutError:
            return "late"
        return "in time"

    run = drive(parent)
    assert kinds(run.fire(1)) == ["ChildCancelRequested"]
    (ended,) = fail(run, 1, "cancelled")
    assert isinstance(ended, RunCompleted)
    assert ended.result == "late"


def test_an_evicted_parent_orders_nothing(drive: Drive) -> None:
    run = Driver(one_child)
    run.close()
    assert run.execution.take_complaints() == []


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"id": "two words"}, InvalidWorkflowId),
        ({"parent_close_policy": "adopt"}, UsageError),
    ],
)
def test_a_setting_that_cannot_be_is_a_bug_of_the_parent(
    drive: Drive, settings: dict[str, Any], error: type[Exception]
) -> None:
    async def parent() -> None:
        await child_call.child("ship", **settings)

    with pytest.raises(ActivationFailed, match=error.__name__):
        Driver(parent)


def test_what_is_no_workflow_is_no_child(drive: Drive) -> None:
    async def parent() -> None:
        await child_call.child(ship)  # type: ignore[arg-type]

    with pytest.raises(ActivationFailed, match="a child is a workflow or its name, not function"):
        Driver(parent)


def test_a_cancellation_type_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError, match="cancellation_type is 'maybe'; it is one of wait_canc"):
        child_call.child.options(cancellation_type="maybe")  # type: ignore[arg-type]
