"""A signal is never lost and never taken twice; who asks for it gets it in the order it came."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core.errors import ActivationFailed, ApplicationError
from orchestrator.core.events import RunCompleted, RunFailed, SignalReceived, SignalRefused
from orchestrator.core.signals import on_signal, signal, signals
from tests.core.driver import START_MS, Driver, kinds

Drive = Callable[..., Driver]


def result_of(commands: list[Any]) -> Any:
    assert isinstance(commands[-1], RunCompleted), commands
    return commands[-1].result


async def one() -> Any:
    return await signal("approve")


def test_a_signal_reaches_who_waits(drive: Drive) -> None:
    assert result_of(drive(one).signal("approve", {"by": "ana"})) == {"by": "ana"}


def test_signals_are_kept_per_name_until_somebody_asks(drive: Drive) -> None:
    async def late() -> list[Any]:
        await workflow.step("a")
        return [await signal("x"), await signal("y"), await signal("x")]

    run = drive(late)
    for name, payload in (("x", 1), ("x", 2), ("y", 3)):
        assert run.signal(name, payload) == []
    assert result_of(run.complete(1)) == [1, 3, 2]


def test_who_waited_first_is_served_first(drive: Drive) -> None:
    async def three() -> list[Any]:
        return await asyncio.gather(*(signal("x") for _ in range(3)))

    run = drive(three)
    run.signal("x", "a")
    run.signal("x", "b")
    assert result_of(run.signal("x", "c")) == ["a", "b", "c"]


def test_a_repeated_signal_id_is_taken_once(drive: Drive) -> None:
    async def two() -> list[Any]:
        return [await signal("x"), await signal("x")]

    run = drive(two)
    run.signal("x", 1, id="same")
    assert run.signal("x", 1, id="same") == []
    assert result_of(run.signal("x", 2)) == [1, 2]


def test_a_signal_in_time_takes_the_timer_back(drive: Drive) -> None:
    async def bounded() -> Any:
        return await signal("x", timeout=timedelta(hours=24))

    run = drive(bounded)
    assert kinds(run.started) == ["TimerStarted"]
    assert kinds(run.signal("x", 1)) == ["TimerCancelled", "RunCompleted"]


def test_no_signal_in_time_is_a_time_out(drive: Drive) -> None:
    async def bounded() -> Any:
        try:
            return await signal("x", timeout=5)
        except TimeoutError:
            return await signal("x")

    run = drive(bounded)
    run.fire(1)
    assert result_of(run.signal("x", "late")) == "late"


def test_a_kept_signal_needs_no_timer(drive: Drive) -> None:
    async def late() -> Any:
        await workflow.step("a")
        return await signal("x", timeout=5)

    run = drive(late)
    run.signal("x", 1)
    assert kinds(run.complete(1)) == ["RunCompleted"]


def test_a_payload_that_does_not_decode_is_refused_on_record_and_waited_on(drive: Drive) -> None:
    async def typed() -> Any:
        return await signal("x", int)

    run = drive(typed)
    (refused,) = run.signal("x", "secret", id="bad")
    assert refused == SignalRefused(at_ms=run.now_ms, signal_id="bad", signal="x")
    assert isinstance(refused, SignalRefused)
    assert "expected int" in refused.reason
    assert "secret" not in refused.reason
    assert result_of(run.signal("x", 7)) == 7


def test_a_refused_payload_costs_nobody_his_place(drive: Drive) -> None:
    async def two() -> Any:
        return await asyncio.gather(signal("x", int), signal("x"))

    run = drive(two)
    run.signal("x", "no int")
    run.signal("x", 1)
    assert result_of(run.signal("x", "any")) == [1, "any"]


def test_declared_types_hold_where_none_is_named(drive: Drive) -> None:
    run = drive(one, signals={"approve": int})
    assert kinds(run.signal("approve", "x")) == ["SignalRefused"]
    assert result_of(run.signal("approve", 3)) == 3


def test_a_signal_handed_to_a_cancelled_waiter_goes_to_the_next(drive: Drive) -> None:
    async def racing() -> Any:
        first = asyncio.create_task(signal("x"))
        second = asyncio.create_task(signal("x"))

        async def canceller() -> None:
            await signal("go")
            # The same activation hands "x" to `first` and cancels it before it runs again.
            workflow.current("test").mailbox.receive(handed[0])
            first.cancel()

        handed: list[Any] = []
        handed.append(SignalReceived(at_ms=0, signal="x", signal_id="raced", payload="kept"))
        await asyncio.gather(canceller(), return_exceptions=True)
        return await second

    assert result_of(drive(racing).signal("go")) == "kept"


def test_signals_iterates_without_end(drive: Drive) -> None:
    async def summing() -> int:
        total = 0
        async for amount in signals("add", int):
            total += amount
            if total > 5:
                break
        return total

    run = drive(summing)
    for amount in (1, 2):
        assert run.signal("add", amount) == []
    assert result_of(run.signal("add", 3)) == 6


def test_a_handler_gets_kept_signals_first_and_those_to_come(drive: Drive) -> None:
    async def handling() -> list[Any]:
        seen: list[Any] = []
        await workflow.step("a")
        on_signal("x", int)(seen.append)
        await workflow.wait_condition(lambda: len(seen) == 3)
        return seen

    run = drive(handling)
    run.signal("x", 1)
    run.signal("x", 2)
    run.complete(1)
    assert kinds(run.signal("x", "no int")) == ["SignalRefused"]
    assert result_of(run.signal("x", 3)) == [1, 2, 3]


def test_an_async_handler_runs_as_a_task_of_its_own(drive: Drive) -> None:
    async def handling() -> list[Any]:
        seen: list[Any] = []

        @on_signal("x")
        async def handle(payload: Any) -> None:
            seen.append(await workflow.step("look", payload))

        await workflow.wait_condition(lambda: len(seen) == 2)
        return seen

    run = drive(handling)
    assert kinds(run.signal("x", 1)) == ["StepScheduled"]
    assert kinds(run.signal("x", 2)) == ["StepScheduled"]
    run.complete(2, "two")
    assert result_of(run.complete(1, "one")) == ["two", "one"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failure_in_a_handler_fails_the_run(drive: Drive, *, is_async: bool) -> None:
    async def handling() -> None:
        @on_signal("x")
        def handle(_: Any) -> None:
            raise ApplicationError("refused", "Refused")

        @on_signal("y")
        async def handle_later(_: Any) -> None:
            handle(None)

        await asyncio.Event().wait()

    (failed,) = drive(handling).signal("y" if is_async else "x")
    assert isinstance(failed, RunFailed)
    assert failed.failure.type == "Refused"


def test_a_bug_in_a_handler_blocks() -> None:
    async def handling() -> None:
        @on_signal("x")
        async def handle(_: Any) -> None:
            raise KeyError("bug")

        await asyncio.Event().wait()

    run = Driver(handling)
    with pytest.raises(ActivationFailed, match="KeyError"):
        run.signal("x")


def test_a_second_handler_for_a_name_is_misuse() -> None:
    async def twice() -> None:
        on_signal("x")(print)
        on_signal("x")(print)

    with pytest.raises(ActivationFailed, match="has a handler already"):
        Driver(twice)


def test_a_signal_before_the_first_line_is_kept_by_replay_too(drive: Drive) -> None:
    run = drive(one)
    assert run.started == []
    run.signal("other", START_MS)
    replayed = run.replayed()
    assert replayed.pending == []
    assert replayed.execution.mailbox.find("other") is not None
