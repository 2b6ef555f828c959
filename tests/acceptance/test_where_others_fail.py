"""Promise: what durable engines get wrong elsewhere goes right here, with real processes.

The table of these faults, and of the tests that show each, stands in
tests/engine/test_where_others_fail.py.  Here nobody is killed without another one at hand; the
orchestrator's clock is two hours fast, and everything is behind a password.
"""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator import RunExists, RunHandle, WorkflowFailed
from orchestrator.core import events as e
from orchestrator.core.limits import CLAIM_TTL_MS
from tests.acceptance import elsewhere_app
from tests.acceptance.child import Child
from tests.acceptance.elsewhere_stack import PASSWORD, ElsewhereStack, now_ms, skewed, url_of
from tests.acceptance.stack import Stack, client_of, events_of
from tests.acceptance.together import together
from tests.acceptance.waiting import eventually

HOUR_S = 3_600
#: How late a sleep may end on a busy machine.
LATE_MS_MAX = 5_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElsewhereStack]:
    with ElsewhereStack(tmp_path_factory.mktemp("elsewhere")) as stack:
        stack.protect()
        stack.orchestrator(**skewed(stack, 2 * HOUR_S))
        stack.ready_worker("-c", "2")
        yield stack


def check_sleeps(events: list[e.Event]) -> int:
    """Check that every timer lasted its whole time, and fired once; return how many there were."""
    started = {each.timer: each for each in events if isinstance(each, e.TimerStarted)}
    fired = [each for each in events if isinstance(each, e.TimerFired)]
    assert sorted(each.timer for each in fired) == sorted(started)
    for each in fired:
        lasted_ms = each.at_ms - started[each.timer].at_ms
        wanted_ms = started[each.timer].duration_ms
        assert wanted_ms <= lasted_ms <= wanted_ms + LATE_MS_MAX
    return len(fired)


def check_ran_once(stack: Stack, *names: str) -> None:
    """Check that each body was entered once, as attempt 1, and took effect."""
    for name in names:
        assert [attempt for _, attempt, _ in stack.begun(name)] == [1], name
        assert len(stack.effects(name)) == 1, name


# --- time -----------------------------------------------------------------------------------------


@together
def test_sleeps_are_whole_in_a_row_and_side_by_side(stack: Stack) -> None:
    began_ms = now_ms(stack)
    handle = stack.start("naps", [700, 1_500, 700], [600, 1, 600, 600], id="naps")
    assert handle.result(timeout=30) == 7
    ended_ms = now_ms(stack)
    assert check_sleeps(stack.check_history(handle)) == 7
    # Whole by the server's clock as well as by what is recorded.
    assert ended_ms - began_ms >= 1_500 + 600 + 1 + 600 + 600
    waits = [each.duration_ms for each in events_of(handle, e.TimerStarted)]  # type: ignore[attr-defined]
    assert waits == [700, 1_500, 700, 600, 1, 600, 600]


@together
def test_a_body_beyond_its_time_out_is_stopped_and_its_step_ends_in_time(stack: Stack) -> None:
    handle = stack.start("limited", "endless", 1_500, id="limited")
    assert handle.result(timeout=20) == "start_to_close_timeout"
    stack.check_history(handle)
    (began,) = events_of(handle, e.StepScheduled)
    (ended,) = events_of(handle, e.StepFailed, kind="timed_out")
    assert 1_500 <= ended.at_ms - began.at_ms <= 1_500 + LATE_MS_MAX
    # Its body never looks whether it is wanted: it is interrupted, and its worker is free again.
    eventually(lambda: stack.effects("endless"), "the body is stopped", seconds=15)


@together
def test_clocks_that_are_hours_apart_change_nothing(stack: Stack) -> None:
    """The orchestrator's clock is fast, this worker's is slow: neither is ever asked."""
    options = ("-n", "slow@acceptance", "-Q", "slow", "-c", "1")
    slow = stack.worker(*options, queue="slow", **skewed(stack, -2 * HOUR_S))
    slow.wait_for_log(" ready.")
    began_ms = now_ms(stack)
    handle = stack.start("stepwise", "clocks", id="clocks")
    handle.signal("next", {"queue": "slow", "first": "hold"})
    stack.wait_for_body("clocks.1")
    # Longer than a claim lives: renewed by a clock that is wrong, judged by one that is right.
    eventually(lambda: now_ms(stack) > began_ms + CLAIM_TTL_MS + 1_000, "a claim's time is over")
    stack.open_gate("clocks.1")
    assert [each.attempt for each in handle.result(timeout=20)] == [1]
    for event in stack.check_history(handle):
        assert began_ms - 1_000 <= event.at_ms <= now_ms(stack) + 1_000
    check_ran_once(stack, "clocks.1")


