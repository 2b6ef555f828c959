"""Promise: bad input is never dropped in silence, and never the end of a run.

What does not fit is refused where it is sent, or told where it arrives.
"""

import json

import pytest

from orchestrator import InvalidPayload, PayloadTooLarge, RunExists, RunHandle, RunNotFound
from orchestrator.core import events as e
from orchestrator.core.limits import PAYLOAD_BYTES_MAX
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.together import together
from tests.acceptance.waiting import eventually


def knock(stack: Stack, **fields: str) -> None:
    """Write a line to the door, as a person with redis-cli does."""
    stack.redis.xadd(stack.keys.door, fields)


def waiting_order(stack: Stack, order_id: str) -> RunHandle[object]:
    """Start an order that waits for its approval."""
    handle = stack.start("order", {"id": order_id, "total": "9000"}, id=order_id)
    stack.wait_for_published(handle, status="awaiting_approval")
    return handle


def rejections(stack: Stack) -> list[dict[str, str]]:
    """Return the signals that no run could take."""
    rows = stack.redis.xrange(stack.keys.rejected)
    return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in rows]


@together
def test_input_that_does_not_validate_starts_nothing(stack: Stack) -> None:
    with pytest.raises(InvalidPayload, match="total"):
        stack.start("order", {"id": "bad", "total": "much"}, id="bad")
    with pytest.raises(RunNotFound):
        stack.orc.run("bad").describe()


@together
def test_id_of_an_open_run_is_refused(stack: Stack) -> None:
    first = waiting_order(stack, "taken")
    with pytest.raises(RunExists):
        stack.start("order", {"id": "taken", "total": "1"}, id="taken")
    assert len(events_of(first, e.RunStarted)) == 1
    assert first.describe().run == 1


@together
def test_signal_that_does_not_fit_is_refused_at_the_client(stack: Stack) -> None:
    with pytest.raises(RunNotFound):
        stack.orc.run("nobody").signal("approve", {"approved": True, "by": "ana"})
    handle = waiting_order(stack, "strict")
    with pytest.raises(InvalidPayload, match="approve, cancel, delivered"):
        handle.signal("aprove", {"approved": True, "by": "ana"})
    with pytest.raises(InvalidPayload, match="by"):
        handle.signal("approve", {"approved": True})
    with pytest.raises(PayloadTooLarge):
        handle.signal("approve", {"approved": True, "by": "x" * PAYLOAD_BYTES_MAX})
    assert handle.status() == "running"
    assert not events_of(handle, e.SignalReceived)


@together
def test_bad_line_at_the_door_is_told_in_the_history_of_its_run(stack: Stack) -> None:
    handle = waiting_order(stack, "knocked")
    wrong = {
        "approve": [
            '{"approved": tru',
            '{"approved": true}',
            json.dumps({"approved": True, "by": "x" * PAYLOAD_BYTES_MAX}),
        ],
        "aprove": ['{"approved": true, "by": "ana"}'],
    }
    for name, payloads in wrong.items():
        for payload in payloads:
            knock(stack, workflow="knocked", signal=name, payload=payload)
    eventually(lambda: len(events_of(handle, e.SignalRejected)) == 4, "four rejections")
    reasons = " | ".join(event.reason for event in events_of(handle, e.SignalRejected))  # type: ignore[attr-defined]
    for reason in ("is not JSON", "by", "bytes", "aprove"):
        assert reason in reasons
    assert not events_of(handle, e.SignalReceived)
    # The right line still gets through.
    knock(stack, workflow="knocked", signal="approve", payload='{"approved": true, "by": "ana"}')
    stack.wait_for_published(handle, approved_by="ana")
    stack.check_history(handle)


@together
def test_line_at_the_door_for_nobody_is_kept_with_its_reason(stack: Stack) -> None:
    knock(stack, workflow="no-such-order", signal="approve", payload='{"approved": true}')
    knock(stack, note="neither workflow nor signal")

    def look() -> bool:
        told = rejections(stack)
        return any(
            row.get("workflow") == "no-such-order" and "no run has this id" in row["reason"]
            for row in told
        ) and any("fields workflow and signal are wanted" in row["reason"] for row in told)

    eventually(look, "both lines are in the rejected list")


@together
def test_oversized_input_starts_nothing(stack: Stack) -> None:
    with pytest.raises(PayloadTooLarge):
        stack.start("stepwise", "x" * PAYLOAD_BYTES_MAX, id="huge")
    with pytest.raises(RunNotFound):
        stack.orc.run("huge").describe()


@together
def test_poison_at_every_place_that_others_may_write_to_ends_no_orchestrator(stack: Stack) -> None:
    handle = waiting_order(stack, "poisoned")
    partition = stack.keys.of_workflow("poisoned")
    for payload in ("NaN", "1e999", r'"\ud800"', "[" * 100_000):
        knock(stack, workflow="poisoned", signal="approve", payload=payload)
    knock(stack, workflow="poisoned", signal="x" * 3_000_000, payload="1")
    entry = {"kind": "outcome", "workflow": "poisoned", "run": "1"}
    for body in ('{"result": NaN}', '{"a":' + "[" * 5_000, '{"step": {}, "attempt": []}'):
        stack.redis.xadd(stack.keys.inbox(partition), {**entry, "body": body})
    stack.redis.zadd(stack.keys.timers(partition), {"garbage": 1, "sleep:poisoned.1.x.0": 1})
    stack.redis.zadd(stack.keys.claims(partition), {"garbage": 1})
    eventually(lambda: not stack.redis.xlen(stack.keys.door), "the door is empty")
    eventually(lambda: len(rejections(stack)) >= 6, "what nobody can take is kept")
    knock(
        stack,
        workflow="poisoned",
        signal="approve",
        payload=json.dumps({"approved": True, "by": "ana"}),
    )
    stack.wait_for_event(handle, e.SignalReceived, signal="approve")
    assert len(events_of(handle, e.SignalRejected)) == 4
    assert all(child.is_running for child in stack.children)
