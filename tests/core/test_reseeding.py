"""A reseed is a signal on record: streams go on from the new seed, on replay as well (ST4, ST5)."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core import generators
from orchestrator.core.errors import ActivationFailed
from orchestrator.core.events import RunCompleted
from orchestrator.core.flags import FIRST
from orchestrator.core.own_signals import reseed_in
from orchestrator.core.signals import on_signal, signal, signals
from orchestrator.core.values import Json
from tests.core.driver import Driver, drawn_in, kinds

pytest.importorskip("numpy", reason="numpy is not installed")

Drive = Callable[..., Driver]


def numbers(seed: str, name: str, *, skip: int = 0, size: int = 3) -> list[int]:
    """Return what a stream has behind its first `skip` numbers."""
    found: list[int] = generators.generator(seed, name).integers(1000, size=skip + size).tolist()
    return found[skip:]


async def walks() -> list[Any]:
    held = workflow.rng("held")
    seen: list[Any] = [held.integers(1000, size=3).tolist(), workflow.random().random()]
    await workflow.step("a")
    seen.append(held.integers(1000, size=3).tolist())
    seen.append(workflow.rng("other").integers(1000, size=3).tolist())
    seen.append(workflow.random().random())
    return seen


def results(run: Driver) -> list[Any]:
    (*_, ended) = run.complete(1)
    assert isinstance(ended, RunCompleted)
    assert isinstance(ended.result, list)
    return ended.result


def test_a_reseed_changes_generators_held_and_to_come_and_no_other_chance(drive: Drive) -> None:
    plain = results(drive(walks))
    run = drive(walks)
    assert run.signal("__reseed", {"seed": 7}) == [], "nobody has drawn"
    found = results(run)
    assert found == [
        plain[0],
        plain[1],
        numbers("7", "held"),
        numbers("7", "other"),
        plain[4],
    ]
    assert drawn_in(run.history) == [("held", 2), ("held", 2), ("other", 2)]
    assert run.replayed().execution.is_finished


def test_a_reseed_of_one_generator_leaves_the_others_where_they_stand(drive: Drive) -> None:
    run = drive(walks)
    run.signal("__reseed", {"seed": "0xC0FFEE", "name": "other"})
    assert results(run)[2:4] == [numbers("c0ffee", "held", skip=3), numbers("c0ffee", "other")]
    run = drive(walks)
    run.signal("__reseed", {"seed": 9, "name": "other"})
    run.signal("__reseed", {"seed": 8, "name": "held"})
    assert results(run)[2:4] == [numbers("8", "held"), numbers("9", "other")]
    run = drive(walks)
    run.signal("__reseed", {"seed": 9, "name": "other"})
    run.signal("__reseed", {"seed": "a"})
    assert results(run)[2:4] == [numbers("a", "held"), numbers("a", "other")]


def test_children_of_a_reseeded_stream_follow_from_its_new_seed(drive: Drive) -> None:
    async def spawns() -> float:
        held = workflow.rng("held")
        await workflow.step("a")
        return float(held.spawn(1)[0].random())

    run = drive(spawns)
    run.signal("__reseed", {"seed": 7})
    (ended,) = run.complete(1)
    assert isinstance(ended, RunCompleted)
    assert ended.result == generators.generator("7", "held").spawn(1)[0].random()


def test_the_same_reseed_twice_is_one(drive: Drive) -> None:
    async def draws_as_told() -> None:
        rng = workflow.rng("held")
        for _ in range(2):
            await signal("go")
            rng.random()
        await workflow.sleep(1)

    run = drive(draws_as_told)
    run.signal("__reseed", {"seed": 7}, id="s")
    run.signal("go")
    run.signal("__reseed", {"seed": 7}, id="s")
    run.signal("go")
    assert drawn_in(run.history) == [("held", 1), ("held", 2)]
    run.signal("__reseed", {"seed": 7}, id="another")


def test_a_reseed_is_not_the_workflows_own_signal(drive: Drive) -> None:
    async def listens() -> Any:
        told: list[Any] = []

        @on_signal(None)
        def anything(name: str, payload: Any) -> None:
            told.append(name)

        await workflow.wait_condition(lambda: told)
        return told

    run = drive(listens)
    assert run.signal("__reseed", {"seed": 7}) == []
    assert run.execution.mailbox.unread() == [], "it does not go over to the next run"
    (ended,) = run.signal("hello")
    assert isinstance(ended, RunCompleted)
    assert ended.result == ["hello"]


def test_a_run_without_generators_or_numpy_takes_a_reseed(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def plain() -> float:
        await workflow.step("a")
        return workflow.random().random()

    with monkeypatch.context() as gone:
        gone.setitem(sys.modules, "numpy", None)
        run = drive(plain)
        assert run.signal("__reseed", {"seed": 7}) == []
        assert kinds(run.complete(1)) == ["RunCompleted"]


def test_a_reseed_that_cannot_be_done_is_refused_on_record(drive: Drive) -> None:
    run = drive(walks)
    (refused,) = run.signal("__reseed", {"seed": -1})
    assert kinds([refused]) == ["SignalRefused"]
    assert results(run)[2] == numbers("c0ffee", "held", skip=3)


async def takes_it() -> Json:
    await workflow.step("a")
    return [await signal("__reseed")]


async def reads_it() -> Json:
    await workflow.step("a")
    async for payload in signals("__reseed"):
        return [payload]
    return []


async def handles_it() -> Json:
    told: list[Json] = []
    await workflow.step("a")
    on_signal("__reseed")(told.append)
    await workflow.wait_condition(lambda: told)
    return told


@pytest.mark.parametrize("function", [takes_it, reads_it, handles_it])
def test_names_of_the_engines_signals_are_refused_to_runs_that_began_since(
    drive: Drive, function: Callable[..., Any]
) -> None:
    old = drive(function, flags=[FIRST])
    old.signal("__reseed", {"seed": 7})
    (ended,) = old.complete(1)
    assert isinstance(ended, RunCompleted)
    assert ended.result == [{"seed": 7}]
    new = drive(function)
    with pytest.raises(ActivationFailed, match="is the engine's own"):
        new.complete(1)


@pytest.mark.parametrize(
    ("payload", "seed", "name"),
    [
        ({"seed": 0}, "0", None),
        ({"seed": 2**128 - 1}, "f" * 32, None),
        ({"seed": "0XBeef", "name": None}, "beef", None),
        ({"seed": "10", "name": "noise"}, "10", "noise"),
    ],
)
def test_a_seed_is_a_whole_number_or_hex(payload: Json, seed: str, name: str | None) -> None:
    said = reseed_in(payload)
    assert (said.seed, said.name) == (seed, name)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (None, "an object"),
        (7, "an object"),
        ({}, '"seed" is'),
        ({"seed": -1}, "from 0 to"),
        ({"seed": True}, '"seed" is'),
        ({"seed": 1.0}, '"seed" is'),
        ({"seed": 2**128}, "from 0 to"),
        ({"seed": ""}, "hex digits"),
        ({"seed": "seed"}, "hex digits"),
        ({"seed": " 1"}, "hex digits"),
        ({"seed": "1\n"}, "hex digits"),
        ({"seed": "٣"}, "hex digits"),
        ({"seed": "0" * 33}, "hex digits"),
        ({"seed": 1, "name": ""}, '"name" is'),
        ({"seed": 1, "name": 3}, '"name" is'),
        ({"seed": 1, "generator": "noise"}, "found also 'generator'"),
    ],
)
def test_what_is_no_reseed_is_told_what_one_is(payload: Json, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        reseed_in(payload)