# --- identity -------------------------------------------------------------------------------------


@together
def test_starts_at_once_with_one_id_open_one_run(stack: Stack) -> None:
    clients = 8
    at_once = threading.Barrier(clients)
    opened: list[int] = []

    def start(number: int) -> str:
        orc = client_of(url_of(stack))
        assert not orc.list(type="nobody's"), "connected before the start"
        at_once.wait()
        try:
            handle = orc.get_workflow("naps").start([60_000 + number], [], id="wanted")
        except RunExists as error:
            opened.append(error.run)
            return "refused"
        opened.append(handle.describe().run)
        return "opened"

    with ThreadPoolExecutor(clients) as threads:
        answers = list(threads.map(start, range(clients)))
    assert sorted(answers) == ["opened"] + ["refused"] * (clients - 1)
    assert set(opened) == {1}, "those who are refused are told of the run that there is"
    handle = stack.orc.run("wanted")
    handle.terminate("it has been seen to be the only one")
    with pytest.raises(WorkflowFailed):
        handle.result(timeout=20)
    assert len(events_of(handle, e.RunStarted)) == 1


@together
def test_a_run_is_seen_as_soon_as_it_is_started(stack: Stack) -> None:
    handles = [stack.start("naps", [], [], id=f"seen-{number}") for number in range(10)]
    other = client_of(url_of(stack))
    for handle in handles:
        # By its own handle, by another client, and in the list: whatever else has happened yet.
        assert handle.describe().type == "naps"
        assert other.run(handle.id).describe().run == 1
    listed = {each.workflow_id for each in other.list(type="naps", limit=500)}
    assert {handle.id for handle in handles} <= listed


# --- workers come and go --------------------------------------------------------------------------


@together
def test_messages_in_the_hands_of_a_killed_worker_are_sent_again(stack: Stack) -> None:
    greedy = stack.ready_worker("-c", "1", "--prefetch-multiplier", "10", queue="greedy")
    first = stack.start("late", "greedy", id="greedy-0")
    stack.wait_for_body("greedy-0")
    others = [stack.start("loaded", 1, "greedy", id=f"greedy-{n}") for n in range(1, 7)]
    for other in others:
        greedy.wait_for_log(f"effect[{other.id}.1.1.1] received")
    assert stack.redis.llen("greedy") == 0
    greedy.kill()
    stack.open_gate("greedy-0")
    stack.worker("-c", "2", queue="greedy")
    for other in others:
        assert other.result(timeout=40) == 1
        stack.check_history(other)
        assert events_of(other, e.StepResent)
        check_ran_once(stack, f"{other.id}.1")
    assert first.result(timeout=40).attempt == 2
    assert len(events_of(first, e.StepAttemptFailed, kind="lost")) == 1


@together
def test_an_idle_worker_that_stops_doubles_nothing(stack: Stack) -> None:
    stack.ready_worker("-c", "2", queue="pair")
    busy = [stack.start("late", "pair", id=f"busy-{number}") for number in range(2)]
    for handle in busy:
        stack.wait_for_body(handle.id)
    idle = stack.ready_worker("-c", "2", queue="pair")
    assert idle.stop() == 0
    assert stack.redis.llen("pair") == 0
    # Had anything been given back, this one would run it.
    stack.ready_worker("-c", "2", queue="pair")
    marker = stack.start("loaded", 1, "pair", id="behind")
    assert marker.result(timeout=20) == 1
    for handle in busy:
        stack.open_gate(handle.id)
        assert handle.result(timeout=20).attempt == 1
        stack.check_history(handle)
        check_ran_once(stack, handle.id)


@together
def test_a_worker_replaced_under_load_loses_and_doubles_nothing(stack: Stack) -> None:
    greedy = ("-c", "2", "--prefetch-multiplier", "4")
    workers = [stack.ready_worker(*greedy, queue="load") for _ in range(2)]
    steps = 8
    handles: list[RunHandle[Any]] = [
        stack.start("loaded", steps, "load", id=f"load-{number}") for number in range(10)
    ]
    for done in (2, 4):
        stack.wait_for_steps(handles[-1], done)
        replacement: Child = stack.worker(*greedy, queue="load")
        workers.append(replacement)
        leaving = workers.pop(0)
        assert leaving.stop() == 0
        replacement.wait_for_log(" ready.")
    for handle in handles:
        assert handle.result(timeout=40) == steps
        stack.check_history(handle)
        assert not events_of(handle, e.StepAttemptFailed)
        assert len(events_of(handle, e.StepCompleted)) == steps
        check_ran_once(stack, *(f"{handle.id}.{number}" for number in range(1, steps + 1)))


