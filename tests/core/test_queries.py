"""A query reads; it orders nothing, awaits nothing, and harms nothing that goes unnoticed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core.errors import (
    ActivationFailed,
    ApplicationError,
    ForbiddenInWorkflow,
    InvalidPayload,
    UnknownQuery,
)
from tests.core.driver import Driver, kinds

Drive = Callable[..., Driver]


async def shop() -> None:
    basket: list[str] = []
    event = asyncio.Event()

    @workflow.on_query("count")
    def count(at_least: int = 0, *, note: str = "") -> int:
        return max(len(basket), at_least) + len(note)

    @workflow.on_query("boom")
    def boom() -> None:
        raise KeyError("boom")

    @workflow.on_query("refuse")
    def refuse() -> None:
        raise ApplicationError("no", "Refused")

    @workflow.on_query("wake")
    def wake() -> None:
        event.set()

    @workflow.on_query("spawn")
    def spawn() -> None:
        asyncio.get_running_loop().create_task(event.wait())

    @workflow.on_query("timer")
    def timer() -> None:
        asyncio.get_running_loop().call_later(5, print)

    waiter = asyncio.create_task(event.wait(), name="waiter")
    basket.append(await workflow.step("pick"))
    await waiter


def test_a_query_answers_from_the_runs_state(drive: Drive) -> None:
    run = drive(shop)
    assert run.execution.query("count", []) == 0
    run.complete(1, "apple")
    assert run.execution.query("count", []) == 1
    assert run.execution.query("count", [5]) == 5
    assert run.execution.is_usable


@pytest.mark.parametrize("args", [["text"], [1, 2, 3]])
def test_arguments_that_do_not_fit_are_refused(drive: Drive, args: Any) -> None:
    with pytest.raises(InvalidPayload, match="count"):
        drive(shop).execution.query("count", args)


def test_an_unknown_query_names_the_known_ones(drive: Drive) -> None:
    with pytest.raises(UnknownQuery, match="count, boom") as caught:
        drive(shop).execution.query("nope", [])
    assert caught.value.known[-1] == "stack"


def test_what_a_handler_raises_reaches_the_asker_and_not_the_run(drive: Drive) -> None:
    run = drive(shop)
    with pytest.raises(ApplicationError) as caught:
        run.execution.query("boom", [])
    assert caught.value.type == "KeyError"
    with pytest.raises(ApplicationError, match="no"):
        run.execution.query("refuse", [])
    assert run.execution.is_usable
    assert run.complete(1, "x") == []


@pytest.mark.parametrize("name", ["wake", "spawn", "timer"])
def test_a_query_that_orders_something_is_refused_and_the_execution_dropped(
    drive: Drive, name: str
) -> None:
    run = drive(shop)
    with pytest.raises(ForbiddenInWorkflow, match="in a query"):
        run.execution.query(name, [])
    assert not run.execution.is_usable
    assert run.replayed().execution.query("count", []) == 0, "the history is none the worse"


def test_an_async_query_handler_is_misuse() -> None:
    async def misusing() -> None:
        @workflow.on_query("x")
        async def answer() -> None:
            return

    with pytest.raises(ActivationFailed, match="cannot be async"):
        Driver(misusing)


def test_stack_tells_where_each_task_waits(drive: Drive) -> None:
    answer = drive(shop).execution.query("stack", [])
    assert isinstance(answer, str)
    main, waiter = answer.splitlines()
    assert main.startswith("main: shop (")
    assert "test_queries.py:" in main
    assert waiter.startswith("waiter: Event.wait (")


def test_a_finished_run_still_answers(drive: Drive) -> None:
    async def quick() -> None:
        workflow.on_query("answer")(lambda: 42)

    run = drive(quick)
    assert kinds(run.started) == ["RunCompleted"]
    assert run.execution.query("answer", []) == 42
    assert run.execution.query("stack", []) == ""
