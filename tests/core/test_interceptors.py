"""Interceptors of workflows: inside the activation, replayed like any code (IC1-IC3)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core import child_call, saga, signals
from orchestrator.core import context as workflow
from orchestrator.core.errors import (
    ActivationFailed,
    ApplicationError,
    PayloadTooLarge,
    UsageError,
)
from orchestrator.core.events import (
    ChildScheduled,
    RunCompleted,
    RunFailed,
    StepScheduled,
    UpdateCompleted,
    UpdateReceived,
)
from orchestrator.core.interceptors import (
    ExecuteWorkflow,
    HandleMessage,
    Interceptor,
    OrderChild,
    OrderStep,
    checked_headers,
    checked_interceptors,
)
from orchestrator.core.limits import HEADERS_BYTES_MAX
from orchestrator.core.update_face import on_update
from tests.core.driver import Driver, kinds

Drive = Callable[..., Driver]


class Marking(Interceptor):
    """Leaves its letter in whatever passes."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    async def execute_workflow(self, call: ExecuteWorkflow, proceed: Any) -> Any:
        (text,) = call.args
        result = await proceed(replace(call, args=(text + self.letter,)))
        return f"{result}<{self.letter}"

    def handle_signal(self, call: HandleMessage, proceed: Any) -> Any:
        return proceed(replace(call, args=(*call.args[:-1], call.args[-1] + self.letter)))

    def handle_query(self, call: HandleMessage, proceed: Any) -> Any:
        return proceed(call) + self.letter

    def handle_update(self, call: HandleMessage, proceed: Any) -> Any:
        return proceed(replace(call, args=(call.args[0] + self.letter,)))

    def order_step(self, call: OrderStep) -> OrderStep:
        options = replace(call.options, start_to_close=timedelta(seconds=7))
        headers = {**call.headers, "by": str(call.headers.get("by", "")) + self.letter}
        return replace(call, options=options, headers=headers, args=["ignored"])

    def order_child(self, call: OrderChild) -> OrderChild:
        return replace(call, headers={**call.headers, "child": self.letter})


BOTH = {"interceptors": (Marking("a"), Marking("b"))}


async def talking(text: str) -> str:
    heard: list[str] = []

    @signals.on_signal("say")
    async def say(word: str) -> None:
        await workflow.sleep(1)
        heard.append(word)

    @signals.on_signal(None)
    def other(name: str, word: str) -> None:
        heard.append(f"{name}:{word}")

    @workflow.on_query("heard")
    def answer() -> str:
        return ",".join(heard)

    @on_update("add")
    def add(word: str) -> str:
        return word

    await workflow.wait_condition(lambda: len(heard) == 2)
    return text + "".join(heard)


def test_the_first_interceptor_of_the_list_is_the_outermost(drive: Drive) -> None:
    run = drive(talking, "-", **BOTH)
    run.signal("say", "x")
    run.signal("shout", "y")
    assert run.execution.query("heard", []) == "shout:yabba"
    (updated,) = run.apply(
        UpdateReceived(at_ms=run._later(10), update="add", update_id="u", args=["z"])
    )[1:]
    assert isinstance(updated, UpdateCompleted)
    assert updated.result == "zab"
    (ended,) = run.fire(1)
    assert isinstance(ended, RunCompleted)
    assert ended.result == "-abshout:yabxab<b<a"


async def ordering(text: str) -> Any:
    return await workflow.step("charge", 1, queue="q")


def test_options_and_headers_of_a_step_may_be_changed_and_nothing_else(drive: Drive) -> None:
    (ordered,) = drive(ordering, "", **BOTH).started
    assert isinstance(ordered, StepScheduled)
    assert ordered.options["queue"] == "q"
    assert ordered.options["start_to_close_ms"] == 7_000
    assert ordered.headers == {"by": "ab"}
    assert ordered.args == [1]


def test_without_an_interceptor_a_step_is_recorded_as_ever(drive: Drive) -> None:
    (plain,) = drive(ordering, "").started
    (passed,) = drive(ordering, "", interceptors=(Interceptor(),)).started
    assert plain == passed
    assert isinstance(plain, StepScheduled)
    assert plain.headers is None


