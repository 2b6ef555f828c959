"""Promise: before code is deployed, it is known which runs it would block, and why.

Each change below is really made: a run is recorded with one function, and replayed with another.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator, RecordedHistory, Replayer, workflow
from orchestrator.client.exporting import export_file
from orchestrator.client.messages import Target
from orchestrator.client.port import run_in_place
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ConfigurationError, HistoryFileError
from orchestrator.core.limits import HISTORY_EVENTS_MAX
from orchestrator.replaying.results import ReplayReport, ReplayResult, ReplayStatus
from orchestrator.replaying.words import in_words
from tests.engine.world import MemoryBlobs, World, definition
from tests.histories import record, zoo
from tests.replaying.conftest import Export, many_signals, session_of

Code = Callable[..., Awaitable[Any]]


async def trip(city: str) -> str:
    hotel = await workflow.step("book_hotel", city)
    await workflow.sleep(timedelta(minutes=5))
    train = await workflow.step("book_train", city)
    return f"{hotel} {train}"


async def renamed(city: str) -> str:
    hotel = await workflow.step("reserve_hotel", city)
    return str(hotel)


async def other_argument(city: str) -> str:
    return str(await workflow.step("book_hotel", city.upper()))


async def other_duration(city: str) -> str:
    await workflow.step("book_hotel", city)
    await workflow.sleep(timedelta(minutes=6))
    return ""


async def other_order(city: str) -> str:
    await workflow.sleep(timedelta(minutes=5))
    return str(await workflow.step("book_hotel", city))


async def one_step_more(city: str) -> str:
    found = await asyncio.gather(trip(city), workflow.step("insure", city))
    return str(found[0])


async def one_step_less(city: str) -> str:
    await workflow.step("book_hotel", city)
    await workflow.sleep(timedelta(minutes=5))
    await asyncio.Event().wait()
    return ""


async def other_result(city: str) -> str:
    return f"{await trip(city)}!"


async def with_a_bug(city: str) -> str:
    hotel = await workflow.step("book_hotel", city)
    return str(hotel.no_such_thing)


async def endless(city: str) -> str:
    while True:
        await asyncio.sleep(0)


async def deadly(city: str) -> str:
    os._exit(3)


async def listening() -> int:
    heard = 0

    @workflow.on_signal("s")
    def hear(_: object) -> None:
        nonlocal heard
        heard += 1

    await workflow.wait_condition(lambda: heard < 0)
    return heard


async def same(city: str) -> str:
    """Do what `trip` does, in other words."""
    hotel = await workflow.step("book_hotel", city)
    await asyncio.sleep(300)
    return f"{hotel} {await workflow.step('book_train', city)}"


def trip_world(code: Code = trip, *, fingerprint: str = "old") -> World:
    """Return a world in which a trip was booked."""
    world = World(definition(code, "trip", fingerprint=fingerprint))
    world.tasks.update(book_hotel=lambda city: f"h-{city}", book_train=lambda city: f"t-{city}")
    world.start("trip", "rome")
    world.settle()
    world.advance(300_000)
    world.settle()
    return world


def as_trip(code: Code, fingerprint: str = "new") -> dict[str, WorkflowDefinition]:
    return {"trip": definition(code, "trip", fingerprint=fingerprint)}


def replayed(path: Path, code: Code, **options: Any) -> ReplayResult:
    (result,) = Replayer(as_trip(code), **options).replay(path).results
    return result


@pytest.mark.parametrize(
    ("code", "seq", "recorded", "issued", "differs"),
    [
        (renamed, 2, "task='book_hotel'", "task='reserve_hotel'", ("task",)),
        (other_argument, 2, "StepScheduled", "StepScheduled", ("args_digest",)),
        (other_duration, 4, "duration_ms=300000", "duration_ms=360000", ("duration_ms",)),
        (other_order, 2, "StepScheduled", "TimerStarted", ()),
        (one_step_more, 4, "TimerStarted", "task='insure'", ()),
        (one_step_less, 6, "task='book_train'", "nothing more", ()),
        (other_result, 8, "RunCompleted", "RunCompleted", ("result",)),
    ],
)
def test_a_change_that_does_not_fit_is_told_with_both_sides(
    export: Export, code: Code, seq: int, recorded: str, issued: str, differs: tuple[str, ...]
) -> None:
    result = replayed(export(trip_world()), code)
    assert result.status is ReplayStatus.MISMATCH
    found = result.mismatch
    assert found is not None
    assert (found.seq, found.differs) == (seq, differs)
    assert recorded in found.recorded
    assert issued in found.issued
    assert result.is_code_changed
    text = in_words(result)
    assert f"event {seq} of 8" in text
    # A function that has returned stands nowhere.
    assert ("test_replayer.py:" in text) == ("RunCompleted" not in issued)
    if differs:
        assert f"differs in    {differs[0]}" in text


def test_a_change_that_fits_is_known_to_be_one(export: Export) -> None:
    path = export(trip_world())
    result = replayed(path, same)
    assert (result.status, result.is_code_changed) == (ReplayStatus.FITS, True)
    unchanged = Replayer(as_trip(trip, "old")).replay(path)
    assert [each.is_code_changed for each in unchanged.results] == [False]
    assert unchanged


def test_code_that_cannot_be_activated_is_told_apart_from_a_mismatch(export: Export) -> None:
    path = export(trip_world())
    result = replayed(path, with_a_bug)
    assert result.status is ReplayStatus.FAILED
    assert "AttributeError" in result.message
    assert "test_replayer.py:" in result.where
    assert "no_such_thing" in result.traceback
    assert "no_such_thing" in in_words(result)


@pytest.mark.slow
def test_code_that_never_waits_is_interrupted(export: Export) -> None:
    result = replayed(export(trip_world()), endless)
    assert result.status is ReplayStatus.FAILED
    assert result.message.startswith(("deadline", "limit"))


def test_a_workflow_that_is_gone_is_named(export: Export) -> None:
    (result,) = Replayer({}).replay(export(trip_world())).results
    assert result.status is ReplayStatus.UNKNOWN
    assert "'trip'" in result.message
    assert "no workflow is named" in in_words(result)


def test_a_damaged_file_is_one_result_among_others(export: Export, tmp_path: Path) -> None:
    path = export(trip_world())
    (tmp_path / "histories" / "z.jsonl").write_bytes(path.read_bytes()[:-10])
    report = Replayer(as_trip(trip)).replay(tmp_path / "histories")
    assert [each.status for each in report.results] == [ReplayStatus.FITS, ReplayStatus.UNREADABLE]
    assert not report
    assert "z.jsonl" in in_words(report.results[1])


def test_a_value_that_did_not_come_along_is_named(export: Export) -> None:
    world = World(definition(trip, "trip"))
    world.tasks.update(
        book_hotel=lambda _: world.blobs.put("x" * 70_000).as_json(), book_train=lambda _: "t"
    )
    world.start("trip", "rome")
    world.settle()
    path = export(world)
    assert replayed(path, trip)
    events = world.events()
    (result,) = Replayer(as_trip(trip)).replay(RecordedHistory.of("w", 1, events)).results
    assert result.status is ReplayStatus.UNREADABLE
    assert "not in the file" in result.message


def test_events_at_hand_are_replayed_without_a_file() -> None:
    history = RecordedHistory.of("w", 1, trip_world().events())
    assert Replayer(as_trip(trip)).replay([history, history])
    report = Replayer(as_trip(renamed)).replay(history)
    assert report.results[0].source == "w run 1"
    assert not report


def test_a_blocked_run_that_the_code_mends_fits_and_says_what_it_rested_for(
    export: Export,
) -> None:
    path = export(trip_world(with_a_bug))
    mended, still = replayed(path, trip), replayed(path, with_a_bug)
    assert mended.status is ReplayStatus.FITS
    assert mended.blocked.startswith("bug: AttributeError")
    assert still.status is ReplayStatus.FAILED
    assert "rests at the end of its history" in in_words(still)


def test_the_same_in_several_processes_in_the_order_given(export: Export, tmp_path: Path) -> None:
    for number in range(12):
        export(trip_world()).rename(tmp_path / "histories" / f"{number:02}.jsonl")
    alone = Replayer(as_trip(renamed)).replay(tmp_path / "histories")
    together = Replayer(as_trip(renamed), jobs=3).replay(tmp_path / "histories")
    assert alone == together
    assert [Path(each.source).stem for each in together.results] == [f"{n:02}" for n in range(12)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_fail_fast_stops_at_the_first_that_does_not_fit(
    export: Export, tmp_path: Path, jobs: int
) -> None:
    for number in range(4):
        export(trip_world()).rename(tmp_path / "histories" / f"{number}.jsonl")
    replayer = Replayer(as_trip(renamed), jobs=jobs, fail_fast=True)
    report = replayer.replay(tmp_path / "histories")
    assert (len(report.results), report.is_cut_short) == (1, True)


def test_code_that_kills_its_process_costs_no_other_history_its_result(
    export: Export, tmp_path: Path
) -> None:
    good = export(trip_world())
    world = World(definition(trip, "deadly"))
    world.start("deadly", "rome", id="d")
    world.settle()
    bad = export(world, "d")
    workflows = {**as_trip(trip), "deadly": definition(deadly)}
    # Each of two processes takes one that kills it: nobody is left for the others.
    report = Replayer(workflows, jobs=2).replay([bad, bad, good, good])
    assert [each.status.value for each in report.results] == ["failed", "failed", "fits", "fits"]
    assert "died" in report.results[1].message


def test_nothing_to_replay_is_no_success() -> None:
    assert not ReplayReport(results=[])
    with pytest.raises(HistoryFileError, match="does not exist"):
        Replayer({}).replay("no/such/folder")


def test_jobs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        Replayer({}, jobs=0)
    with pytest.raises(ConfigurationError, match="give it the Orchestrator"):
        Replayer({}).replay_open()


def test_files_are_replayed_where_no_server_answers() -> None:
    assert isinstance(zoo.orc, Orchestrator)
    assert zoo.app.conf.broker_url == "redis://127.0.0.1:1/0"
    assert Replayer(zoo.orc).replay(sorted(record.HERE.glob("zoo-*.jsonl")))


@pytest.mark.slow
@pytest.mark.long
def test_a_history_of_the_greatest_length_replays(tmp_path: Path) -> None:
    store = many_signals(HISTORY_EVENTS_MAX, workflow="listening")
    target = Target(workflow_id="w", run=0)
    path = run_in_place(export_file(session_of(store, MemoryBlobs()), target, tmp_path))
    (result,) = Replayer({"listening": definition(listening)}).replay(path).results
    assert (result.status, result.events) == (ReplayStatus.FITS, HISTORY_EVENTS_MAX)


def test_a_history_is_replayed_with_the_version_that_carries_its_run_on() -> None:
    one, two = definition(trip, "trip", version="1"), definition(renamed, "trip", version="2")
    world = World(one)
    world.start("trip", "Rome")
    world.turn()
    recorded = RecordedHistory.of("w", 1, world.events())
    assert Replayer({"trip": replace(two, others=(one,))}).replay(recorded)
    (alone,) = Replayer({"trip": two}).replay(recorded).results
    assert alone.status is ReplayStatus.UNKNOWN
    assert "has no version '1' here; known: '2'" in alone.message
