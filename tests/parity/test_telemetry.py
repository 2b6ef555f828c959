"""Telemetry, as Temporal's own tests name it; where ours differs the docstring says so."""

from prometheus_client import CollectorRegistry, generate_latest

from orchestrator import workflow
from orchestrator.metrics import PrometheusObserver
from tests.engine.world import Node, World


async def simple() -> str:
    await workflow.step("job")
    return "done"


def test_metrics() -> None:
    """The names are Temporal's, behind ``orchestrator_`` where theirs say ``temporal_``.

    The orchestrator tells all of them: workers are plain Celery workers, which others measure.
    """
    observer = PrometheusObserver(CollectorRegistry())
    world = World(simple)
    world.tasks["job"] = lambda: None
    world.more_tools = {"observer": observer}
    world.nodes = [Node(world, "measured")]
    world.start("simple")
    world.settle()
    text = generate_latest(observer.registry).decode()
    for name in (
        "workflow_completed_total",
        "workflow_endtoend_latency_seconds_count",
        "workflow_task_execution_latency_seconds_count",
    ):
        assert f'orchestrator_{name}{{workflow_type="simple"}}' in text
    took = "orchestrator_activity_succeed_endtoend_latency_seconds_count"
    assert f'{took}{{activity_type="job"}} 1.0' in text
    assert "orchestrator_sticky_cache_size" in text
