"""A workflow runs to its end: steps, timers, signals, in one history that replays and verifies."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.errors import ApplicationError, StepError
from orchestrator.core.retry import Retry
from orchestrator.store.ports import Kind
from tests.engine.world import World


async def two_steps(name: str) -> str:
    first = await workflow.step("greet", name)
    second = await workflow.step("shout", first)
    return f"{second}"


def greeting_world(**options: Any) -> World:
    world = World(two_steps, **options)
    world.tasks.update(greet=lambda name: f"hello {name}", shout=lambda text: text.upper())
    return world


def test_two_steps_in_a_row_give_one_line_of_history() -> None:
    world = greeting_world()
    world.start("two_steps", "ana")
    assert world.status() == "pending"
    world.settle()
    assert world.status() == "completed"
    assert world.result() == "HELLO ANA"
    assert world.names() == [
        "RunStarted",
        "StepScheduled",
        "StepCompleted",
        "StepScheduled",
        "StepCompleted",
        "RunCompleted",
    ]
    world.check_chain()


def test_a_run_survives_the_death_of_its_orchestrator_between_any_two_turns() -> None:
    undisturbed = greeting_world()
    undisturbed.start("two_steps", "ana")
    undisturbed.settle()
    for turns_before_death in range(8):
        world = greeting_world()
        world.start("two_steps", "ana")
        for _ in range(turns_before_death):
            world.node.turn()
            world.work()
        world.restart()
        world.settle()
        assert world.result() == "HELLO ANA"
        assert world.names() == undisturbed.names()
        assert [task for task, _, _ in world.ran] == ["greet", "shout"]
        world.check_chain()


def test_evicted_runs_are_built_again_from_the_log() -> None:
    world = greeting_world(run_cache_max=1)
    for number in range(5):
        world.start("two_steps", f"n{number}", id=f"w{number}")
    world.settle()
    assert [world.result(f"w{number}") for number in range(5)] == [
        f"HELLO N{number}" for number in range(5)
    ]


async def sleeper() -> str:
    before = workflow.now()
    await workflow.sleep(timedelta(days=7))
    return str(workflow.now() - before)


def test_a_sleep_of_seven_days_ends_after_seven_days_and_not_before() -> None:
    world = World(sleeper)
    world.start("sleeper")
    world.settle()
    world.restart()
    world.advance(7 * 24 * 3600 * 1000 - 10_001)
    world.settle()
    assert world.status() == "running"
    world.advance(1)
    world.settle()
    assert world.status() == "completed"
    assert world.result() == "7 days, 0:00:00"


async def side_by_side() -> list[Any]:
    return list(
        await asyncio.gather(
            workflow.step("slow", 1),
            workflow.step("slow", 2),
            workflow.sleep(5),
            return_exceptions=True,
        )
    )


def test_steps_and_timers_side_by_side_are_all_sent_at_once() -> None:
    world = World(side_by_side)
    world.tasks["slow"] = lambda number: number * 10
    world.start("side_by_side")
    world.turn()
    assert len(world.store.queues["celery"]) == 2
    world.settle()
    world.advance(5_000)
    world.settle()
    assert world.result() == [10, 20, None]


async def approval() -> str:
    answer = await workflow.signal("approve", timeout=timedelta(hours=24))
    return f"{answer}"


def test_a_signal_that_comes_before_the_workflow_asks_is_kept() -> None:
    world = World(approval)
    world.start("approval")
    world.signal("approve", "yes")
    world.settle()
    assert world.result() == "yes"


def test_a_signal_sent_twice_under_one_id_counts_once() -> None:
    async def two_answers() -> list[Any]:
        return [await workflow.signal("answer"), await workflow.signal("answer")]

    world = World(two_answers)
    world.start("two_answers")
    world.signal("answer", 1, signal_id="same")
    world.signal("answer", 1, signal_id="same")
    world.settle()
    assert world.status() == "running"
    world.signal("answer", 2)
    world.settle()
    assert world.result() == [1, 2]
    assert world.names().count("SignalReceived") == 2


def test_an_unanswered_signal_times_out() -> None:
    world = World(approval)
    world.start("approval")
    world.settle()
    world.advance(24 * 3600 * 1000)
    world.settle()
    assert world.status() == "failed"


async def published() -> None:
    state = workflow.publish({"progress": 0})
    await workflow.step("work")
    state["progress"] = 1
    await workflow.signal("go")


def test_published_state_is_readable_without_any_worker() -> None:
    world = World(published)
    world.tasks["work"] = lambda: None
    world.start("published")
    world.turn()
    assert world.row()["state"] == '{"progress":0}'
    world.settle()
    assert world.row()["state"] == '{"progress":1}'


async def questioned() -> None:
    seen: list[Any] = []

    @workflow.on_query("seen")
    def answer(prefix: str = "") -> list[str]:
        return [f"{prefix}{value}" for value in seen]

    while len(seen) < 2:
        seen.append(await workflow.signal("say"))


def ask(world: World, query: str, *args: Any) -> dict[str, Any] | None:
    reply_to = f"reader-{world.rng.getrandbits(32)}"
    world.post(Kind.QUERY, {"query": query, "args": list(args), "reply_to": reply_to})
    world.settle()
    return world.store.wait_for_answer("w", reply_to, wait_ms=0)


def test_a_query_reads_the_run_and_leaves_no_trace() -> None:
    world = World(questioned)
    world.start("questioned")
    world.signal("say", "a")
    world.settle()
    before = world.names()
    assert ask(world, "seen", "-") == {"ok": ["-a"]}
    world.restart()
    assert ask(world, "seen") == {"ok": ["a"]}
    assert world.names() == before
    unknown = ask(world, "nothing")
    assert unknown is not None
    assert unknown["error"] == "UnknownQuery"


def test_a_closed_run_still_answers_queries() -> None:
    world = World(questioned)
    world.start("questioned")
    world.signal("say", "a")
    world.signal("say", "b")
    world.settle()
    assert world.status() == "completed"
    assert ask(world, "seen") == {"ok": ["a", "b"]}


async def cleaning() -> str:
    try:
        await workflow.sleep(timedelta(days=1))
    finally:
        await workflow.step("clean")
    return "not reached"


def test_a_cancelled_run_cleans_up_and_ends_cancelled() -> None:
    world = World(cleaning)
    world.tasks["clean"] = lambda: None
    world.start("cleaning")
    world.settle()
    world.post(Kind.CANCEL, {"reason": "not wanted", "request_id": "c1"})
    world.settle()
    assert world.status() == "cancelled"
    assert [task for task, _, _ in world.ran] == ["clean"]
    assert not world.store.sweep([0, 1, 2, 3], count=10)[1][0].timers
    world.post(Kind.CANCEL, {"reason": "again", "request_id": "c2"})
    world.settle()
    assert world.status() == "cancelled"


def test_a_terminated_run_runs_no_further_code() -> None:
    world = World(cleaning)
    world.tasks["clean"] = lambda: None
    world.start("cleaning")
    world.settle()
    world.post(Kind.TERMINATE, {"reason": "now", "request_id": "t1"})
    world.settle()
    assert world.status() == "terminated"
    assert world.ran == []
    assert world.names()[-2:] == ["TerminateRequested", "RunTerminated"]


async def failing() -> None:
    await workflow.step("break_it", retry=Retry(attempts=2, initial=timedelta(seconds=10)))


def test_a_failing_step_is_tried_as_often_as_its_policy_says() -> None:
    world = World(failing)

    @world.task
    def break_it() -> None:
        raise ValueError("broken")

    world.start("failing")
    world.settle()
    assert len(world.ran) == 1
    world.advance(10_000)
    world.settle()
    assert len(world.ran) == 2
    assert world.status() == "failed"
    assert [key for _, _, key in world.ran] == ["w.1.1", "w.1.1"]
    names = world.names()
    assert names[2:5] == ["StepAttemptFailed", "StepRetried", "StepFailed"]
    assert "broken" in world.row()["failure"]


def test_a_non_retryable_answer_ends_the_step_at_once() -> None:
    world = World(failing)

    @world.task
    def break_it() -> None:
        raise ApplicationError("no", type="Refused", non_retryable=True)

    world.start("failing")
    world.settle()
    assert len(world.ran) == 1
    assert world.status() == "failed"


def test_a_failure_may_name_the_delay_of_the_next_attempt() -> None:
    world = World(failing)

    @world.task
    def break_it() -> str:
        if len(world.ran) == 1:
            raise ApplicationError("later", next_retry_delay=timedelta(minutes=3))
        return "fine"

    world.start("failing")
    world.settle()
    world.advance(179_999)
    world.settle()
    assert len(world.ran) == 1
    world.advance(1)
    world.settle()
    assert world.status() == "completed"


async def catching() -> str:
    try:
        await workflow.step("break_it", retry=Retry(attempts=1))
    except StepError as error:
        return f"{error.type}: {error.failure.message}"
    return "no error"


def test_workflow_code_can_catch_the_failure_of_a_step() -> None:
    world = World(catching)

    @world.task
    def break_it() -> None:
        raise KeyError("x")

    world.start("catching")
    world.settle()
    assert world.result() == "KeyError: 'x'"


def test_a_large_result_travels_by_reference() -> None:
    async def large() -> int:
        value = await workflow.step("produce")
        return len(await workflow.step("consume", value))

    world = World(large)
    world.tasks["produce"] = lambda: world.blobs.put("x" * 100_000).as_json()
    world.start("large")
    world.node.turn()
    message = world.pop()
    assert message
    world.claim(message)
    world.finish(message, world.run_body(message))
    world.turn()
    message = world.pop()
    assert message
    # The message carries the reference for the whole argument list, not the value.
    assert message["args"]["$blob"].startswith("sha256:")
    world.restart()
    world.turn()
    assert world.status() == "running"


@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.TERMINATE])
def test_a_run_that_nobody_has_seen_yet_can_be_stopped(kind: Kind) -> None:
    world = World(approval)
    world.start("approval")
    world.post(kind, {"reason": "early", "request_id": "e"})
    world.settle()
    assert world.status() in ("cancelled", "terminated")


async def careless() -> None:
    async def doomed() -> None:
        raise KeyError("secret value")

    asyncio.create_task(doomed())  # noqa: RUF006 - that is the case under test
    await workflow.step("job")
    await workflow.step("job")


def test_the_failure_of_a_background_task_is_logged_once_with_its_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(careless)
    world.tasks["job"] = lambda: None
    key = world.start("careless")
    world.turn()
    world.restart()
    world.settle()
    assert world.status() == "completed"
    said = [each.getMessage() for each in caplog.records if "KeyError" in each.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"{key}: ")
    assert "secret value" not in said[0]
