"""`workflow.map`: one task for many items, so many at a time, results in order (FO1, FO2).

Every run here is replayed by the `drive` fixture when its test ends: commands that differ are red.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.errors import StepError, UsageError
from orchestrator.core.events import RunCompleted, RunFailed, StepScheduled
from orchestrator.core.limits import MAP_PARALLEL_DEFAULT, MAP_PARALLEL_MAX
from tests.core.driver import Driver, kinds

Drive = Callable[..., Driver]


def items_of(commands: list[Any]) -> list[Any]:
    return [one.args for one in commands if isinstance(one, StepScheduled)]


def test_so_many_items_are_under_way_and_the_results_come_in_order(drive: Drive) -> None:
    async def mapped() -> Any:
        return await workflow.map("double", (n for n in range(5)), max_parallel=2, queue="big")

    run = drive(mapped)
    assert items_of(run.started) == [[0], [1]]
    assert all(one.options == {"queue": "big"} for one in run.started)  # type: ignore[union-attr]
    assert items_of(run.complete(2, 10)) == [[2]], "a lane that is free takes the next item"
    assert items_of(run.complete(3, 20)) == [[3]]
    assert items_of(run.complete(1, 0)) == [[4]]
    assert run.complete(5, 40) == []
    assert run.complete(4, 30) == [RunCompleted(at_ms=run.now_ms, result=[0, 10, 20, 30, 40])]


def test_a_failure_cancels_the_steps_under_way_and_is_raised_as_itself(drive: Drive) -> None:
    async def mapped() -> str:
        try:
            await workflow.map("t", range(9), max_parallel=3)
        except StepError as error:
            return f"{error.step} {error.type} {type(error.__cause__).__name__}"
        return "none failed"

    run = drive(mapped)
    ended = run.fail(2)
    assert kinds(ended) == ["StepCancelRequested", "StepCancelRequested", "RunCompleted"]
    assert ended[-1].result == "2 Boom ApplicationError"  # type: ignore[union-attr]


def test_an_unhandled_failure_fails_the_run_as_any_steps_would(drive: Drive) -> None:
    async def mapped() -> None:
        await workflow.map("t", range(2), max_parallel=1)

    run = drive(mapped)
    [failed] = run.fail(1)
    assert isinstance(failed, RunFailed)
    assert failed.failure.type == "Boom"


def test_failures_may_take_the_place_of_results(drive: Drive) -> None:
    async def mapped() -> Any:
        found = await workflow.map("t", "abc", max_parallel=1, return_exceptions=True)
        return [one.type if isinstance(one, StepError) else one for one in found]

    run = drive(mapped)
    run.complete(1, "A")
    assert items_of(run.fail(2)) == [["c"]]
    assert run.complete(3, "C") == [RunCompleted(at_ms=run.now_ms, result=["A", "Boom", "C"])]


def test_cancelling_the_wait_cancels_what_is_under_way_and_orders_nothing_more(
    drive: Drive,
) -> None:
    async def mapped() -> None:
        await workflow.map("t", range(9), max_parallel=2)

    assert kinds(drive(mapped).cancel()) == [
        "StepCancelRequested",
        "StepCancelRequested",
        "RunCancelled",
    ]


def test_cancellation_types_count_in_a_map_too(drive: Drive) -> None:
    async def mapped() -> None:
        await workflow.map("t", range(9), max_parallel=2, cancellation="wait")

    run = drive(mapped)
    assert kinds(run.cancel()) == ["StepCancelRequested", "StepCancelRequested"]
    assert run.complete(1) == []
    assert kinds(run.complete(2)) == ["RunCancelled"]


def test_no_items_need_no_step(drive: Drive) -> None:
    async def mapped() -> Any:
        return await workflow.map("t", [])

    run = drive(mapped)
    assert run.started == [RunCompleted(at_ms=run.now_ms, result=[])]


def test_thousands_of_items_are_no_more_than_one_activation_may_order(drive: Drive) -> None:
    async def mapped() -> int:
        return len(await workflow.map("t", range(2_500)))

    run = drive(mapped)
    assert len(run.started) == MAP_PARALLEL_DEFAULT
    for step in range(1, 2_500):
        run.complete(step)
    assert run.complete(2_500) == [RunCompleted(at_ms=run.now_ms, result=2_500)]


@pytest.mark.parametrize("max_parallel", [0, -1, MAP_PARALLEL_MAX + 1, True, 1.5, "2"])
def test_a_bound_that_cannot_be_is_refused_in_words(drive: Drive, max_parallel: Any) -> None:
    async def mapped() -> str:
        try:
            await workflow.map("t", [1], max_parallel=max_parallel)
        except UsageError as error:
            return str(error)
        return "taken"

    run = drive(mapped)
    assert run.started[-1].result == (  # type: ignore[union-attr]
        f"max_parallel= is a whole number from 1 to {MAP_PARALLEL_MAX}, found {max_parallel!r}"
    )


def test_a_setting_that_is_none_is_refused_in_words(drive: Drive) -> None:
    async def mapped() -> str:
        try:
            await workflow.map("t", [1], factor=2)  # type: ignore[call-arg]
        except UsageError as error:
            return str(error)
        return "taken"

    run = drive(mapped)
    assert "no setting factor" in run.started[-1].result  # type: ignore[union-attr,operator]


def test_maps_run_side_by_side(drive: Drive) -> None:
    async def both() -> Any:
        return await asyncio.gather(workflow.map("a", [1]), workflow.map("b", [2]))

    run = drive(both)
    run.complete(2, "b")
    assert run.complete(1, "a") == [RunCompleted(at_ms=run.now_ms, result=[["a"], ["b"]])]
