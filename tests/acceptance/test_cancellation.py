"""Promise: a cancel reaches a running body within about a second, without any heartbeat of its own.

Measured by the orchestrator's clock: from the request to the step's end in the same history.
"""

from orchestrator.core import events as e
from orchestrator.core.limits import CANCEL_HEARD_MS_MAX
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.together import together
from tests.acceptance.waiting import within

#: What it takes beside the renewal: the request's way in, a signal to the body, the outcome's way.
WAY_MS_MAX = 700


@together
def test_running_body_is_interrupted_within_about_a_second_of_the_cancel(stack: Stack) -> None:
    def measure(number: int) -> float:
        name = f"waited{number}"
        handle = stack.start("cancelled_wait", name, "wait", id=name)
        stack.wait_for_body(name)
        handle.cancel("enough")
        assert stack.wait_for_end(handle) == "cancelled"
        [asked] = events_of(handle, e.CancelRequested)
        [ended] = events_of(handle, e.StepFailed, step=1, kind="cancelled")
        assert stack.effects(name) == []
        stack.check_history(handle)
        return ended.at_ms - asked.at_ms

    within(CANCEL_HEARD_MS_MAX + WAY_MS_MAX, measure)


@together
def test_abandoned_step_is_not_waited_for(stack: Stack) -> None:
    handle = stack.start("cancelled_wait", "left", "abandon", id="left")
    stack.wait_for_body("left")
    handle.cancel("enough")
    assert stack.wait_for_end(handle) == "cancelled"
    assert events_of(handle, e.StepCancelRequested) == []
    assert events_of(handle, e.StepFailed) == []
    stack.check_history(handle)


@together
def test_map_runs_its_items_on_real_workers_in_order(stack: Stack) -> None:
    names = [f"item-{number}" for number in range(30)]
    handle = stack.start("mapped", names, 5, id="mapped")
    found = handle.result(timeout=30)
    assert [one["name"] for one in found] == names
    stack.check_history(handle)
