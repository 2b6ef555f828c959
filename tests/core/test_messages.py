"""Updates and handlers in the core: verdicts, what the run's end waits for, what is unread."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core.errors import ActivationFailed, ApplicationError, UsageError
from orchestrator.core.events import (
    Command,
    Event,
    ExternalCompleted,
    ExternalFailed,
    ExternalResultAwaited,
    ExternalSignalSent,
    RunCompleted,
    UpdateCompleted,
    UpdateFailed,
    UpdateReceived,
)
from orchestrator.core.external_handle import external
from orchestrator.core.failure import Failure
from orchestrator.core.replay import replay
from orchestrator.core.saga import Saga
from orchestrator.core.signals import on_signal, signal, signals
from orchestrator.core.update_face import all_handlers_finished, on_update
from tests.core.driver import Driver, kinds

Drive = Callable[..., Driver]


def update(run: Driver, name: str, *args: Any, id: str = "u") -> list[Command]:
    return run.apply(UpdateReceived(at_ms=run.now_ms, update=name, update_id=id, args=list(args)))


async def slow_update() -> str:
    @on_update("slow")
    async def slow() -> str:
        await workflow.step("job")
        return "done"

    await signal("end")
    return "ended"


def test_the_end_waits_for_an_update(drive: Drive) -> None:
    run = drive(slow_update)
    assert kinds(update(run, "slow")) == ["UpdateAccepted", "StepScheduled"]
    assert run.signal("end") == []
    assert kinds(run.complete(1)) == ["UpdateCompleted", "RunCompleted"]


def test_an_update_that_comes_while_the_end_waits_is_carried_out(drive: Drive) -> None:
    run = drive(slow_update)
    update(run, "slow")
    run.signal("end")
    assert kinds(update(run, "slow", id="v")) == ["UpdateAccepted", "StepScheduled"]
    assert kinds(run.complete(1)) == ["UpdateCompleted"]
    assert kinds(run.complete(2)) == ["UpdateCompleted", "RunCompleted"]


@pytest.mark.parametrize("cancelled_first", [False, True])
def test_a_cancellation_ends_the_wait_for_handlers(drive: Drive, *, cancelled_first: bool) -> None:
    async def stubborn() -> str:
        @on_update("slow")
        async def slow() -> None:
            await workflow.step("job")

        with contextlib.suppress(asyncio.CancelledError):
            await signal("end")
        return "ended"

    run = drive(stubborn)
    update(run, "slow")
    if not cancelled_first:
        assert run.signal("end") == []
    assert kinds(run.cancel()) == ["StepCancelRequested", "UpdateFailed", "RunCompleted"]


def test_a_function_that_fails_or_is_terminated_waits_for_no_handler(drive: Drive) -> None:
    async def failing() -> None:
        @on_update("slow")
        async def slow() -> None:
            await workflow.step("job")

        await signal("end")
        raise ApplicationError("no")

    run = drive(failing)
    update(run, "slow")
    assert kinds(run.signal("end")) == ["RunFailed"]
    other = drive(failing)
    update(other, "slow")
    other.signal("go on")
    assert kinds(other.terminate()) == ["RunTerminated"]


@pytest.mark.parametrize(
    ("policy", "complains"), [(None, True), ("warn", True), ("abandon", False)]
)
def test_signal_handlers_do_not_delay_the_end_and_the_log_tells(
    drive: Drive, policy: Any, *, complains: bool
) -> None:
    options = {} if policy is None else {"unfinished": policy}

    async def busy() -> str:
        @on_signal("work", **options)
        async def work(_: Any) -> None:
            await workflow.step("job")

        await signal("end")
        return "ended"

    run = drive(busy)
    run.signal("work")
    assert kinds(run.signal("end")) == ["RunCompleted"]
    complaints = run.execution.take_complaints()
    assert any("handler of signal 'work' is at work" in one for one in complaints) is complains


def test_all_handlers_finished_is_a_condition_to_wait_for(drive: Drive) -> None:
    async def patient() -> str:
        @on_signal("work")
        async def work(number: int) -> None:
            await workflow.step("job", number)

        await signal("end")
        await workflow.wait_condition(all_handlers_finished)
        return "ended"

    run = drive(patient)
    run.signal("work", 1)
    run.signal("work", 2)
    assert run.signal("end") == []
    assert run.complete(2) == []
    assert kinds(run.complete(1)) == ["RunCompleted"]
    assert run.execution.take_complaints() == []


def test_what_cannot_be_a_handler_is_refused(drive: Drive) -> None:
    async def wrong() -> list[str]:
        def register(call: Callable[[], Any]) -> str:
            with pytest.raises(UsageError) as caught:
                call()
            return str(caught.value)

        async def check() -> None: ...

        on_update("a")(lambda: None)
        on_update(None)(lambda name, args: None)
        on_signal(None)(lambda name, payload: None)
        return [
            register(lambda: on_update("a")(lambda: None)),
            register(lambda: on_update(None)(lambda name, args: None)),
            register(lambda: on_signal(None)),
            register(lambda: on_update("b", validator=check)(lambda: None)),
            register(lambda: on_update("b", unfinished="later")),  # type: ignore[arg-type]
            register(lambda: on_signal("b", unfinished="later")),  # type: ignore[arg-type]
        ]

    (ended,) = drive(wrong).started
    assert isinstance(ended, RunCompleted)
    texts: Any = ended.result
    assert "has a handler already" in texts[0]
    assert "has a handler already" in texts[1]
    assert "has a handler already" in texts[2]
    assert "cannot be async" in texts[3]
    assert "one of wait, abandon, warn" in texts[4]
    assert "one of wait, abandon, warn" in texts[5]


def test_a_dynamic_update_takes_what_has_no_handler(drive: Drive) -> None:
    async def open_ended() -> None:
        @on_update("own")
        def own() -> str:
            return "own"

        @on_update(None)
        def other(name: str, args: list[Any]) -> list[Any]:
            return [name, *args]

        await signal("end")

    run = drive(open_ended)
    assert update(run, "own", id="1")[-1].result == "own"  # type: ignore[union-attr]
    assert update(run, "else", 1, "b", id="2")[-1].result == ["else", 1, "b"]  # type: ignore[union-attr]


def test_a_cancelled_handler_fails_its_update(drive: Drive) -> None:
    async def own_end() -> None:
        @on_update("stop")
        async def stop() -> None:
            raise asyncio.CancelledError

        await signal("end")

    run = drive(own_end)
    failed = update(run, "stop")[-1]
    assert isinstance(failed, UpdateFailed)
    assert failed.failure.type == "CancelledError"


def test_code_that_dropped_an_accepted_update_disagrees_with_history(drive: Drive) -> None:
    run = drive(slow_update)
    update(run, "slow")

    async def without() -> str:
        await signal("end")
        return "ended"

    with pytest.raises(Exception, match=r"history has UpdateAccepted\(.*UpdateRejected"):
        replay(replace(run.definition, function=without), "w-1", 1, run.history)


def test_a_large_result_in_history_is_compared_by_its_digest(drive: Drive) -> None:
    from orchestrator.core.blobs import BlobRef
    from orchestrator.core.values import canonical, digest

    async def big() -> None:
        @on_update("big")
        def large() -> str:
            return "x" * 100

        await signal("end")

    run = drive(big)
    update(run, "big")
    done = run.history[-1]
    assert isinstance(done, UpdateCompleted)
    ref = BlobRef(sha256=digest(done.result), size=len(canonical(done.result)))
    history: list[Event] = [*run.history[:-1], replace(done, result=ref.as_json())]
    replay(run.definition, "w-1", 1, history).execution.close()
    wrong = BlobRef(sha256="0" * 64, size=ref.size)
    history[-1] = replace(done, result=wrong.as_json())
    with pytest.raises(Exception, match="UpdateCompleted"):
        replay(run.definition, "w-1", 1, history)


def test_unread_signals_of_all_names_are_listed_in_the_order_of_arrival(drive: Drive) -> None:
    async def reading() -> None:
        await signal("b")
        await signal("never")

    run = drive(reading)
    for number, name in enumerate(("a", "b", "c", "a", "b")):
        run.signal(name, number)
    unread = run.execution.mailbox.unread()
    assert [(one.signal, one.payload) for one in unread] == [("a", 0), ("c", 2), ("a", 3), ("b", 4)]


def test_a_signal_that_was_handed_out_and_not_seen_is_unread(drive: Drive) -> None:
    async def leaving() -> str:
        waiting = asyncio.create_task(signal("x"))

        @on_signal("y")
        def handler(_: Any) -> None: ...

        await workflow.step("job")
        waiting.cancel()
        return "ended"

    run = drive(leaving)
    run.complete(1)
    assert run.execution.mailbox.unread() == []

    async def at_once() -> str:
        await workflow.step("job")

        @on_signal("y")
        def handler(_: Any) -> None: ...

        return "ended"

    other = drive(at_once)
    other.signal("y", 1)
    assert kinds(other.complete(1)) == ["RunCompleted"]
    assert [one.payload for one in other.execution.mailbox.unread()] == [1]
    assert "handler of signal 'y'" in other.execution.take_complaints()[0]


def test_iteration_over_signals_ends_with_its_timeout(drive: Drive) -> None:
    async def bounded() -> list[Any]:
        return [word async for word in signals("x", timeout=5)]

    run = drive(bounded)
    run.signal("x", 1)
    run.signal("x", 2)
    (ended,) = run.fire(3)
    assert ended.result == [1, 2]  # type: ignore[union-attr]


def test_who_is_cancelled_in_an_iteration_over_signals_takes_nothing(drive: Drive) -> None:
    async def bounded() -> list[Any]:
        seen = []
        try:
            async with asyncio.timeout(5):
                async for word in signals("x"):
                    seen.append(word)
        except TimeoutError:
            seen.append("late")
        return [*seen, await signal("x")]

    run = drive(bounded)
    run.signal("x", 1)
    run.fire(1)
    (ended,) = run.signal("x", 2)
    assert ended.result == [1, "late", 2]  # type: ignore[union-attr]


def test_a_timeout_of_somebody_else_leaves_the_iteration_as_an_exception(drive: Drive) -> None:
    async def outer() -> str:
        try:
            async with asyncio.timeout(1):
                async for _ in signals("x", timeout=60):
                    pass
        except TimeoutError:
            return "outer"
        return "inner"

    run = drive(outer)
    timers = [one for one in run.started if type(one).__name__ == "TimerStarted"]
    assert len(timers) == 2
    assert run.fire(1)[-1].result == "outer"  # type: ignore[union-attr]


def test_another_run_is_told_and_its_end_awaited(drive: Drive) -> None:
    async def talks() -> Any:
        other = external("o", 3)
        await other.signal("say", {"a": 1})
        return await other.result(int)

    run = drive(talks)
    (sent,) = run.started
    assert isinstance(sent, ExternalSignalSent)
    assert (sent.external, sent.id, sent.run, sent.payload) == (1, "o", 3, {"a": 1})
    (awaited,) = run.apply(ExternalCompleted(at_ms=run.now_ms, external=1, run=3))
    assert isinstance(awaited, ExternalResultAwaited)
    (ended,) = run.apply(ExternalCompleted(at_ms=run.now_ms, external=2, run=3, result=7))
    assert ended.result == 7  # type: ignore[union-attr]


def test_who_cannot_be_told_fails_the_run_that_does_not_care(drive: Drive) -> None:
    async def talks() -> None:
        await external("o").signal("say")

    run = drive(talks)
    failure = Failure(type="WorkflowNotFound", message="there is no o")
    (ended,) = run.apply(
        ExternalFailed(at_ms=run.now_ms, external=1, run=0, kind="not_found", failure=failure)
    )
    assert ended.failure.type == "WorkflowNotFound"  # type: ignore[union-attr]
    assert "workflow o not_found: WorkflowNotFound: there is no o" in ended.failure.message  # type: ignore[union-attr]


def test_an_answer_that_nobody_waits_for_any_more_changes_nothing(drive: Drive) -> None:
    async def impatient() -> str:
        try:
            async with asyncio.timeout(1):
                await external("o").result()
        except TimeoutError:
            await signal("end")
        return "ended"

    run = drive(impatient)
    run.fire(1)
    assert run.apply(ExternalCompleted(at_ms=run.now_ms, external=1, run=1, result=1)) == []
    assert kinds(run.signal("end")) == ["RunCompleted"]


def test_a_payload_that_differs_disagrees_with_history(drive: Drive) -> None:
    async def talks() -> None:
        await external("o").signal("say", 1)

    async def otherwise() -> None:
        await external("o").signal("say", 2)

    run = drive(talks)
    with pytest.raises(Exception, match="differs in payload_digest"):
        replay(replace(run.definition, function=otherwise), "w-1", 1, run.history)


def test_a_result_that_has_no_json_form_is_a_bug(drive: Drive) -> None:
    async def odd() -> None:
        @on_update("odd")
        def handler() -> object:
            return object()

        await signal("end")

    run = drive(odd)
    with pytest.raises(ActivationFailed, match="no JSON form"):
        update(run, "odd")


def test_an_update_id_is_taken_once(drive: Drive) -> None:
    run = drive(slow_update)
    update(run, "slow")
    assert update(run, "slow") == []


def test_an_update_that_comes_while_a_run_that_has_ended_compensates_is_rejected(
    drive: Drive,
) -> None:
    async def undoing() -> None:
        @on_update("slow")
        def slow() -> None: ...

        async with Saga() as saga:
            await saga.step("reserve", undo="release")
            await signal("end")

    run = drive(undoing)
    run.complete(1)
    assert "StepScheduled" in kinds(run.terminate())
    assert kinds(update(run, "slow")) == ["UpdateRejected"]
    assert kinds(run.complete(2))[-1] == "RunTerminated"
