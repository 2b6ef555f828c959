"""What the tests of resets and forks have in common."""

from typing import Any

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core import resetting
from orchestrator.core.errors import ApplicationError
from orchestrator.core.replay import replay
from orchestrator.core.resetting import Origin, start_of
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
            raise ApplicationError("no", "Refused")
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
    world: World, event: int, *, id: str = "w", signals: bool = True, changed: Any = None
) -> RunKey:
    """Start a run that goes on from "w", as clients do where it has ended, or for a fork."""
    stored = world.store.read_history(RunKey(workflow_id="w", run=1))
    started = world.events()[0]
    assert isinstance(started, e.RunStarted)
    head = stored[event - 1].head
    origin = Origin(id="w", run=1, event=event, head=head, signals=signals, changed=changed or {})
    said = start_of(started)
    key = world.start(str(said.pop("workflow")), id=id, origin=origin.as_json(), **said)
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


def paid_until_charged() -> World:
    world = world_of(paid)
    world.start("paid", "7")
    world.settle()
    world.signal("go")
    world.settle()
    return world


def check_cut(world: World, event: int, *, is_fork: bool = False) -> None:
    cut = resetting.cut_at(world.events(), event)
    resetting.check(cut, is_fork=is_fork, despite_effects=False)
