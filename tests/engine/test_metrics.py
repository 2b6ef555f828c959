"""OB1: metrics tell what became history, once, under the names that dashboards know."""

import asyncio
import urllib.request
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from orchestrator import metrics, workflow
from orchestrator.core.errors import ApplicationError, ConfigurationError
from orchestrator.core.retry import Retry
from orchestrator.metrics import PrometheusObserver, serve
from orchestrator.store.ports import CommitResult, Kind
from tests.engine.world import Node, World


async def order(number: int) -> int:
    retry = Retry(initial=timedelta(0), interval_max=timedelta(0))
    await workflow.step("flaky", retry=retry)
    if number > 1:
        raise ApplicationError("no")
    return number


async def waits() -> None:
    await workflow.signal("on")


async def buggy() -> None:
    await asyncio.sleep(0)
    raise RuntimeError("a bug")


@pytest.fixture
def observer() -> PrometheusObserver:
    return PrometheusObserver(CollectorRegistry())


@pytest.fixture
def world(observer: PrometheusObserver) -> World:
    world = World(order, waits, buggy)
    tries: list[int] = []

    def flaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("not yet")

    world.tasks["flaky"] = flaky
    world.more_tools = {"observer": observer}
    world.nodes = [Node(world, "measured")]
    return world


def value(observer: PrometheusObserver, name: str, **labels: str) -> float:
    return observer.registry.get_sample_value(f"orchestrator_{name}", labels) or 0.0


def test_ends_steps_and_blocked_runs_are_counted_by_type(
    world: World, observer: PrometheusObserver
) -> None:
    for number in (1, 2):
        world.start("order", number, id=f"o-{number}")
        world.settle()
    world.start("waits", id="t")
    world.start("buggy", id="b")
    world.settle()
    world.post(Kind.TERMINATE, {"reason": "x", "request_id": "t"}, id="t")
    world.settle()
    assert value(observer, "workflow_completed_total", workflow_type="order") == 1
    assert value(observer, "workflow_failed_total", workflow_type="order") == 1
    assert value(observer, "workflow_terminated_total", workflow_type="waits") == 1
    said = {"workflow_type": "buggy", "failure_reason": "bug"}
    assert value(observer, "workflow_task_execution_failed_total", **said) == 1
    failed = {"activity_type": "flaky", "failure_reason": "failed"}
    assert value(observer, "activity_execution_failed_total", **failed) == 1
    took = "activity_succeed_endtoend_latency_seconds_count"
    assert value(observer, took, activity_type="flaky") == 2
    assert value(observer, "workflow_endtoend_latency_seconds_count", workflow_type="order") == 2


def test_latencies_are_those_of_the_history(world: World, observer: PrometheusObserver) -> None:
    world.start("waits")
    world.settle()
    world.advance(90_000)
    world.signal("on")
    world.settle()
    name = "workflow_endtoend_latency_seconds_sum"
    assert value(observer, name, workflow_type="waits") == 90
    name = "workflow_task_execution_latency_seconds_count"
    assert value(observer, name, workflow_type="waits") == 2


def test_runs_in_memory_replays_and_refused_commits(
    world: World, observer: PrometheusObserver
) -> None:
    world.start("waits")
    world.settle()
    assert value(observer, "sticky_cache_size") == 1
    assert value(observer, "partitions") == 4
    world.signal("other")
    world.settle()
    assert value(observer, "sticky_cache_hit_total") == 1
    world.restart()
    refusing: Any = world.store.commit

    def refuse(commits: Any) -> list[CommitResult | None]:
        world.store.commit = refusing  # type: ignore[method-assign]
        return [None] * len(commits)

    world.store.commit = refuse  # type: ignore[method-assign]
    world.signal("on")
    world.settle()
    assert value(observer, "commits_refused_total", result="unknown") == 1
    assert value(observer, "workflow_completed_total", workflow_type="waits") == 1
    assert value(observer, "sticky_cache_miss_total") == 2
    assert value(observer, "workflow_task_replay_latency_seconds_count", workflow_type="waits") == 2


def test_names_that_anybody_may_make_up_are_bounded(
    world: World, observer: PrometheusObserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "NAMES_MAX", 2)
    for number in range(4):
        world.start(f"made-up-{number}", id=f"m-{number}")
        world.settle()
    name, said = "workflow_task_execution_failed_total", {"failure_reason": "unknown_workflow"}
    assert value(observer, name, workflow_type="(others)", **said) == 2


def test_they_are_served_as_long_as_the_block_lasts(observer: PrometheusObserver) -> None:
    observer.turned(runs=3, partitions=1, waited_ms=[5])
    with serve(observer, "127.0.0.1", 0) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert "orchestrator_sticky_cache_size 3.0" in text
        with (
            pytest.raises(ConfigurationError, match=f"127.0.0.1:{port} cannot be had"),
            serve(observer, "127.0.0.1", port),
        ):
            pass
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)
