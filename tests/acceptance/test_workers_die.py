"""Promise: a worker that dies, hangs or loses its message costs an attempt or a few seconds (P5).

The step's effect happens once, under one key, and history tells what happened (P1, P2).
"""

import os
import signal
from collections.abc import Iterator

import pytest

from orchestrator import RunHandle
from orchestrator.core import events as e
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.together import together
from tests.acceptance.waiting import eventually


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("workers")) as stack:
        started = [stack.orchestrator(), stack.worker("-c", "3")]
        started[1].wait_for_log(" ready.")
        yield stack


def check_once(stack: Stack, name: str, *, attempts: int) -> None:
    """Check that the bodies of `name` were entered so often, all with one key; one took effect."""
    begun = stack.begun(name)
    assert [attempt for _, attempt, _ in begun] == list(range(1, attempts + 1))
    assert len({key for key, _, _ in begun}) == 1
    assert len(stack.effects(name)) == 1
    assert stack.effects(name)[0][0] == begun[0][0]


def check_attempt_lost(stack: Stack, handle: RunHandle[list[dict[str, object]]]) -> None:
    """Check that the first attempt was lost and the second gave the result, each told once."""
    stack.check_history(handle)
    assert len(events_of(handle, e.StepAttemptFailed, step=1, attempt=1, kind="lost")) == 1
    assert len(events_of(handle, e.StepCompleted, step=1, attempt=2)) == 1
    assert len(events_of(handle, e.StepCompleted)) == 1


@together
def test_child_killed_during_a_body_costs_one_attempt(stack: Stack) -> None:
    handle = stack.start("stepwise", "child", id="child")
    handle.signal("next", {"first": "hold"})
    os.kill(stack.wait_for_body("child.1"), signal.SIGKILL)
    assert handle.result(timeout=30)[0].attempt == 2
    check_attempt_lost(stack, handle)
    check_once(stack, "child.1", attempts=2)


@together
def test_worker_killed_during_a_body_costs_one_attempt(stack: Stack) -> None:
    worker = stack.ready_worker("-c", "2", queue="whole")
    handle = stack.start("stepwise", "whole", id="whole")
    handle.signal("next", {"first": "hold", "queue": "whole"})
    stack.wait_for_body("whole.1")
    worker.kill()
    stack.worker("-c", "2", queue="whole")
    assert handle.result(timeout=30)[0].attempt == 2
    check_attempt_lost(stack, handle)
    check_once(stack, "whole.1", attempts=2)


@together
def test_death_between_effect_and_outcome_repeats_the_body_with_the_same_key(stack: Stack) -> None:
    handle = stack.start("stepwise", "after", id="after")
    handle.signal("next", {"first": "crash_after"})
    assert handle.result(timeout=30)[0].attempt == 2
    check_attempt_lost(stack, handle)
    check_once(stack, "after.1", attempts=2)
    assert stack.effects("after.1")[0][1] == 1, "the first attempt took effect"


@together
def test_worker_killed_between_effect_and_outcome_repeats_with_the_same_key(stack: Stack) -> None:
    worker = stack.ready_worker("-c", "1", queue="gone")
    handle = stack.start("stepwise", "gone", id="gone")
    handle.signal("next", {"first": "hold_after", "queue": "gone"})
    eventually(lambda: stack.effects("gone.1"), "the first attempt takes effect")
    worker.kill()
    stack.worker("-c", "1", queue="gone")
    assert handle.result(timeout=30)[0].attempt == 2
    check_attempt_lost(stack, handle)
    check_once(stack, "gone.1", attempts=2)


@together
def test_outcome_of_a_worker_that_slept_beyond_its_claim_is_refused(stack: Stack) -> None:
    worker = stack.ready_worker("-c", "1", queue="sleepy")
    handle = stack.start("stepwise", "sleepy", id="sleepy")
    held = {"first": "hold_after", "second": "hold_after", "is_last": False}
    handle.signal("next", {**held, "queue": "sleepy"})
    eventually(lambda: stack.effects("sleepy.1"), "the first attempt takes effect")
    worker.pause()
    stack.wait_for_event(handle, e.StepAttemptFailed, attempt=1, kind="lost")
    other = stack.ready_worker("-c", "1", queue="sleepy")
    stack.wait_for_body("sleepy.1", attempt=2)
    stack.open_gate("sleepy.1", attempt=1)
    worker.resume()
    assert len(stack.wait_for_event(handle, e.OutcomeRefused, step=1, attempt=1)) == 1
    assert not events_of(handle, e.StepCompleted)
    stack.open_gate("sleepy.1", attempt=2)
    stack.wait_for_event(handle, e.StepCompleted, attempt=2)
    check_once(stack, "sleepy.1", attempts=2)
    # The worker that slept is as good as new.
    other.kill()
    handle.signal("next", {"queue": "sleepy"})
    assert [each.attempt for each in handle.result(timeout=30)] == [2, 1]
    stack.check_history(handle)
    assert len(events_of(handle, e.OutcomeRefused)) == 1


@together
def test_outcome_that_comes_after_the_end_of_its_step_is_refused_too(stack: Stack) -> None:
    worker = stack.ready_worker("-c", "1", queue="late")
    handle = stack.start("stepwise", "late", id="late")
    handle.signal("next", {"first": "hold_after", "queue": "late", "is_last": False})
    eventually(lambda: stack.effects("late.1"), "the first attempt takes effect")
    worker.pause()
    stack.wait_for_event(handle, e.StepAttemptFailed, attempt=1, kind="lost")
    stack.ready_worker("-c", "1", queue="late")
    stack.wait_for_event(handle, e.StepCompleted, attempt=2)
    stack.open_gate("late.1")
    worker.resume()
    worker.wait_for_log("late.1.1.1: outcome came too late")
    stack.wait_for_event(handle, e.OutcomeRefused, step=1, attempt=1, kind="completed")
    handle.signal("next", {"queue": "late"})
    assert [each.attempt for each in handle.result(timeout=30)] == [2, 1]
    stack.check_history(handle)
    assert len(events_of(handle, e.StepCompleted, step=1)) == 1
    check_once(stack, "late.1", attempts=2)


@together
def test_message_lost_between_broker_and_worker_is_sent_again(stack: Stack) -> None:
    """The worker stands still in BRPOP: the server hands it the message, and it dies with it."""
    handle = stack.start("stepwise", "lost", id="lost")
    lost = 0
    for number in range(1, 6):
        worker = stack.ready_worker("-c", "1", queue="lost")
        worker.pause()
        handle.signal("next", {"queue": "lost", "is_last": False})
        stack.wait_for_event(handle, e.StepScheduled, step=number)
        if not stack.redis.llen("lost"):
            worker.kill()
            lost = number
            break
        # The server's side of BRPOP had timed out just before: the message waits in the list.
        worker.resume()
        stack.wait_for_event(handle, e.StepCompleted, step=number)
        worker.kill()
    assert lost, "five times the message stayed in the queue"
    stack.ready_worker("-c", "1", queue="lost")
    stack.wait_for_event(handle, e.StepCompleted, step=lost, attempt=1)
    assert len(events_of(handle, e.StepResent, step=lost, attempt=1)) == 1
    check_once(stack, f"lost.{lost}", attempts=1)
    handle.signal("next", {"queue": "lost"})
    handle.result(timeout=30)
    stack.check_history(handle)
