"""Promise: runs move on by themselves when their orchestrator dies, sleeps or leaves (P1, P4, P5).

And only the holder of a lease ever writes (P6).
"""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from orchestrator import RunHandle, WorkflowFailed
from orchestrator.core import events as e
from sagas.order import Delivered, Order
from tasks.audit import audit
from tasks.faults import Mode, set_switch
from tests.acceptance.child import Child
from tests.acceptance.stack import PARTITIONS, Stack, events_of


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("orchestrators")) as stack:
        stack.worker("-c", "2")
        yield stack


@pytest.fixture(scope="module")
def crew() -> list[Child]:
    """Orchestrators that earlier tests started."""
    return []


@pytest.fixture
def orchestrators(stack: Stack, crew: list[Child]) -> list[Child]:
    """Two orchestrators that share the partitions."""
    crew[:] = [each for each in crew if each.is_running]
    while len(crew) < 2:
        crew.append(stack.orchestrator())
    stack.wait_for_owners(*crew)
    return crew


def waiting(stack: Stack) -> int:
    """Return how much lies in all inboxes."""
    return sum(int(stack.redis.xlen(stack.keys.inbox(p))) for p in range(PARTITIONS))


def test_without_any_orchestrator_the_inbox_grows_and_the_next_one_takes_it(stack: Stack) -> None:
    handles = [stack.start("stepwise", f"early-{n}", id=f"early-{n}") for n in range(8)]
    for handle in handles:
        handle.signal("next", {})
    assert waiting(stack) == 2 * len(handles)
    assert {handle.status() for handle in handles} == {"pending"}
    first = stack.orchestrator()
    for handle in handles:
        assert [each.attempt for each in handle.result(timeout=30)] == [1]
        stack.check_history(handle)
    assert waiting(stack) == 0
    assert first.stop() == 0


def test_orchestrator_killed_in_the_middle_of_sagas_is_replaced(
    stack: Stack, orchestrators: list[Child]
) -> None:
    killed, other = orchestrators
    orders = [Order(id=f"saga-{n}", total=Decimal("100.50")) for n in range(8)]
    for number, order in enumerate(orders):
        # Half of them are caught on their way, half while they are undone.
        if number % 2:
            set_switch("ship", Mode.REFUSE, order_id=order.id)
            set_switch("refund", Mode.HANG, order_id=order.id, seconds=1.0)
        else:
            set_switch("charge", Mode.HANG, order_id=order.id, seconds=1.0)
    handles = [stack.start("order", order, id=order.id) for order in orders]
    stack.wait_for_event(handles[1], e.CompensationStarted)
    assert all(not handle.describe().is_closed for handle in handles[::2])
    killed.kill()
    for handle in handles[::2]:
        stack.wait_for_published(handle, status="shipped")
        handle.signal("delivered", Delivered(signed_by="ana"))
        assert handle.result(timeout=40).status.value == "completed"
    for handle in handles[1::2]:
        with pytest.raises(WorkflowFailed):
            handle.result(timeout=40)
        assert handle.state()["status"] == "failed"
        assert len(events_of(handle, e.CompensationCompleted)) == 1
    stack.wait_for_owners(other)
    for handle in handles:
        stack.check_history(handle)
    assert audit(stack.environment["SHOP_DATABASE_URL"]) == []


def move_on(stack: Stack, handles: list[RunHandle[Any]]) -> None:
    """Let each run do one step."""
    done = len(events_of(handles[0], e.StepCompleted))
    for handle in handles:
        handle.signal("next", {"is_last": False})
    for handle in handles:
        stack.wait_for_steps(handle, done + 1)


def put_to_sleep(stack: Stack, sleeper: Child, other: Child, handles: list[RunHandle[Any]]) -> None:
    """Pause an orchestrator until its leases are another's and every run has moved on; wake it."""
    # Each run moves a step before: one that the sleeper has not in memory it has to load when it
    # wakes, and loading renews leases, so that it would learn of its loss too early.
    move_on(stack, handles)
    sleeper.pause()
    # What is posted now is handed to the sleeper's own blocked read: it will act on it, late.
    move_on(stack, handles)
    stack.wait_for_owners(other)
    sleeper.resume()
    stack.wait_for_owners(sleeper, other)


@pytest.mark.timeout(150)
def test_orchestrator_that_slept_beyond_its_lease_writes_nothing(
    stack: Stack, orchestrators: list[Child]
) -> None:
    sleeper, other = orchestrators
    handles = [stack.start("stepwise", f"fenced-{n}", id=f"fenced-{n}") for n in range(16)]
    for handle in handles:
        stack.wait_for_event(handle, e.RunStarted)
    steps = 1
    # A pause that hits between two reads leaves the sleeper nothing to write; then once more.
    for _ in range(4):
        put_to_sleep(stack, sleeper, other, handles)
        steps += 2
        if "another orchestrator owns it now" in sleeper.log():
            break
    assert "another orchestrator owns it now" in sleeper.log(), "no commit of it was refused"
    for handle in handles:
        handle.signal("next", {})
    for handle in handles:
        assert [each.attempt for each in handle.result(timeout=30)] == [1] * steps
        stack.check_history(handle)
        for kind in (e.StepScheduled, e.StepCompleted, e.SignalReceived):
            assert len(events_of(handle, kind)) == steps
        for step in range(1, steps + 1):
            assert len(stack.effects(f"{handle.id}.{step}")) == 1


def test_orchestrator_that_is_stopped_hands_over_at_once(
    stack: Stack, orchestrators: list[Child], record_property: Callable[[str, object], None]
) -> None:
    leaving, other = orchestrators
    handles = [stack.start("steady", 12, 50, id=f"handed-{n}") for n in range(6)]
    for handle in handles:
        stack.wait_for_event(handle, e.StepCompleted)
    name = stack.owner_name(leaving)
    assert name
    began = time.monotonic()
    assert leaving.stop() == 0
    # Given back, not left to expire.
    assert name not in stack.owners()
    stack.wait_for_owners(other)
    record_property("handover_ms", round((time.monotonic() - began) * 1000))
    for handle in handles:
        assert handle.result(timeout=30) == 12
        stack.check_history(handle)
        assert len(events_of(handle, e.StepCompleted)) == 12
