"""What a run says of itself reaches its row and its indexes in the commit that records it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.limits import DETAILS_BYTES_MAX
from orchestrator.core.values import Json, loads
from orchestrator.store.index_ports import Window
from tests.engine.world import World

SAID: dict[str, Json] = {
    "search_attributes": {"customer": "ana", "total": 1},
    "memo": {"note": "gift"},
    "summary": "an order",
    "details": "of Ana",
}


async def tells() -> dict[str, Any]:
    before = workflow.info()
    workflow.upsert_search_attributes(
        {"customer": "bo", "total": None, "due": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    workflow.upsert_memo({"note": None, "lines": [1, 2]})
    workflow.set_current_details("waits for money")
    after = workflow.info()
    await workflow.signal("go")
    workflow.upsert_search_attributes({"paid": True})
    return {
        "before": [dict(before.search_attributes), dict(before.memo)],
        "customer": after.search_attributes["customer"],
        "memo": dict(after.memo),
    }


def start(world: World, name: str, **said: Json) -> None:
    body: dict[str, Json] = {"workflow": name, "args": [], "kwargs": {}, **said}
    world.store.start("w", request_id="r", body=body)


def found(world: World, *indexes: str) -> list[str]:
    page = world.store.page_runs(indexes, Window(count=9))
    return [f"{row['workflow_id']}.{row['run']}" for _, row in page.rows]


def test_start_and_upserts_are_in_history_row_and_indexes() -> None:
    world = World(tells)
    start(world, "tells", **SAID)
    assert found(world, "is:customer=s:ana") == ["w.1"]
    world.settle()
    started, *_ = world.events()
    assert isinstance(started, e.RunStarted)
    assert started.search_attributes == SAID["search_attributes"]
    assert (started.memo, started.summary, started.details) == (
        *({"note": "gift"}, "an order", "of Ana"),
    )
    assert world.names()[1:4] == ["SearchAttributesUpserted", "MemoUpserted", "CurrentDetailsSet"]
    row = world.row()
    due = {"datetime": "2026-01-01T00:00:00+00:00"}
    assert loads(row["attributes"]) == {"customer": "bo", "due": due}
    assert loads(row["memo"]) == {"lines": [1, 2]}
    assert loads(row["current_details"]) == "waits for money"
    assert (loads(row["summary"]), loads(row["details"])) == ("an order", "of Ana")
    assert found(world, "is:customer=s:ana", "has:total") == []
    assert found(world, "is:customer=s:bo") == found(world, "has:due") == ["w.1"]
    world.signal("go")
    world.settle()
    assert found(world, "is:paid=b:True") == found(world, "status:completed") == ["w.1"]
    assert world.result() == {
        "before": [{"customer": "ana", "total": 1}, {"note": "gift"}],
        "customer": "bo",
        "memo": {"lines": [1, 2]},
    }


def test_orchestrator_killed_between_two_commits_changes_nothing_of_it() -> None:
    world = World(tells)
    start(world, "tells", **SAID)
    world.settle()
    world.restart()
    world.signal("go")
    world.settle()
    assert world.status() == "completed"
    assert loads(world.row()["attributes"])["paid"] is True  # type: ignore[index, call-overload]
    assert found(world, "is:customer=s:bo") == ["w.1"]


def test_run_moves_through_the_indexes_of_its_statuses() -> None:
    async def waits() -> None:
        await workflow.signal("go")

    world = World(waits)
    start(world, "waits")
    assert found(world, "status:pending") == ["w.1"]
    world.settle()
    assert found(world, "status:running") == ["w.1"]
    assert found(world, "status:pending") == []
    world.signal("go")
    world.settle()
    assert found(world, "status:completed") == ["w.1"]
    assert found(world, "status:running") == []


def test_changed_texts_and_values_do_not_block_a_run_that_replays() -> None:
    async def first() -> str:
        workflow.upsert_search_attributes({"a": 1})
        workflow.upsert_memo({"m": "old"})
        workflow.set_current_details("old")
        await workflow.sleep(60, summary="old")
        return "done"

    async def second() -> str:
        workflow.upsert_search_attributes({"a": 2, "b": True})
        workflow.upsert_memo({"m": "new"})
        workflow.set_current_details("new")
        await workflow.sleep(60)
        return "done"

    first.__name__ = second.__name__ = "texts"
    world = World(first)
    start(world, "texts")
    world.settle()
    world.deploy(second)
    world.restart()
    world.advance(60_000)
    world.settle()
    assert world.status() == "completed"


def test_upsert_that_goes_missing_blocks_the_run() -> None:
    async def first() -> None:
        workflow.upsert_search_attributes({"a": 1})
        await workflow.signal("go")

    async def second() -> None:
        await workflow.signal("go")

    first.__name__ = second.__name__ = "texts"
    world = World(first)
    start(world, "texts")
    world.settle()
    world.deploy(second)
    world.restart()
    world.signal("go")
    world.settle()
    assert world.status() == "blocked"
    assert found(world, "status:blocked") == ["w.1"]


def test_summaries_of_steps_and_timers_stand_in_their_events() -> None:
    async def works() -> None:
        await asyncio.gather(
            workflow.step("charge", 1, summary="the money"),
            workflow.step.options(summary="the goods")("charge", 2),
            workflow.sleep(timedelta(seconds=5), summary="to cool down"),
            workflow.sleep(5),
            workflow.sleep(0, summary="nothing"),
        )

    world = World(works)
    world.task(lambda n: n).__name__ = "charge"
    world.tasks["charge"] = lambda n: n
    start(world, "works")
    world.settle()
    steps = [each for each in world.events() if isinstance(each, e.StepScheduled)]
    assert [step.summary for step in steps] == ["the money", "the goods"]
    assert [step.options for step in steps] == [{}, {}]
    timers = [each for each in world.events() if isinstance(each, e.TimerStarted)]
    assert [timer.summary for timer in timers] == ["to cool down", ""]
    world.restart()
    world.settle()
    assert world.status() == "completed"


def test_sleep_with_a_summary_can_be_cancelled() -> None:
    async def naps() -> str:
        try:
            async with asyncio.timeout(5):
                await workflow.sleep(60, summary="long")
        except TimeoutError:
            return "woken"
        return "slept"

    world = World(naps)
    start(world, "naps")
    world.settle()
    world.advance(5_000)
    world.settle()
    assert world.result() == "woken"
    assert "TimerCancelled" in world.names()


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (
            lambda: workflow.upsert_search_attributes({"x": object()}),  # type: ignore[dict-item]
            "'x': found a object",
        ),
        (lambda: workflow.upsert_search_attributes(5), "are a mapping of names"),  # type: ignore[arg-type]
        (lambda: workflow.upsert_memo({"x": "a" * 70_000}), "memo: 70008 bytes"),
        (lambda: workflow.upsert_memo([1]), "a memo is a mapping"),  # type: ignore[arg-type]
        (
            lambda: workflow.set_current_details("x" * (DETAILS_BYTES_MAX + 1)),
            "current details: 20001 bytes",
        ),
    ],
)
def test_what_cannot_be_said_is_told_the_author_and_leaves_no_trace(call: Any, reason: str) -> None:
    async def says() -> str:
        try:
            call()
        except Exception as error:
            return str(error)
        return ""

    world = World(says)
    start(world, "says")
    world.settle()
    assert reason in str(world.result())
    assert world.names() == ["RunStarted", "RunCompleted"]
