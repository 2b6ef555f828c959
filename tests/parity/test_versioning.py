"""Deployment versions as Temporal's features have them, by their names.

Source: temporalio/features, features/deployment_versioning.  There a version is a build of a
worker, here of one workflow: several of them stand in one app, and every orchestrator that has
them all carries on every run.  Not here: ``routing_with_ramp``.  Which share of new runs begins
under the next version is the caller's choice, who starts that version's own workflow object.
"""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core import guard
from orchestrator.core.definition import WorkflowDefinition
from tests.engine.world import World, definition


@pytest.fixture(autouse=True)
def _guarded() -> None:
    guard.install()


async def one() -> str:
    await workflow.signal("do-activity")
    return "1.0"


async def two() -> str:
    await workflow.signal("do-activity")
    return "2.0"


def deployment(versioning: str, *functions: Any) -> WorkflowDefinition:
    """Return ``flow`` in versions 1.0 and following; the last one is the current version."""
    made = [
        definition(function, "flow", version=f"{number}.0", versioning=versioning)
        for number, function in enumerate(functions, 1)
    ]
    return replace(made[-1], others=tuple(made[:-1]))


def result_across_a_deployment(versioning: str, version: str = "") -> tuple[Any, World]:
    """Start under 1.0, make 2.0 current, and let the run end."""
    world = World(deployment(versioning, one))
    body: dict[str, Any] = {"workflow": "flow", "args": [], "kwargs": {}, "request_id": "r"}
    if version:
        body["version"] = version
    world.store.start("w", request_id="r", body=body)
    world.settle()
    world.deploy(deployment(versioning, one, two))
    world.restart()
    world.signal("do-activity")
    world.settle()
    return world.result(), world


def test_routing_pinned() -> None:
    result, _ = result_across_a_deployment("pinned")
    assert result == "1.0"


def test_routing_auto_upgrade() -> None:
    result, world = result_across_a_deployment("auto_upgrade")
    assert result == "2.0"
    started = world.events()[0]
    assert isinstance(started, e.RunStarted)
    assert started.version == "1.0", "the history tells which version it began with"


def test_routing_with_override() -> None:
    result, _ = result_across_a_deployment("auto_upgrade", version="1.0")
    assert result == "1.0"
