"""RT1 to RT5 and RS1 to RS4: a run goes on from an event of a history, its own or another's."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.replay import replay
from orchestrator.core.resetting import Origin, start_of
from orchestrator.core.retry import Retry
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind, RunKey
from tests.engine.world import World


async def order(number: str) -> list[Json]:
    said: list[Json] = [number]
    said.append(await workflow.step("price", number))
    said.append(await workflow.signal("approve"))
    said.append(await workflow.step("ship", number))
    said.append(await workflow.signal("stars"))
    return said


async def paid(number: str) -> str:
    async with workflow.saga() as saga:
        await saga.step("reserve", number, undo="release")
        await workflow.signal("go")
        await saga.step("charge", number, undo="refund")
        await workflow.signal("go")
        if await workflow.signal("verdict") == "no":
            raise workflow.ApplicationError("no", "Refused")
    return "paid"


def world_of(*functions: Any) -> World:
    world = World(*functions)
    for name in ("price", "ship", "reserve", "release", "charge", "refund", "slow"):
        world.tasks[name] = lambda *args, name=name: f"{name} {args[0] if args else ''}".strip()
    return world


def reset(world: World, event: int, *, run: int = 1, request: str = "q", **said: Json) -> None:
    body: dict[str, Json] = {"run": run, "event": event, "request_id": request, **said}
    world.post(Kind.RESET, body)
    world.settle()


def begin_from(
    world: World, event: int, *, source: str = "w", run: int = 1, id: str = "w", **said: Json
) -> RunKey:
    """Start a run that goes on from a history, as clients do for one that has ended, or a fork."""
    stored = world.store.read_history(RunKey(workflow_id=source, run=run))
    started = world.events(source, run)[0]
    assert isinstance(started, e.RunStarted)
    head = stored[event - 1].head
    changed: Any = said.pop("changed", {})
    signals = bool(said.pop("signals", True))
    origin = Origin(
        id=source, run=run, event=event, head=head, signals=signals, changed=changed, **said
    )
    body = {**start_of(started), "origin": origin.as_json()}
    key = world.start("", id=id, **body)
    world.settle()
    return key


def number_of(world: World, kind: type[e.Event], nth: int = 1, **parts: object) -> int:
    found = [
        number
        for number, event in enumerate(world.events(), start=1)
        if isinstance(event, kind) and all(getattr(event, n) == v for n, v in parts.items())
    ]
    return found[nth - 1]


def check(world: World, *ids: str) -> None:
    """Every history of these ids holds, and replays to nothing more."""
    for id in ids or ("w",):
        for run in range(1, int(world.row(id)["run"]) + 1):
            world.check_chain(id, run)
            history = world.events(id, run)
            started = history[0]
            assert isinstance(started, e.RunStarted)
            replayed = replay(world.registry[started.workflow], id, run, history)
            assert replayed.pending == []
            replayed.execution.close()


def test_run_is_reset_to_an_input_which_is_given_again() -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    world.signal("approve", "ana")
    world.settle()
    cut = number_of(world, e.StepCompleted)
    reset(world, cut, reason="wrong price", by="bo")
    assert world.names()[-1] == "RunReset"
    assert world.row()["run"] == "2"
    (copied,) = [one for one in world.events("w", 2) if isinstance(one, e.HistoryCopied)]
    assert (copied.id, copied.run, copied.event) == ("w", 1, cut - 1)
    assert (copied.reason, copied.by) == ("wrong price", "bo")
    world.settle()
    world.signal("stars", 5)
    world.settle()
    assert world.result() == ["7", "price 7", "ana", "ship 7", 5]
    assert world.events("w", 2)[: cut - 1] == world.events("w", 1)[: cut - 1]
    # What is kept was not done again, what is dropped was.
    assert [task for task, *_ in world.ran] == ["price", "ship", "ship"]
    check(world)
