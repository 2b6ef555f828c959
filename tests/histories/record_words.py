"""Records what the zoo says to its visitors, to its neighbours and to itself; see `record`."""

from datetime import timedelta

from orchestrator.client.schedule_spec import (
    Schedule,
    ScheduleAction,
    ScheduleIntervalSpec,
    ScheduleSpec,
)
from orchestrator.client.schedules import schedule_definition
from orchestrator.core.resetting import Origin
from orchestrator.core.schedule import SCHEDULE_TYPE
from orchestrator.core.values import Json
from orchestrator.payloads import PydanticCodec
from orchestrator.store.ports import Kind, RunKey
from tests.engine.world import World
from tests.histories.record import pass_time, recording, run_zoo, zoo_world


@recording("zoo-told")
def told() -> World:
    world = run_zoo("zoo-told")
    for word in ("polly", "r2d2", "rude"):
        world.update("learn", word)
        world.settle()
    world.update("unlearn")
    world.signal("hungry", {"for": "seeds"})
    world.settle()
    pass_time(world, 60_000)
    return world


def _neighbours() -> World:
    world = zoo_world()
    world.start("zoo-child", "slow", id="zoo-other")
    world.start("zoo-child", "slow", id="zoo-slow")
    world.settle()
    world.start("zoo-neighbour")
    world.settle()
    return world


recording("zoo-neighbour")(_neighbours)
recording("zoo-other", id="zoo-other")(_neighbours)
recording("zoo-slow", id="zoo-slow")(_neighbours)


@recording("zoo-round")
def round_and_round() -> World:
    world = run_zoo("zoo-round", 1)
    for _ in range(3):
        world.signal("lap")
        world.settle()
    return world


@recording("zoo-patched")
def patched() -> World:
    return run_zoo("zoo-patched")


@recording("zoo-schedule", id="orc-schedule:feed")
def schedule() -> World:
    world = zoo_world()
    codec = PydanticCodec()
    world.deploy(schedule_definition(codec))
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(timedelta(hours=1))])
    made = Schedule(action=ScheduleAction(workflow="zoo-patched"), spec=spec)
    world.start(SCHEDULE_TYPE, "feed", made.as_json(codec), id="orc-schedule:feed")
    world.settle()
    pass_time(world, 7_200_000)
    world.post(
        Kind.SIGNAL,
        {"signal": "command", "signal_id": "p", "payload": {"do": "pause", "note": "closed"}},
        id="orc-schedule:feed",
    )
    world.settle()
    return world


@recording("zoo-keeper")
def keeper() -> World:
    world = run_zoo("zoo-keeper")
    pass_time(world, 20_000)
    return world


@recording("zoo-sleeper")
def sleeper() -> World:
    world = zoo_world()
    world.start("zoo-sleeper", run_timeout_ms=60_000)
    world.settle()
    pass_time(world, 120_000)
    return world


def _talked() -> World:
    world = run_zoo("zoo-talk")
    said: list[tuple[str, Json]] = [("nudge", "a"), ("nudge", "b"), ("say", {"text": "bye"})]
    for name, payload in said:
        world.signal(name, payload)
        world.settle()
    return world


@recording("zoo-reset")
def reset() -> World:
    world = _talked()
    world.post(Kind.RESET, {"run": 1, "event": 2, "request_id": "r", "reason": "said too early"})
    world.settle()
    return world


@recording("zoo-forked", id="forked")
def forked() -> World:
    world = _talked()
    stored = world.store.read_history(RunKey(workflow_id="w", run=1))
    origin = Origin(id="w", run=1, event=9, head=stored[8].head, signals=True)
    world.start("zoo-talk", id="forked", origin=origin.as_json())
    world.settle()
    world.signal("enough", 1, id="forked")
    world.settle()
    return world


@recording("zoo-streams")
def streams() -> World:
    world = run_zoo("zoo-streams")
    reseeds: list[Json] = [{"seed": 7, "name": "dice"}, {"seed": -1}, {"seed": "c0ffee"}]
    for index, reseed in enumerate(reseeds):
        if index != 1:
            world.signal("go")
        world.signal("__reseed", reseed)
        world.settle()
    world.signal("go")
    world.settle()
    return world