def test_a_childs_headers_may_be_changed(drive: Drive) -> None:
    async def parent(text: str) -> None:
        await child_call.child("ship")

    (ordered,) = drive(parent, "", **BOTH).started
    assert isinstance(ordered, ChildScheduled)
    assert ordered.headers == {"child": "b"}


def test_interceptors_that_come_with_a_deploy_do_not_block_runs_by_what_they_add() -> None:
    run = Driver(ordering, "")
    run.definition = Driver(ordering, "", settings={"interceptors": (_Adding(),)}).definition
    run.replayed()


class _Adding(Interceptor):
    def order_step(self, call: OrderStep) -> OrderStep:
        return replace(call, headers={"new": True})


class _Ordering(Interceptor):
    """Orders a step of its own around the workflow: its commands are recorded as any."""

    async def execute_workflow(self, call: ExecuteWorkflow, proceed: Any) -> Any:
        allowed = await workflow.step("may", call.workflow)
        if not allowed:
            raise ApplicationError("not allowed", type="Forbidden")
        return await proceed(call)


def test_an_interceptor_may_order_steps_and_refuse(drive: Drive) -> None:
    async def work() -> str:
        return "done"

    run = drive(work, interceptors=(_Ordering(),))
    assert kinds(run.started) == ["StepScheduled"]
    (ended,) = run.complete(1, "yes")
    assert isinstance(ended, RunCompleted)
    (failed,) = drive(work, interceptors=(_Ordering(),)).complete(1, "")
    assert isinstance(failed, RunFailed)
    assert failed.failure.type == "Forbidden"


class _Broken(Interceptor):
    def order_step(self, call: OrderStep) -> OrderStep:
        if call.task == "undo":
            raise LookupError("no such header")
        if call.task == "charge":
            raise ApplicationError("no charges today")
        return call


def test_what_an_interceptor_raises_is_raised_where_the_step_is_ordered(drive: Drive) -> None:
    (failed,) = drive(ordering, "", interceptors=(_Broken(),)).started
    assert isinstance(failed, RunFailed)
    assert failed.failure.message == "no charges today"


def test_what_it_raises_about_a_compensation_blocks_the_run_and_nothing_is_lost() -> None:
    async def booking() -> None:
        async with saga.Saga() as booked:
            await booked.step("book", undo="undo")
            await workflow.step("pay")

    run = Driver(booking, settings={"interceptors": (_Broken(),)})
    run.complete(1, "booked")
    with pytest.raises(ActivationFailed, match="no such header"):
        run.fail(2)
    run.close()


def test_so_it_does_where_no_code_stands_around_the_compensation() -> None:
    async def booking() -> None:
        async with saga.Saga() as booked:
            await booked.step("book", undo="undo")
            await workflow.step("pay")

    run = Driver(booking, settings={"interceptors": (_Broken(),)})
    run.complete(1, "booked")
    with pytest.raises(ActivationFailed, match="no such header"):
        run.terminate()
    assert not run.execution.is_usable
    run.close()


class _Hurrying(Interceptor):
    def order_step(self, call: OrderStep) -> OrderStep:
        return replace(call, options=replace(call.options, start_to_close=timedelta(seconds=7)))


def test_headers_that_stay_the_runs_own_are_not_recorded_again(drive: Drive) -> None:
    (ordered,) = drive(ordering, "", interceptors=(_Hurrying(),)).started
    assert isinstance(ordered, StepScheduled)
    assert ordered.options["start_to_close_ms"] == 7_000
    assert ordered.headers is None


def test_headers_have_a_form_and_a_bound() -> None:
    assert checked_headers({"trace": ["a", 1]}) == {"trace": ["a", 1]}
    with pytest.raises(UsageError, match="headers are names"):
        checked_headers({"when": object()})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="names are texts"):
        checked_headers({1: "x"})  # type: ignore[dict-item]
    with pytest.raises(PayloadTooLarge):
        checked_headers({"much": "x" * HEADERS_BYTES_MAX})


def test_only_interceptors_are_taken() -> None:
    with pytest.raises(UsageError, match="found Marking"):
        checked_interceptors([Marking])
