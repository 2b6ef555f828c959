"""RE1-RE3: a run that cannot be worked on is told apart from a healthy one: log, row and gauge."""

import json
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from orchestrator import workflow
from orchestrator.client.summary import summary_of
from orchestrator.core.blobs import BlobRef
from orchestrator.engine.run import LiveRun
from orchestrator.metrics import PrometheusObserver
from orchestrator.store.ports import RunKey
from tests.engine.world import Node, World


async def flow() -> Any:
    brought = await workflow.step("job")
    await workflow.signal("go")
    return len(brought)


def rests(world: World) -> str:
    return summary_of("w", world.row()).rests


def without_its_blob(world: World) -> tuple[BlobRef, Any]:
    """Let the step's result be a reference to what is not there; return that."""
    world.start("flow")
    world.turn()
    message = world.pop()
    assert message
    world.claim(message)
    ref = world.blobs.put("x" * 100)
    value = world.blobs.values.pop(ref.sha256)
    world.finish(message, {"kind": "completed", "result": ref.as_json()})
    world.turn()
    return ref, value


def seconds(world: World, count: int) -> None:
    for _ in range(count):
        world.advance(1_000)
        world.turn()


def test_run_without_its_blob_says_so_in_its_row_until_it_goes_on() -> None:
    world = World(flow)
    ref, value = without_its_blob(world)
    assert ref.sha256 in rests(world)
    assert world.names() == ["RunStarted", "StepScheduled"]
    world.check_chain()
    shown = summary_of("w", world.row()).as_json()
    assert ref.sha256 in json.dumps(shown["rests"])
    world.blobs.values[ref.sha256] = value
    seconds(world, 2)
    assert "StepCompleted" in world.names()
    assert rests(world) == ""
    world.signal("go")
    world.turn()
    assert world.result() == 100


def test_run_that_goes_on_without_an_event_is_not_said_to_rest() -> None:
    world = World(flow)
    ref, value = without_its_blob(world)
    world.blobs.values[ref.sha256] = value
    seconds(world, 2)
    del world.blobs.values[ref.sha256]
    world.restart()
    assert world.query("stack") is None
    assert ref.sha256 in rests(world)
    world.blobs.values[ref.sha256] = value
    before = world.names()
    seconds(world, 2)
    assert world.names() == before
    assert rests(world) == ""


def test_what_is_said_of_a_resting_run_is_said_ever_more_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(flow)
    without_its_blob(world)
    seconds(world, 100)
    said = [record for record in caplog.records if "w.1 rests" in record.message]
    assert len(said) == 6  # At 0, 2, 6, 14, 30 and 62 s.
    assert all(record.exc_info is None for record in said)


def test_bug_has_its_traceback_in_the_log_and_only_its_type_in_the_row(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: LiveRun, *args: object, **kwargs: object) -> None:
        raise KeyError("a payload")

    monkeypatch.setattr(LiveRun, "take", broken)
    world = World(flow)
    world.start("flow")
    world.turn()
    seconds(world, 1)
    said = [record for record in caplog.records if "w.1 rests" in record.message]
    assert len(said) == 1
    assert said[0].exc_info is not None
    assert rests(world) == "KeyError in the orchestrator, whose log has the traceback"
    assert "a payload" not in json.dumps(world.row())
    monkeypatch.undo()
    seconds(world, 2)
    assert world.names() == ["RunStarted", "StepScheduled"]
    assert rests(world) == ""


def test_runs_that_rest_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    observer = PrometheusObserver(CollectorRegistry())
    world = World(flow)
    world.more_tools = {"observer": observer}
    world.nodes = [Node(world, "measured")]

    def counted() -> float | None:
        return observer.registry.get_sample_value("orchestrator_workflows_resting")

    ref, value = without_its_blob(world)
    seconds(world, 2)
    assert counted() == 1
    world.blobs.values[ref.sha256] = value
    seconds(world, 2)
    assert counted() == 0
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_reason_is_not_written_into_the_row_of_a_run_that_has_moved() -> None:
    world = World(flow)
    without_its_blob(world)
    world.advance(20_000)  # The lease is over; another one has the partition.
    world.nodes.append(Node(world, "two"))
    world.nodes[1].turn()
    before = world.row()
    world.nodes[0].try_turn()
    assert world.row() == before
    assert world.store.read_history(RunKey(workflow_id="w", run=1))
