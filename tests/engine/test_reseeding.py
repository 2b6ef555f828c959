"""A reseed reaches any run, through every door, and stands in its history; a bad one says why."""

from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core import generators
from orchestrator.core.flags import FIRST
from orchestrator.core.values import Json
from orchestrator.core.with_start import with_start
from orchestrator.engine import mail
from orchestrator.engine.door import pass_on
from orchestrator.store.ports import Kind
from tests.engine.world import World, definition

pytest.importorskip("numpy", reason="numpy is not installed")


async def walking() -> list[float]:
    rng = workflow.rng("walk")
    seen: list[float] = []
    while len(seen) < 4:
        seen.append(float(rng.random()))
        await workflow.signal("go")
    return seen


def walking_world(**options: Any) -> World:
    options.setdefault("signals", {"go": None})
    world = World(definition(walking, **options))
    world.start("walking")
    world.settle()
    return world


def go(world: World) -> None:
    world.signal("go")
    world.settle()


def stream(seed: str, count: int) -> list[float]:
    drawn: list[float] = generators.generator(seed, "walk").random(count).tolist()
    return drawn


def seed_of(world: World) -> str:
    started = world.events()[0]
    assert isinstance(started, e.RunStarted)
    return started.seed


def rejected(world: World) -> list[str]:
    return [one.reason for one in world.events() if isinstance(one, e.SignalRejected)]


@pytest.mark.parametrize("is_killed", [False, True], ids=["lives", "is killed at every event"])
def test_a_run_goes_on_from_the_new_seed_though_its_signals_are_declared(is_killed: bool) -> None:  # noqa: FBT001
    world = walking_world()
    go(world)
    for signal_id in ("s", "s"):
        world.signal("__reseed", {"seed": 7}, signal_id=signal_id)
        world.settle()
        if is_killed:
            world.restart()
    for _ in range(3):
        go(world)
        if is_killed:
            world.restart()
            world.settle()
    assert world.result() == stream(seed_of(world), 2) + stream("7", 2)
    received = [one for one in world.events() if isinstance(one, e.SignalReceived)]
    assert [one.signal for one in received] == ["go", "__reseed", "go", "go", "go"]
    assert [one.words for one in world.events() if isinstance(one, e.GeneratorDrawn)] == [
        *(1, 2, 1, 2),
    ]
    world.check_chain()


def test_a_reseed_by_redis_cli_is_taken_and_a_bad_one_is_told_of_in_the_history() -> None:
    world = walking_world()
    for payload in ('{"seed": "0xbeef", "name": "walk"}', '{"sed": 3}', "7", "{broken"):
        world.store.write_door({"workflow": "w", "signal": "__reseed", "payload": payload})
    world.store.write_door({"workflow": "w", "signal": "__resed", "payload": '{"seed": 7}'})
    pass_on(world.store)
    world.settle()
    assert world.status() == "running"
    reasons = rejected(world)
    assert "found also 'sed'" in reasons[0]
    assert "an object" in reasons[1]
    assert "not JSON" in reasons[2]
    assert "it has only __reseed" in reasons[3]
    for _ in range(4):
        go(world)
    assert world.result() == stream(seed_of(world), 1) + stream("beef", 3)


def test_a_run_from_before_says_that_it_takes_no_reseed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "FLAGS", (FIRST,))
    world = walking_world(signals=None)
    monkeypatch.undo()
    world.restart()
    world.signal("__reseed", {"seed": 7})
    world.signal("__mine", {"seed": 7})
    world.settle()
    assert "only later runs take it" in rejected(world)[0]
    assert world.names().count("SignalReceived") == 1, "its other names are still its own"
    for _ in range(4):
        go(world)
    assert world.result() == stream(seed_of(world), 4)
    assert "GeneratorDrawn" not in world.names()


def test_a_reseed_holds_for_its_run_and_not_for_the_next() -> None:
    async def round_and_round(laps: int) -> list[float]:
        await workflow.signal("go")
        drawn = float(workflow.rng("walk").random())
        if laps:
            workflow.continue_as_new(0)
        return [drawn]

    world = World(round_and_round)
    world.start("round_and_round", 1)
    world.signal("__reseed", {"seed": 7})
    world.signal("go")
    world.settle()
    drawn = next(one for one in world.events() if isinstance(one, e.GeneratorDrawn))
    seven = generators.generator("7", "walk")
    seven.random()
    assert (drawn.words, drawn.digest) == generators.position(seven)
    assert "SignalReceived" not in world.names(run=2)
    world.signal("go")
    world.settle()
    started = world.events(run=2)[0]
    assert isinstance(started, e.RunStarted)
    assert world.result() == stream(started.seed, 1)


def test_a_reseed_behind_the_end_of_its_run_is_the_next_runs() -> None:
    async def laps(count: int) -> list[float]:
        await workflow.signal("go")
        if count:
            workflow.continue_as_new(0)
        return [float(workflow.rng("walk").random())]

    world = World(laps)
    world.start("laps", 1)
    world.settle()
    for name, payload in (("go", None), ("__reseed", {"seed": 7}), ("go", None)):
        world.signal(name, payload)  # type: ignore[arg-type]
    world.settle()
    assert world.result() == stream("7", 1)


def test_a_start_may_bring_its_reseed_and_another_run_may_send_one() -> None:
    async def tells() -> None:
        await workflow.external("w").signal("__reseed", {"seed": 8})

    world = World(walking, tells)
    start: dict[str, Json] = {"workflow": "walking", "args": [], "kwargs": {}}
    body: dict[str, Json] = {"signal": "__reseed", "signal_id": "s", "payload": {"seed": 7}}
    both = with_start("r", start, body)
    world.store.start("w", request_id="r", body=both.start, message=(Kind.SIGNAL, both.message))
    world.settle()
    go(world)
    world.start("tells", id="teller")
    world.settle()
    assert world.status("teller") == "completed"
    for _ in range(3):
        go(world)
    # The first number was drawn as the run began, before any signal of it.
    assert world.result() == stream(seed_of(world), 1) + stream("7", 1) + stream("8", 2)


def test_a_blocked_run_is_reseeded_in_its_turn_once_it_moves() -> None:
    async def fixed() -> list[float]:
        first = float(workflow.rng("walk").random())
        await workflow.signal("go")
        return [first, float(workflow.rng("walk").random())]

    async def broken() -> list[float]:
        first = float(workflow.rng("walk").random())
        await workflow.signal("go")
        raise AttributeError(f"{first} has no such thing")

    world = World(definition(broken, name="fixed"))
    world.start("fixed")
    go(world)
    world.settle()
    assert world.status() == "blocked"
    world.signal("__reseed", {"seed": 7})
    world.settle()
    world.deploy(fixed)
    world.restart()
    world.settle()
    assert world.result() == stream(seed_of(world), 2), "the reseed came behind the go"
