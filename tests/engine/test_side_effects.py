"""SE1 on the engine: what was recorded stays, whoever carries the run on."""

import os
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import guard
from tests.engine.world import World

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _guarded() -> None:
    guard.install()
    CALLS.clear()


def draw() -> str:
    CALLS.append(os.urandom(8).hex())
    return CALLS[-1]


async def draws() -> Any:
    found = [workflow.side_effect(draw)]
    await workflow.signal("go")
    found.append(workflow.side_effect(draw))
    await workflow.signal("go")
    return found


def test_values_stay_across_restarts() -> None:
    world = World(draws)
    world.start("draws")
    world.settle()
    for _ in range(2):
        world.restart()
        world.signal("go")
        world.settle()
    assert world.result() == CALLS
    assert len(CALLS) == 2
    world.check_chain()


def test_a_function_that_fails_blocks_the_run_until_it_does_not() -> None:
    broken = [True]

    def look() -> int:
        if broken:
            raise OSError("away")
        return 7

    async def looks() -> Any:
        await workflow.signal("go")
        return workflow.side_effect(look)

    world = World(looks)
    world.start("looks")
    world.signal("go")
    world.settle()
    assert world.status() == "blocked"
    assert "OSError" in world.row()["blocked"]
    assert "SideEffectRecorded" not in world.names()
    broken.clear()
    world.restart()
    world.settle()
    assert world.result() == 7
    world.check_chain()
