"""A workflow that hogs the owner's thread is interrupted and parked; the others go on."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ActivationFailed
from orchestrator.engine.watchdog import Watchdog
from tests.engine.world import World, definition

LIMIT_MS = 60


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    dog = Watchdog(LIMIT_MS)
    yield dog
    dog.close()


def spin() -> None:
    while True:
        pass


def test_an_activation_that_never_ends_is_interrupted(watchdog: Watchdog) -> None:
    with pytest.raises(ActivationFailed) as caught:
        watchdog("busy", spin)
    assert caught.value.kind == "deadline"


def test_an_interruption_that_was_due_never_strikes_later(watchdog: Watchdog) -> None:
    def long_enough_to_be_noticed() -> str:
        until = time.thread_time() + LIMIT_MS / 1000
        while time.thread_time() < until:
            pass
        return "done"

    for _ in range(20):
        with suppress(ActivationFailed):
            watchdog("near the limit", long_enough_to_be_noticed)
        # Were an interruption still on its way, it would arrive in here.
        for _ in range(10_000):
            pass


def test_code_that_swallows_the_interruption_is_interrupted_again(watchdog: Watchdog) -> None:
    swallowed: list[int] = []

    def stubborn() -> None:
        while True:
            try:
                spin()
            except BaseException:
                swallowed.append(1)
                if len(swallowed) == 2:
                    raise

    with pytest.raises(ActivationFailed):
        watchdog("stubborn", stubborn)
    assert len(swallowed) == 2


def test_what_returns_in_time_is_left_alone(watchdog: Watchdog) -> None:
    assert watchdog("quick", lambda: 7) == 7
    with pytest.raises(KeyError):
        watchdog("broken", lambda: dict[str, int]()["x"])


async def hog() -> None:
    while True:
        pass


async def modest() -> Any:
    return await workflow.step("job")


def test_a_hogging_run_is_blocked_with_its_place_and_the_others_complete(
    watchdog: Watchdog,
) -> None:
    world = World(definition(hog), definition(modest))
    world.tasks["job"] = lambda: "done"
    owner = world.node.owner
    owner._tools = replace(owner._tools, watch=watchdog)
    world.start("hog", id="hog")
    world.start("modest", id="modest")
    world.settle()
    assert world.status("modest") == "completed"
    assert world.status("hog") == "blocked"
    (blocked,) = [event for event in world.events("hog") if isinstance(event, e.RunBlocked)]
    assert blocked.kind == "deadline"
    assert "test_watchdog.py" in blocked.where
