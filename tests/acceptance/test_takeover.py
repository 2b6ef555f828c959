"""Promise: what dies is replaced within seconds, and what leaves hands over at once (P5).

docs/adr/0008-sizes-of-leases-measured.md has the figures behind the bars.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from orchestrator import RunHandle
from orchestrator.core import events as e
from orchestrator.core.limits import CLAIM_TTL_MS, RESEND_AFTER_MS
from tests.acceptance.child import Child
from tests.acceptance.stack import PARTITIONS, Stack, events_of
from tests.acceptance.together import together
from tests.acceptance.waiting import eventually, within

#: Seconds from a worker's death to its running steps running elsewhere.
WORKER_KILLED_S_MAX = 10.0
#: From another orchestrator's start, the only one having been killed, to its runs moving.  What
#: Python takes until it is there is not counted: a second, or nine on a machine full of tests.
ONLY_ORCHESTRATOR_KILLED_S_MAX = 10.0
#: The same where a second one was already there, from the death.
ONE_OF_TWO_KILLED_S_MAX = 15.0
#: Milliseconds from the end of a process that was stopped politely, as history tells it.
CLEAN_STOP_MS_MAX = 1_000

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("heirs")) as stack:
        stack.orchestrator()
        yield stack


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own for those who end orchestrators."""
    with Stack(tmp_path_factory.mktemp("owners")) as stack:
        stack.ready_worker("-c", "3")
        yield stack


def now_ms(stack: Stack) -> int:
    """Return the server's time, which histories tell."""
    seconds, microseconds = stack.redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def latest_ms(handles: Sequence[RunHandle[Any]], kind: type[e.Event]) -> int:
    """Return when the last event of a kind was recorded, over all these runs."""
    return max(event.at_ms for handle in handles for event in events_of(handle, kind))


# --- messages -------------------------------------------------------------------------------------


@together
def test_copies_of_a_message_run_nothing_before_during_and_after_the_step(stack: Stack) -> None:
    handle = stack.start("stepwise", "copied", id="copied")
    handle.signal("next", {"first": "hold", "queue": "copied"})
    (message,) = eventually(lambda: stack.redis.lrange("copied", 0, -1), "the message is sent")
    stack.redis.lpush("copied", message, message)
    stack.ready_worker("-c", "3", queue="copied")
    stack.wait_for_body("copied.1")
    eventually(lambda: not stack.redis.llen("copied"), "the copies are taken")
    stack.redis.lpush("copied", message)
    eventually(lambda: not stack.redis.llen("copied"), "the third copy is taken")
    stack.open_gate("copied.1")
    assert [each.attempt for each in handle.result(timeout=30)] == [1]
    stack.redis.lpush("copied", message)
    # What follows on the same queue has run, so the last copy was looked at.
    after = stack.start("stepwise", "after-copies", id="after-copies")
    after.signal("next", {"queue": "copied"})
    after.result(timeout=30)
    assert len(stack.begun("copied.1")) == len(stack.effects("copied.1")) == 1
    stack.check_history(handle)
    assert len(events_of(handle, e.StepCompleted)) == 1


# --- orchestrators --------------------------------------------------------------------------------


def one_in_each_partition(stack: Stack, name: str) -> list[RunHandle[Any]]:
    """Start a run that waits for its signal, in every partition."""
    ids: dict[int, str] = {}
    for number in range(100 * PARTITIONS):
        ids.setdefault(stack.keys.of_workflow(f"{name}-{number}"), f"{name}-{number}")
    assert len(ids) == PARTITIONS
    handles = [stack.start("stepwise", each, id=each) for each in ids.values()]
    for handle in handles:
        stack.wait_for_event(handle, e.RunStarted)
    return handles


def move(stack: Stack, handles: Sequence[RunHandle[Any]]) -> None:
    """Let each run take another step, and wait for all of these."""
    count = len(events_of(handles[0], e.StepCompleted)) + 1
    for handle in handles:
        handle.signal("next", {"is_last": False})
    for handle in handles:
        stack.wait_for_steps(handle, count)