# --- Celery's settings ----------------------------------------------------------------------------


@together
def test_a_step_longer_than_the_visibility_time_out_and_its_claim_runs_once(
    stack: Stack,
) -> None:
    soon = {elsewhere_app.VISIBILITY: "2"}
    workers = [
        stack.worker("-n", f"soon{n}@acceptance", "-Q", "soon", "-c", "1", queue="soon", **soon)
        for n in range(2)
    ]
    for worker in workers:
        worker.wait_for_log(" ready.")
    handle = stack.start("late", "soon", id="soon")
    stack.wait_for_body("soon")
    began_ms = now_ms(stack)
    # Time enough for the broker to deliver twice, and for a claim that nobody renews to expire.
    eventually(lambda: now_ms(stack) > began_ms + CLAIM_TTL_MS + 1_500, "all of it is over")
    stack.open_gate("soon")
    assert handle.result(timeout=20).attempt == 1
    stack.check_history(handle)
    check_ran_once(stack, "soon")


@together
def test_a_late_acknowledged_step_whose_process_dies_is_attempted_once_more(stack: Stack) -> None:
    """Its task also asks the broker to send it again: two who repeat must not be twice."""
    stack.ready_worker("-c", "1", queue="mortal")
    handle = stack.start("late", "mortal", "die", id="mortal")
    assert handle.result(timeout=30).attempt == 2
    behind = stack.start("loaded", 1, "mortal", id="behind-mortal")
    assert behind.result(timeout=20) == 1
    stack.check_history(handle)
    assert [attempt for _, attempt, _ in stack.begun("mortal")] == [1, 2]
    assert len(stack.effects("mortal")) == 1


@together
def test_settings_of_a_celery_task_do_not_disturb_its_steps(stack: Stack) -> None:
    # Ordered before anybody can take them: longer than the one that expires would be kept.
    handles = [stack.start("settings", "set", id=f"settings-{number}") for number in range(3)]
    eventually(lambda: stack.redis.llen("set") >= 1, "messages wait")
    worker = stack.ready_worker("-c", "3", "--prefetch-multiplier", "8", queue="set")
    for handle in handles:
        names = [f"{handle.id}.{task}" for task in elsewhere_app.WITH_SETTINGS]
        names.append(f"{handle.id}.retried_by_itself")
        assert handle.result(timeout=40) == names
        stack.check_history(handle)
        for name in names:
            attempts = 3 if name.endswith("by_celery") else 2 if name.endswith("by_itself") else 1
            assert [attempt for _, attempt, _ in stack.begun(name)] == [*range(1, attempts + 1)]
            assert len(stack.effects(name)) == 1
        failed = events_of(handle, e.StepAttemptFailed)
        types = sorted(event.failure.type for event in failed)  # type: ignore[attr-defined]
        assert types == ["Retry", "ValueError", "ValueError"]
        # The delay that the task's own settings ask for is kept.
        for event in failed:
            following = {"step": event.step, "attempt": event.attempt + 1}  # type: ignore[attr-defined]
            (again,) = events_of(handle, e.StepRetried, **following)
            assert again.at_ms - event.at_ms >= 1_000
    # Celery has sent nothing of its own: every attempt was one message, and what came twice had
    # waited so long that the orchestrator sent it again.
    taken = re.findall(r"\[(settings-\d+\.1\.\d+\.\d+)\] received", worker.log())
    assert len(set(taken)) == len(handles) * (len(elsewhere_app.WITH_SETTINGS) + 1 + 3)
    resent = sum(len(events_of(handle, e.StepResent)) for handle in handles)
    assert len(taken) - len(set(taken)) <= resent


# --- secrets --------------------------------------------------------------------------------------


@together
def test_no_password_is_written_anywhere(stack: Stack) -> None:
    """Not into a message, a history or a claim, nor into the log of a process."""
    stack.redis.config_set("rdbcompression", "no")
    waiting = stack.start("loaded", 1, "nobody_listens", id="waiting")
    eventually(lambda: stack.redis.llen("nobody_listens"), "a message waits")
    held = stack.start("late", "celery", id="held")
    stack.wait_for_body("held")
    written = {key: stack.redis.dump(key) or b"" for key in stack.redis.scan_iter(count=500)}
    assert any(b"waiting.1.1.1" in data for data in written.values()), "dumps can be searched"
    assert len(written) > 10
    assert not [key for key, data in written.items() if PASSWORD.encode() in data]
    stack.open_gate("held")
    held.result(timeout=20)
    waiting.terminate("seen")
    assert not [child.name for child in stack.children if PASSWORD in child.log()]
