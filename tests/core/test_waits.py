"""asyncio's functions over sets keep the order they were given in, on every Python."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core import waits
from orchestrator.core.events import RunCompleted
from tests.core.driver import Driver, kinds

Drive = Callable[..., Driver]


def result_of(commands: list[Any]) -> Any:
    assert isinstance(commands[-1], RunCompleted), commands
    return commands[-1].result


@pytest.mark.parametrize(
    ("return_when", "done"),
    [
        (asyncio.FIRST_COMPLETED, ["t3"]),
        (asyncio.FIRST_EXCEPTION, ["t1", "t3"]),
        (asyncio.ALL_COMPLETED, ["t0", "t1", "t2", "t3"]),
    ],
)
def test_wait_gives_sets_in_the_order_of_asking(
    drive: Drive, return_when: str, done: list[str]
) -> None:
    async def waiting() -> list[list[str]]:
        tasks = [asyncio.create_task(workflow.step(f"t{n}"), name=f"t{n}") for n in range(4)]
        pair = await asyncio.wait(reversed(tasks), return_when=return_when)
        names = [[task.get_name() for task in some] for some in pair]
        await asyncio.wait(tasks)
        return names

    run = drive(waiting)
    run.complete(4)
    run.fail(2)
    run.complete(3)
    first, second = result_of(run.complete(1))
    assert first == done[::-1]
    assert first + second != sorted(first + second) or not second
    assert sorted(first + second) == ["t0", "t1", "t2", "t3"]


def test_wait_with_a_time_out_returns_what_is_done(drive: Drive) -> None:
    async def waiting() -> int:
        tasks = [asyncio.create_task(workflow.step("a")), asyncio.create_task(workflow.step("b"))]
        done, pending = await asyncio.wait(tasks, timeout=5)
        assert done.isdisjoint(pending)
        return len(done) * 10 + len(pending)

    run = drive(waiting)
    run.complete(2)
    assert result_of(run.fire(1)) == 11


def test_an_ordered_set_is_a_set_and_pops_the_first() -> None:
    ordered = waits.OrderedFutures(["b", "a", "c", "a"])
    ordered.discard("a")
    ordered.add("z")
    assert list(ordered) == ["b", "c", "z"]
    assert ordered == {"b", "c", "z"}
    assert [ordered.pop(), ordered.pop(), ordered.pop()] == ["b", "c", "z"]
    with pytest.raises(KeyError):
        ordered.pop()


def test_as_completed_yields_in_the_order_of_completion(drive: Drive) -> None:
    async def collecting() -> list[Any]:
        return [await one for one in asyncio.as_completed([workflow.step(n) for n in "abc"])]

    run = drive(collecting)
    assert kinds(run.started) == ["StepScheduled"] * 3
    assert [s.task for s in run.started] == ["a", "b", "c"]  # type: ignore[union-attr]
    run.complete(3, "c")
    run.complete(1, "a")
    assert result_of(run.complete(2, "b")) == ["c", "a", "b"]


def test_as_completed_is_an_async_iterator_too(drive: Drive) -> None:
    async def collecting() -> list[Any]:
        tasks = {asyncio.create_task(workflow.step(n)): n for n in "ab"}
        return [tasks[one] async for one in waits.as_completed(tasks)]  # type: ignore[index]

    run = drive(collecting)
    run.complete(2)
    assert result_of(run.complete(1)) == ["b", "a"]


def test_as_completed_times_out(drive: Drive) -> None:
    async def collecting() -> list[Any]:
        seen = []
        try:
            for one in asyncio.as_completed([workflow.step("a"), workflow.step("b")], timeout=9):
                seen.append(await one)
        except TimeoutError:
            seen.append("late")
        return seen

    run = drive(collecting)
    run.complete(2, "b")
    assert result_of(run.fire(1)) == ["b", "late"]


def test_all_tasks_are_those_of_the_run_oldest_first(drive: Drive) -> None:
    async def listing() -> list[str]:
        others = [asyncio.create_task(workflow.step("x"), name=f"n{n}") for n in range(9)]
        names = [task.get_name() for task in asyncio.all_tasks()]
        await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        return names

    run = drive(listing)
    assert result_of(run.complete(1)) == ["main", *(f"n{n}" for n in range(9))]


def test_both_names_of_a_function_are_the_ordered_one() -> None:
    for name, _ in waits.ORDERED:
        assert getattr(asyncio.tasks, name) is getattr(asyncio, name)


def test_other_loops_get_asyncios_own() -> None:
    async def outside() -> tuple[Any, ...]:
        task = asyncio.create_task(asyncio.sleep(0, "slept"))
        done, _ = await asyncio.wait([task])
        assert type(done) is set
        assert type(asyncio.all_tasks()) is set
        first = [await one for one in asyncio.as_completed([asyncio.sleep(0, 1)])]
        return await asyncio.wait_for(asyncio.sleep(0, "x"), 5), first

    assert asyncio.run(outside()) == ("x", [1])