def check_one_line(stack: Stack, handles: Sequence[RunHandle[Any]], steps: int) -> None:
    """Check that every step of every run was recorded and run once."""
    for handle in handles:
        stack.check_history(handle)
        assert len(events_of(handle, e.StepCompleted, attempt=1)) == steps
        for step in range(1, steps + 1):
            assert len(stack.effects(f"{handle.id}.{step}")) == 1


@pytest.fixture(scope="module")
def crew() -> list[Child]:
    """The orchestrators that live, in the order of their starts."""
    return []


def two_of(stack: Stack, crew: list[Child]) -> tuple[Child, Child]:
    while len(crew) < 2:
        crew.append(stack.orchestrator())
    stack.wait_for_owners(*crew)
    return crew[0], crew[1]


def test_runs_of_an_orchestrator_that_is_stopped_move_within_a_second_of_its_end(
    owned: Stack, crew: list[Child], record_property: Record
) -> None:
    def measure(number: int) -> float:
        leaving, _ = two_of(owned, crew)
        handles = one_in_each_partition(owned, f"stopped{number}")
        assert leaving.stop() == 0
        ended_ms = now_ms(owned)
        crew.remove(leaving)
        move(owned, handles)
        check_one_line(owned, handles, 1)
        return latest_ms(handles, e.StepScheduled) - ended_ms

    record_property("moved_after_end_ms", within(CLEAN_STOP_MS_MAX, measure))


def test_runs_of_a_killed_orchestrator_move_under_one_that_was_already_there(
    owned: Stack, crew: list[Child], record_property: Record
) -> None:
    def measure(number: int) -> float:
        killed, staying = two_of(owned, crew)
        handles = one_in_each_partition(owned, f"second{number}")
        move(owned, handles)
        began = time.monotonic()
        killed.kill()
        crew.remove(killed)
        move(owned, handles)
        took_s = time.monotonic() - began
        owned.wait_for_owners(staying)
        check_one_line(owned, handles, 2)
        return took_s

    record_property("moved_s", within(ONE_OF_TWO_KILLED_S_MAX, measure))


def test_runs_of_the_only_orchestrator_move_soon_after_another_is_started(
    owned: Stack, crew: list[Child], record_property: Record
) -> None:
    while len(crew) > 1:
        assert crew.pop(0).stop() == 0
    crew[:] = crew or [owned.orchestrator()]

    def measure(number: int) -> float:
        owned.wait_for_owners(*crew)
        handles = one_in_each_partition(owned, f"only{number}")
        move(owned, handles)
        crew.pop().kill()
        crew.append(owned.orchestrator().wait_for_log(" workflow types"))
        began = time.monotonic()
        move(owned, handles)
        check_one_line(owned, handles, 2)
        return time.monotonic() - began

    record_property("moved_s", within(ONLY_ORCHESTRATOR_KILLED_S_MAX, measure))


# --- workers --------------------------------------------------------------------------------------


@together
def test_running_steps_of_a_killed_worker_run_elsewhere_within_ten_seconds(stack: Stack) -> None:
    def measure(number: int) -> float:
        queue = f"killed{number}"
        killed = stack.ready_worker("-c", "3", queue=queue)
        names = [f"{queue}-{each}" for each in range(3)]
        handles = [stack.start("stepwise", name, id=name) for name in names]
        for handle in handles:
            handle.signal("next", {"first": "hold", "queue": queue})
        for name in names:
            stack.wait_for_body(f"{name}.1")
        stack.ready_worker("-c", "3", queue=queue)
        began = time.monotonic()
        killed.kill()
        for name in names:
            stack.wait_for_body(f"{name}.1", attempt=2)
        took_s = time.monotonic() - began
        for handle in handles:
            assert [each.attempt for each in handle.result(timeout=30)] == [2]
            stack.check_history(handle)
            assert len(events_of(handle, e.StepAttemptFailed, attempt=1, kind="lost")) == 1
        return took_s

    within(WORKER_KILLED_S_MAX, measure)


