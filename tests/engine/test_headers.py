"""Headers go where the run goes: its steps, its children, the run that continues it (IC2)."""

import json
from dataclasses import replace
from typing import Any

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.interceptors import Interceptor, OrderChild, OrderStep
from orchestrator.core.values import Json
from tests.engine.world import QUEUE, World, definition

HEADERS: dict[str, Json] = {"trace": "t-1"}


async def leaf() -> Any:
    await workflow.step("work")
    return dict(workflow.info().headers)


async def root(rounds: int) -> Any:
    if rounds:
        workflow.continue_as_new(rounds - 1)
    await workflow.step("work")
    return [dict(workflow.info().headers), await workflow.child("leaf", id="leaf")]


async def failing() -> Any:
    return await workflow.step("flaky")


class Stamping(Interceptor):
    """Says of each step and child where it comes from."""

    def order_step(self, call: OrderStep) -> OrderStep:
        return replace(call, headers={**call.headers, "task": call.task})

    def order_child(self, call: OrderChild) -> OrderChild:
        return replace(call, headers={**call.headers, "child": call.workflow})


def start(world: World, name: str, *args: Json) -> None:
    body: dict[str, Json] = {
        "workflow": name,
        "args": list(args),
        "kwargs": {},
        "headers": HEADERS,
    }
    world.store.start("w", request_id="r", body=body)


def sent(world: World) -> list[dict[str, Json]]:
    return [json.loads(message)["headers"] for message in world.store.queues[QUEUE]]


def test_headers_of_a_start_reach_steps_children_and_the_next_run() -> None:
    world = World(leaf, root)
    world.tasks["work"] = lambda: None
    start(world, "root", 2)
    world.turn()
    assert sent(world) == [HEADERS]
    world.settle()
    assert json.loads(world.row()["result"]) == [HEADERS, HEADERS]
    first, last = world.events()[0], world.events(run=3)[0]
    assert isinstance(first, e.RunStarted)
    assert isinstance(last, e.RunStarted)
    assert first.headers == last.headers == HEADERS
    scheduled = world.events(run=3)[1]
    assert isinstance(scheduled, e.StepScheduled)
    assert scheduled.headers is None, "the run's own are not recorded with each step"


def test_what_interceptors_make_of_them_is_recorded_and_travels() -> None:
    stamping = (Stamping(),)
    world = World(definition(leaf, interceptors=stamping), definition(root, interceptors=stamping))
    world.tasks["work"] = lambda: None
    start(world, "root", 0)
    world.turn()
    assert sent(world) == [{**HEADERS, "task": "work"}]
    world.settle()
    assert json.loads(world.row()["result"]) == [HEADERS, {**HEADERS, "child": "leaf"}]


def test_every_attempt_has_the_headers_also_after_the_orchestrator_died() -> None:
    world = World(definition(failing, interceptors=(Stamping(),)))
    world.tasks["flaky"] = lambda: 1 // 0
    start(world, "failing")
    world.settle()
    world.restart()
    # Code that no longer stamps: what was recorded stays what it is.
    world.deploy(definition(failing))
    world.advance(60_000)
    world.turn()
    assert sent(world) == [{**HEADERS, "task": "flaky"}]


def test_a_run_without_headers_is_recorded_as_ever() -> None:
    world = World(leaf)
    world.start("leaf")
    world.turn()
    assert [b"headers" in e.encode(event) for event in world.events()] == [False, False]
    assert sent(world) == [{}]
