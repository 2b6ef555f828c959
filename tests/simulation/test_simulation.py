"""P1 to P6 over a few hundred seeds; and what the simulation promises of itself.

Goal: nothing that is acknowledged is lost, recorded twice or left half done, whatever dies.
Method: see the package.  More seeds: ``python -m tests.simulation --seeds 10000 --jobs 2``.
"""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orchestrator.core.limits import BALANCE_INTERVAL_MS
from tests.architecture.tree import ROOT
from tests.simulation import histories
from tests.simulation.__main__ import main, one
from tests.simulation.run import simulate
from tests.simulation.scheduler import Actor, Killed, Scheduler
from tests.simulation.tail import restored, taken
from tests.simulation.world import World

SEEDS = 300
#: Seeds in a test, so that a failure is found by its name.
CHUNK = 50


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_all_promises_are_kept(first: int) -> None:
    for seed in range(first, first + CHUNK):
        broken = one(seed).broken
        assert broken is None, f"python -m tests.simulation --seed {seed}\n{broken}"


def story_in_another_process(seed: int, hash_seed: int) -> bytes:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        check=True,
        capture_output=True,
    ).stdout


@pytest.mark.parametrize("seed", [4, 74])
def test_a_seed_tells_the_same_story_byte_by_byte_in_every_process(seed: int) -> None:
    first, second = (story_in_another_process(seed, hash_seed) for hash_seed in (1, 2))
    assert first == second
    assert len(first.splitlines()) > 20


def test_telling_a_story_changes_nothing() -> None:
    for seed in range(5):
        silent, told = World(seed), World(seed, is_told=True)
        for world in (silent, told):
            world.storm()
            world.close()
        heads = [
            {key: log[-1].head for key, log in world.watch.histories.items() if log}
            for world in (silent, told)
        ]
        assert heads[0] == heads[1]
        assert told.story.lines
        assert not silent.story.lines


def test_a_story_names_time_actor_and_fault() -> None:
    story = simulate(3, is_told=True).story
    assert story[0].split() == ["0.000", "s", "node1", "starts"]
    assert any("**" in line for line in story)
    assert any("commit w1.1: RunStarted" in line for line in story)


def test_the_command_says_how_fast_it_was_and_ends_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--seeds", "3", "--first", "7"]) == 0
    assert "3 seeds from 7" in capsys.readouterr().out


def test_a_killed_actor_does_nothing_more() -> None:
    scheduler, actor = Scheduler(), Actor("one")
    done: list[str] = []

    def die() -> None:
        done.append("dies")
        raise Killed

    scheduler.after(1, actor, die)
    scheduler.after(2, actor, lambda: done.append("after its death"))
    scheduler.run_until(scheduler.now_ms + 10)
    assert done == ["dies"]


def test_a_stopped_actor_goes_on_where_it_was_while_others_act_and_time_passes() -> None:
    scheduler, stopped, other = Scheduler(), Actor("stopped"), Actor("other")
    began_at_ms = scheduler.now_ms
    done: list[tuple[str, int]] = []

    def note(what: str) -> None:
        done.append((what, scheduler.now_ms - began_at_ms))

    def pause() -> None:
        scheduler.run_until(scheduler.now_ms + 50)
        note("goes on")

    scheduler.after(10, stopped, pause)
    scheduler.after(20, stopped, lambda: note("comes later"))
    scheduler.after(30, other, lambda: note("acts meanwhile"))
    scheduler.run_until(began_at_ms + 100)
    assert done == [("acts meanwhile", 30), ("goes on", 60), ("comes later", 60)]


@pytest.fixture
def calm_world() -> Iterator[World]:
    world = World(5)
    world.weather.clear()
    world.weather.storm_ms = 0
    yield world
    world.close()


def test_a_restart_that_no_call_met_is_noticed_and_what_came_back_is_read_again(
    calm_world: World,
) -> None:
    world, key = calm_world, histories.key_of("w9", 1)
    world.scheduler.run_until(world.scheduler.now_ms + 4_000)
    world.clients[0].start("w9", ["signal", "go", 0])
    before = taken(world.server, world.watch)
    world.scheduler.run_until(world.scheduler.now_ms + 200)
    assert [event["type"] for event in world.watch.events(key)] == ["RunStarted"]
    restored(world.server, world.watch, before)
    for node in world.nodes:
        node.epoch = world.server.epoch  # Their connections were made anew, in silence.
    assert world.watch.events(key) == []
    world.scheduler.run_until(world.scheduler.now_ms + 2_000 + BALANCE_INTERVAL_MS)
    assert [event["type"] for event in world.watch.events(key)] == ["RunStarted"]
