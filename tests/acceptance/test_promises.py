"""Promise: P1 to P6 hold together, while workers and orchestrators are killed around ten orders.

Checked with SQL, by every history's chain, and by replaying every history.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import NamedTuple

import pytest

from orchestrator import RunHandle, WorkflowFailed
from orchestrator.core import events as e
from sagas.order import Approval, CancelOrder, Delivered, Order
from tasks.audit import audit
from tasks.faults import Mode, set_switch
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.waiting import eventually


class Story(NamedTuple):
    """An order, what disturbs it, and how it ends."""

    id: str
    total: str
    ends: str
    disturb: Callable[[str], None] = lambda order_id: None


def switch(
    task: str, mode: Mode, remaining: int = 1, seconds: float = 0.0
) -> Callable[[str], None]:
    """Return what sets a switch for one order."""

    def disturb(order_id: str) -> None:
        set_switch(task, mode, order_id=order_id, remaining=remaining, seconds=seconds)

    return disturb


STORIES = [
    Story("calm", "10.00", "completed"),
    Story("approved", "5000.01", "completed"),
    Story("refused", "9000.00", "rejected"),
    Story("regretted", "20.00", "cancelled"),
    Story("twice", "30.00", "completed", switch("charge", Mode.FAIL, 2)),
    Story("early", "40.00", "completed", switch("ship", Mode.CRASH_BEFORE)),
    Story("late", "50.00", "completed", switch("charge", Mode.CRASH_AFTER)),
    Story("slow", "60.00", "completed", switch("ship", Mode.HANG, seconds=2.0)),
    Story("unshipped", "70.00", "failed", switch("ship", Mode.REFUSE)),
    Story("undone", "80.00", "failed", switch("ship", Mode.REFUSE)),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("promises")) as stack:
        yield stack


def answer(handle: RunHandle[object], ends: str) -> bool:
    """Do what people do about an order in its present state; return whether it has ended."""
    status = (handle.state() or {}).get("status")
    # One id per message: looking twice at the same state sends the same signal.
    if status == "awaiting_approval":
        approval = Approval(approved=ends == "completed", by="ana")
        handle.signal("approve", approval, id=f"{handle.id}-approve")
    elif status == "shipped" and ends == "cancelled":
        handle.signal("cancel", CancelOrder(by="ben"), id=f"{handle.id}-cancel")
    elif status == "shipped":
        handle.signal("delivered", Delivered(), id=f"{handle.id}-delivered")
    return handle.describe().is_closed


def check_steps(events: list[e.Event]) -> None:
    """Check that every step is ordered once, and has one outcome at most (P2)."""
    ordered = [event.step for event in events if isinstance(event, e.StepScheduled)]
    settled = [event.step for event in events if isinstance(event, e.StepCompleted | e.StepFailed)]
    assert len(ordered) == len(set(ordered))
    assert len(settled) == len(set(settled))
    assert set(settled) <= set(ordered)


def test_ten_orders_keep_all_promises_while_everything_is_killed(stack: Stack) -> None:
    workers = [stack.worker("-c", "2"), stack.worker("-c", "2")]
    orchestrators = [stack.orchestrator(), stack.orchestrator()]
    stack.wait_for_owners(*orchestrators)
    set_switch("refund", Mode.CRASH_AFTER, order_id="undone")
    for story in STORIES:
        story.disturb(story.id)
    handles = {
        story.id: stack.start("order", Order(id=story.id, total=Decimal(story.total)), id=story.id)
        for story in STORIES
    }
    eventually(lambda: events_of(handles["calm"], e.StepCompleted), "orders move")
    orchestrators[0].kill()
    workers[0].kill()
    stack.worker("-c", "2")
    stack.orchestrator()
    open_ones = {story.id: story.ends for story in STORIES}

    def all_ended() -> bool:
        for order_id, ends in list(open_ones.items()):
            if answer(handles[order_id], ends):
                del open_ones[order_id]
        return not open_ones

    eventually(all_ended, f"all orders end: {open_ones}")
    statuses = {order_id: handle.state()["status"] for order_id, handle in handles.items()}
    assert statuses == {story.id: story.ends for story in STORIES}
    assert audit(stack.environment["SHOP_DATABASE_URL"], statuses) == []
    for handle in handles.values():
        check_steps(stack.check_history(handle))
    for order_id in ("unshipped", "undone"):
        with pytest.raises(WorkflowFailed):
            handles[order_id].result(timeout=1)
    # Of the killed processes at least these were caught in the act.
    assert events_of(handles["early"], e.StepAttemptFailed, kind="lost")
    assert events_of(handles["late"], e.StepAttemptFailed, kind="lost")
    assert events_of(handles["undone"], e.StepAttemptFailed, kind="lost")
    assert orchestrators[1].stop() == 0