@together
def test_messages_that_a_killed_worker_had_fetched_are_sent_again(stack: Stack) -> None:
    killed, first, others = holding_the_queue(stack, "fetched")
    killed.kill()
    stack.ready_worker("-c", "3", queue="fetched")
    assert [each.attempt for each in first.result(timeout=30)] == [2]
    for handle in others:
        # Nobody had claimed it: it is the same attempt that is sent again.
        assert [each.attempt for each in handle.result(timeout=30)] == [1]
        assert events_of(handle, e.StepResent, attempt=1)
    for handle in (first, *others):
        stack.check_history(handle)
        assert len(stack.effects(f"{handle.id}.1")) == 1


@together
def test_worker_that_is_stopped_ends_what_runs_and_hands_the_rest_over(stack: Stack) -> None:
    def measure(number: int) -> float:
        queue = f"leaving{number}"
        leaving, first, others = holding_the_queue(stack, queue)
        stack.ready_worker("-c", "1", queue=queue)
        leaving.signal(signal.SIGTERM)
        leaving.wait_for_log("Warm shutdown")
        stack.open_gate(f"{queue}-0.1")
        assert leaving.wait() == 0
        ended_ms = now_ms(stack)
        for handle in (first, *others):
            assert [each.attempt for each in handle.result(timeout=30)] == [1]
            stack.check_history(handle)
        return latest_ms((first, *others), e.StepCompleted) - ended_ms

    # Sending them again would take ten seconds.
    assert CLEAN_STOP_MS_MAX < RESEND_AFTER_MS
    within(CLEAN_STOP_MS_MAX, measure)


@together
def test_step_that_outlives_the_stop_of_its_worker_keeps_its_claim_and_holds_up_nobody(
    stack: Stack,
) -> None:
    leaving, first, others = holding_the_queue(stack, "slowly")
    stack.ready_worker("-c", "1", queue="slowly")
    leaving.signal(signal.SIGTERM)
    leaving.wait_for_log("Warm shutdown")
    claimed_until = expiry_of(stack, first.id)
    # Celery gives back what it has fetched at its very end; the log does not wait for that.
    for handle in others:
        assert [each.attempt for each in handle.result(timeout=30)] == [1]
        assert events_of(handle, e.StepResent)
    eventually(
        lambda: expiry_of(stack, first.id) > claimed_until + CLAIM_TTL_MS, "the claim is renewed"
    )
    stack.open_gate("slowly-0.1")
    assert leaving.wait() == 0
    assert [each.attempt for each in first.result(timeout=30)] == [1]
    # The copies that went back at last run nothing.
    eventually(lambda: not stack.redis.llen("slowly"), "the copies are taken")
    for handle in (first, *others):
        stack.check_history(handle)
        assert len(stack.begun(f"{handle.id}.1")) == 1


def holding_the_queue(
    stack: Stack, queue: str
) -> tuple[Child, RunHandle[Any], list[RunHandle[Any]]]:
    """Return a worker that runs a step of the first run and has fetched one of each other run."""
    worker = stack.ready_worker("-c", "1", "--prefetch-multiplier", "4", queue=queue)
    first, *others = (stack.start("stepwise", f"{queue}-{n}", id=f"{queue}-{n}") for n in range(3))
    first.signal("next", {"first": "hold", "queue": queue})
    stack.wait_for_body(f"{first.id}.1")
    for handle in others:
        handle.signal("next", {"queue": queue})
        stack.wait_for_event(handle, e.StepScheduled)
    eventually(lambda: not stack.redis.llen(queue), "the worker fetches them all")
    return worker, first, others


def expiry_of(stack: Stack, workflow_id: str) -> float:
    """Return when the claim of the id's only step expires."""
    claims = stack.redis.zrange(
        stack.keys.claims(stack.keys.of_workflow(workflow_id)), 0, -1, withscores=True
    )
    return max(float(at_ms) for name, at_ms in claims if workflow_id.encode() in name)
