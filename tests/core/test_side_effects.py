"""SE1 to SE3: a small function runs once for each recorded value, and replay does not run it."""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core.errors import ActivationFailed, ForbiddenInWorkflow, NondeterminismError
from orchestrator.core.events import RunBlocked, RunUnblocked, SideEffectRecorded, StepCompleted
from orchestrator.core.replay import replay
from orchestrator.core.side_effects import side_effect
from orchestrator.core.signals import on_signal, signal
from tests.core.driver import START_MS, Driver, define, kinds

Drive = Callable[..., Driver]

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _calls() -> None:
    CALLS.clear()


def look() -> dict[str, Any]:
    CALLS.append(os.urandom(8).hex())
    return {"drawn": CALLS[-1], "pid": os.getpid(), "home": os.environ.get("HOME")}


async def looks() -> list[Any]:
    found = [side_effect(look)["drawn"]]
    await workflow.step("a")
    found.append(side_effect(look)["drawn"])
    return found


def test_the_function_runs_outside_and_its_value_is_recorded(drive: Drive) -> None:
    run = drive(looks)
    assert kinds(run.started) == ["SideEffectRecorded", "StepScheduled"]
    recorded = run.started[0]
    assert isinstance(recorded, SideEffectRecorded)
    assert recorded.value["pid"] == os.getpid()  # type: ignore[index, call-overload]
    run.complete(1)
    assert len(CALLS) == 2


def test_replay_returns_the_recorded_value_and_runs_nothing(drive: Drive) -> None:
    run = drive(looks)
    replayed = run.replayed()
    assert len(CALLS) == 1
    ended = replayed.execution.apply(StepCompleted(at_ms=START_MS, step=1, attempt=1))
    assert kinds(ended) == ["SideEffectRecorded", "RunCompleted"]
    assert ended[-1].result[0] == CALLS[0]  # type: ignore[union-attr, index]
    assert len(CALLS) == 2


def test_a_value_comes_as_the_type_asked_for(drive: Drive) -> None:
    async def typed() -> None:
        side_effect(lambda: "text", int)

    with pytest.raises(ActivationFailed, match="bug: ValueError"):
        drive(typed)


def test_a_value_that_the_history_does_not_have_stops_the_replay_unasked(drive: Drive) -> None:
    async def plain() -> list[Any]:
        await workflow.step("a")
        return []

    run = drive(plain)

    async def greedy() -> list[Any]:
        with contextlib.suppress(Exception):
            side_effect(look)
        await workflow.step("a")
        return []

    with pytest.raises(ActivationFailed, match="nondeterminism: side effect 1 is asked for"):
        replay(define(greedy), "w-1", 1, run.history)
    assert CALLS == []


def test_a_value_that_the_code_no_longer_asks_for_is_refused(drive: Drive) -> None:
    async def without() -> None:
        await workflow.step("a")

    run = drive(looks)
    with pytest.raises(NondeterminismError, match="SideEffectRecorded"):
        replay(define(without), "w-1", 1, run.history)


def test_what_a_blocked_run_did_not_record_is_looked_at_when_it_moves(drive: Drive) -> None:
    async def broken() -> list[Any]:
        found = [side_effect(look)["drawn"]]
        await workflow.step("a")
        raise ZeroDivisionError(found)

    run = drive(broken)
    ended = StepCompleted(at_ms=START_MS, step=1, attempt=1)
    history = [*run.history, ended, RunBlocked(at_ms=START_MS, kind="bug", message="a bug")]
    replayed = replay(define(looks), "w-1", 1, history)
    assert kinds(replayed.pending) == ["SideEffectRecorded", "RunCompleted"]
    assert len(CALLS) == 2
    history += [RunUnblocked(at_ms=START_MS), *replayed.pending]
    assert replay(define(looks), "w-1", 1, history).pending == []
    assert len(CALLS) == 2


def no_json() -> object:
    return object()


def fails() -> None:
    raise OSError("no such file")


def large() -> str:
    return "x" * 70_000


async def coroutine() -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (no_json, "bug: TypeError"),
        (fails, "bug: OSError"),
        (large, "limit: the value of side_effect.. has 70002 bytes"),
        (coroutine, "bug: UsageError: side_effect.. wants a plain function"),
    ],
)
def test_what_gives_no_value_blocks_the_run_whatever_the_code_swallows(
    drive: Drive, function: Any, says: str
) -> None:
    async def swallows() -> None:
        with contextlib.suppress(Exception):
            side_effect(function)

    with pytest.raises(ActivationFailed, match=says):
        drive(swallows)


def test_the_guard_is_back_behind_it(drive: Drive) -> None:
    async def sly() -> None:
        side_effect(look)
        os.urandom(8).hex()

    with pytest.raises(ActivationFailed, match="forbidden"):
        drive(sly)


def test_the_workflow_may_not_be_steered_from_inside(drive: Drive) -> None:
    async def steers() -> None:
        side_effect(lambda: workflow.now())

    with pytest.raises(ActivationFailed, match="works only in workflow code"):
        drive(steers)


def test_readers_may_not_ask(drive: Drive) -> None:
    async def asked() -> None:
        workflow.on_query("look")(lambda: side_effect(look))
        came: list[object] = []
        on_signal("go")(came.append)
        await workflow.wait_condition(lambda: came and side_effect(look))

    run = drive(asked)
    with pytest.raises(ForbiddenInWorkflow, match="side_effect"):
        run.execution.query("look", [])
    run.execution.close()
    run = drive(asked)
    with pytest.raises(ActivationFailed, match="side_effect"):
        run.signal("go")
    assert CALLS == []


def test_unwound_code_looks_at_nothing(drive: Drive) -> None:
    async def tidy() -> None:
        try:
            await signal("never")
        finally:
            side_effect(look)

    drive(tidy).close()
    assert CALLS == []
