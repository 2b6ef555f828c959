"""One input, one activation: it is applied alone, and what comes out is what the code ordered."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core import limits
from orchestrator.core.errors import (
    ActivationFailed,
    ActivationInterrupted,
    ApplicationError,
    StepCancelled,
    StepError,
    StepLost,
    StepTimeout,
    UsageError,
)
from orchestrator.core.events import (
    RunCancelled,
    RunCompleted,
    RunFailed,
    StepCancelRequested,
    StepScheduled,
)
from orchestrator.core.retry import Retry
from orchestrator.core.values import digest
from tests.core.driver import START_MS, Driver, kinds, tasks_of

Drive = Callable[..., Driver]


class Task:
    """What the core needs of a Celery task."""

    def __init__(self, name: str, run: Callable[..., Any]) -> None:
        self.name = name
        self.run = run


def charge(order: dict[str, int]) -> int:
    raise AssertionError("a step's body never runs in a workflow")


def test_empty_history_schedules_the_parallel_steps_in_order_of_asking(drive: Drive) -> None:
    async def wide() -> None:
        await asyncio.gather(*(workflow.step(f"task-{n}") for n in range(5)))

    assert tasks_of(drive(wide).started) == [f"task-{n}" for n in range(5)]


def test_each_step_is_scheduled_once_whatever_finishes_first(drive: Drive) -> None:
    async def wide() -> Any:
        return await asyncio.gather(*(workflow.step("double", n) for n in range(3)))

    for order in ([1, 2, 3], [3, 2, 1], [2, 3, 1]):
        run = drive(wide)
        later = [command for step in order for command in run.complete(step, step * 10)]
        assert tasks_of(run.started + later) == ["double"] * 3
        assert later[-1] == RunCompleted(at_ms=run.now_ms, result=[10, 20, 30])


def test_a_step_is_recorded_with_what_replay_and_worker_need(drive: Drive) -> None:
    async def one() -> None:
        await workflow.step("charge", {"total": 5}, queue="slow", retry=Retry(attempts=2), note="x")

    (scheduled,) = drive(one).started
    assert isinstance(scheduled, StepScheduled)
    assert scheduled.at_ms == START_MS
    assert (scheduled.step, scheduled.task) == (1, "charge")
    assert (scheduled.args, scheduled.kwargs) == ([{"total": 5}], {"note": "x"})
    assert scheduled.args_digest == digest([[{"total": 5}], {"note": "x"}])
    assert scheduled.options["queue"] == "slow"
    assert scheduled.options["retry"] == Retry(attempts=2).as_json()


def test_options_leave_every_keyword_to_the_task(drive: Drive) -> None:
    async def one() -> None:
        await workflow.step.options(queue="gpu")("train", queue="the task's own")

    (scheduled,) = drive(one).started
    assert isinstance(scheduled, StepScheduled)
    assert scheduled.kwargs == {"queue": "the task's own"}
    assert scheduled.options == {"queue": "gpu"}


def test_a_result_is_decoded_as_the_task_declares(drive: Drive) -> None:
    async def one() -> int:
        return await workflow.step(Task("tasks.charge", charge), {"total": 1}) + 1  # type: ignore[no-any-return]

    run = drive(one)
    assert tasks_of(run.started) == ["tasks.charge"]
    assert run.complete(1, 41) == [RunCompleted(at_ms=run.now_ms, result=42)]
    wrong = drive(one)
    with pytest.raises(ActivationFailed, match="expected int"):
        wrong.complete(1, "not a number")


def test_annotations_in_quotes_are_resolved_and_none_leaves_the_result_alone(drive: Drive) -> None:
    def quoted() -> "int":
        raise AssertionError

    def nothing() -> "None":
        raise AssertionError

    def unknown() -> "Missing":  # type: ignore[name-defined]  # noqa: F821
        raise AssertionError

    async def one(run: Callable[..., Any]) -> Any:
        return await workflow.step(Task("t", run))

    async def raw() -> Any:
        return await one(nothing)

    async def typed() -> Any:
        return await one(quoted)

    async def broken() -> Any:
        return await one(unknown)

    plain = drive(raw)
    assert plain.complete(1, "kept") == [RunCompleted(at_ms=plain.now_ms, result="kept")]
    with pytest.raises(ActivationFailed, match="expected int"):
        drive(typed).complete(1, "no int")
    with pytest.raises(ActivationFailed, match="cannot be resolved"):
        Driver(broken)


def test_a_local_step_is_named_by_its_function(drive: Drive) -> None:
    async def one() -> None:
        await workflow.step(charge, {}, local=True)

    (scheduled,) = drive(one).started
    assert isinstance(scheduled, StepScheduled)
    assert scheduled.task == f"{charge.__module__}.charge"
    assert scheduled.options == {"local": True}


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (lambda: workflow.step(charge, {}), "plain function"),
        (lambda: workflow.step(7), "not int"),
        (lambda: workflow.step("t", heartbeat=5), "wants a timedelta"),
        (lambda: workflow.step("t", object()), "no JSON form"),
    ],
)
def test_misuse_of_a_step_blocks_with_a_clear_text(order: Any, says: str) -> None:
    async def one() -> None:
        await order()

    with pytest.raises(ActivationFailed, match=says) as caught:
        Driver(one)
    assert caught.value.kind == "bug"
    assert "core/test_activation.py" in caught.value.traceback


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("failed", StepError),
        ("timed_out", StepTimeout),
        ("lost", StepLost),
        ("cancelled", StepCancelled),
    ],
)
def test_a_failed_step_raises_what_became_of_it(
    drive: Drive, kind: str, error: type[StepError]
) -> None:
    async def one() -> str:
        with pytest.raises(error) as caught:
            await workflow.step("charge")
        cause = caught.value.__cause__
        assert isinstance(cause, ApplicationError)
        return f"{type(caught.value) is error} {caught.value.step} {caught.value.type} {cause.type}"

    run = drive(one)
    assert run.fail(1, kind=kind) == [RunCompleted(at_ms=run.now_ms, result="True 1 Boom Boom")]


def test_cancelling_the_waiting_task_asks_the_step_to_stop_and_does_not_wait(drive: Drive) -> None:
    async def one() -> str:
        task = asyncio.create_task(workflow.step("long"))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            await workflow.step("other")
        return "done"

    run = drive(one)
    assert run.started[1] == StepCancelRequested(at_ms=START_MS, step=1)
    assert tasks_of(run.started) == ["long", "other"]
    assert run.complete(1, "too late") == []
    assert kinds(run.complete(2)) == ["RunCompleted"]


def test_time_stands_still_and_is_the_inputs(drive: Drive) -> None:
    seen: list[datetime] = []

    async def clock() -> None:
        seen.append(workflow.now())
        await asyncio.sleep(0)
        assert workflow.time() == asyncio.get_running_loop().time() == START_MS / 1000
        await workflow.step("t")
        seen.append(workflow.now())

    run = drive(clock)
    run.complete(1, after_ms=1234)
    start = datetime.fromtimestamp(START_MS / 1000, UTC)
    assert seen[:2] == [start, start + timedelta(milliseconds=1234)]


def test_chance_comes_from_the_seed(drive: Drive) -> None:
    async def chance() -> list[Any]:
        return [workflow.random().random(), str(workflow.uuid4()), workflow.random().randint(1, 99)]

    first, second = drive(chance).started, drive(chance).started
    assert first == second
    assert isinstance(first[0], RunCompleted)
    assert isinstance(first[0].result, list)
    assert str(first[0].result[1])[14] == "4"


@pytest.mark.parametrize(
    "error", [ApplicationError("no", "OutOfStock"), TimeoutError("slow"), KeyError("mine")]
)
def test_a_failure_that_leaves_the_workflow_fails_the_run(drive: Drive, error: Exception) -> None:
    async def broken() -> None:
        raise error

    (failed,) = drive(broken, failure_types=(KeyError,)).started
    assert isinstance(failed, RunFailed)
    assert failed.failure.type == getattr(error, "type", type(error).__name__)


def test_a_group_of_failures_fails_the_run_and_names_a_member(drive: Drive) -> None:
    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(workflow.step("a"))

    (failed,) = drive(group).fail(1, type="Declined")
    assert isinstance(failed, RunFailed)
    assert failed.failure.cause is not None
    assert failed.failure.cause.type == "Declined"


def test_a_group_with_a_bug_in_it_is_a_bug() -> None:
    async def mixed() -> None:
        raise ExceptionGroup("both", [ApplicationError("no"), KeyError("bug")])

    with pytest.raises(ActivationFailed, match="ExceptionGroup"):
        Driver(mixed)


def test_any_other_exception_is_a_bug_with_its_source_line() -> None:
    async def broken() -> None:
        raise ZeroDivisionError("oops")

    with pytest.raises(ActivationFailed) as caught:
        Driver(broken)
    assert caught.value.kind == "bug"
    assert "ZeroDivisionError" in caught.value.message
    assert "test_activation.py:" in caught.value.where
    assert "broken" in caught.value.traceback


def test_a_bug_fails_the_run_where_that_is_asked_for(drive: Drive) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    assert kinds(drive(broken, bugs_fail=True).started) == ["RunFailed"]


def test_leaving_the_process_is_a_bug_and_not_an_exit() -> None:
    async def leaving() -> None:
        raise SystemExit(3)

    with pytest.raises(ActivationFailed, match="SystemExit"):
        Driver(leaving)


def test_a_cancellation_that_was_asked_for_ends_the_run_cancelled(drive: Drive) -> None:
    async def patient() -> None:
        try:
            await workflow.sleep(60)
        finally:
            await workflow.step("clean up")

    run = drive(patient)
    assert kinds(run.cancel("bye")) == ["TimerCancelled", "StepScheduled"]
    assert run.cancel("once more") == []
    assert run.complete(1) == [RunCancelled(at_ms=run.now_ms, reason="bye")]
    assert run.execution.is_finished


def test_a_cancellation_nobody_asked_for_fails_the_run(drive: Drive) -> None:
    async def odd() -> None:
        raise asyncio.CancelledError

    assert kinds(drive(odd).started) == ["RunFailed"]


def test_inputs_after_the_end_do_nothing(drive: Drive) -> None:
    async def quick() -> None:
        task = asyncio.create_task(workflow.step("left behind"))
        await asyncio.sleep(0)
        assert not task.done()

    run = drive(quick)
    assert kinds(run.started) == ["StepScheduled", "RunCompleted"]
    assert run.complete(1) == run.signal("x") == run.cancel() == run.terminate() == []


def test_unknown_outcomes_and_timers_are_passed_over(drive: Drive) -> None:
    async def one() -> None:
        await workflow.step("a")

    run = drive(one)
    assert run.complete(99) == run.fail(98) == run.fire(97) == []
    assert kinds(run.complete(1)) == ["RunCompleted"]
    assert run.complete(1) == []


def test_too_many_commands_are_refused_even_if_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.core.orders.COMMANDS_PER_ACTIVATION_MAX", 10)

    asked: list[int] = []

    async def greedy() -> None:
        for n in range(100):
            asked.append(n)
            try:
                asyncio.get_running_loop().call_later(n + 1, print)
            except Exception:
                continue
        await workflow.sleep(1)

    with pytest.raises(ActivationFailed, match="more than 10 commands") as caught:
        Driver(greedy)
    assert caught.value.kind == "limit"
    assert len(asked) == 11, "nor does such code go on"
    assert limits.COMMANDS_PER_ACTIVATION_MAX > 10


def test_a_loop_that_never_waits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.core.execution.CALLBACKS_PER_ACTIVATION_MAX", 100)

    async def spinning() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(ActivationFailed, match="more than 100 callbacks"):
        Driver(spinning)


def test_published_state_is_read_anew(drive: Drive) -> None:
    async def counting() -> None:
        state = workflow.publish({"count": 0})
        await workflow.step("a")
        state["count"] += 1

    run = drive(counting)
    assert run.execution.published_state() == {"count": 0}
    run.complete(1)
    assert run.execution.published_state() == {"count": 1}


def test_a_run_that_publishes_nothing_has_no_state(drive: Drive) -> None:
    async def silent() -> None:
        await workflow.step("a")

    assert drive(silent).execution.published_state() is None


def test_info_tells_which_run_it_is(drive: Drive) -> None:
    async def who() -> list[Any]:
        about = workflow.info()
        return [about.workflow_id, about.run, about.workflow, about.started_at_ms]

    run = drive(who)
    assert run.started == [RunCompleted(at_ms=START_MS, result=["w-1", 1, "who", START_MS])]


@pytest.mark.parametrize("call", [workflow.now, workflow.random, workflow.info, workflow.uuid4])
def test_outside_a_workflow_its_functions_say_so(call: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="only in workflow code"):
        call()


def test_wait_condition_holds_once_another_task_made_it_true(drive: Drive) -> None:
    seen: list[str] = []

    async def waiting() -> None:
        async def waiter(name: str, at_least: int) -> None:
            await workflow.wait_condition(lambda: len(seen) >= at_least)
            seen.append(name)

        tasks = [asyncio.create_task(waiter(name, n)) for name, n in (("a", 2), ("b", 1))]
        seen.append(await workflow.step("first"))
        await asyncio.gather(*tasks)

    run = drive(waiting)
    assert kinds(run.complete(1, "first")) == ["RunCompleted"]
    assert seen[:3] == ["first", "b", "a"]


def test_wait_condition_times_out_durably(drive: Drive) -> None:
    async def waiting() -> str:
        try:
            await workflow.wait_condition(lambda: False, timeout=timedelta(days=1))
        except TimeoutError:
            return "gave up"
        return "held"

    run = drive(waiting)
    assert run.fire(1) == [RunCompleted(at_ms=run.now_ms, result="gave up")]


def test_a_predicate_must_not_order_anything() -> None:
    async def waiting() -> None:
        asked = 0

        def predicate() -> bool:
            nonlocal asked
            asked += 1
            if asked > 1:
                asyncio.get_running_loop().call_later(5, print)
            return False

        await workflow.wait_condition(predicate)

    with pytest.raises(ActivationFailed, match="in a predicate") as caught:
        Driver(waiting)
    assert caught.value.kind == "forbidden"


def test_input_that_does_not_decode_blocks() -> None:
    async def one(n: int) -> None:
        return

    with pytest.raises(ActivationFailed, match="missing 1 required"):
        Driver(one)


def test_an_interruption_fails_the_activation_wherever_it_lands() -> None:
    async def hog() -> None:
        async def background() -> None:
            raise ActivationInterrupted

        task = asyncio.create_task(background())
        await asyncio.wait([task])
        await workflow.sleep(1)

    async def main_hog() -> None:
        raise ActivationInterrupted

    for function in (hog, main_hog):
        with pytest.raises(ActivationFailed) as caught:
            Driver(function)
        assert caught.value.kind == "deadline"
        assert "test_activation.py:" in caught.value.where
