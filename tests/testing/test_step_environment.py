"""Promise: one body can be run as a worker runs it, with what it says and what it is told."""

import asyncio
from typing import Any

import pytest

from orchestrator import InvalidPayload, StepCancelled, step
from orchestrator.testing import StepEnvironment
from tests.testing import shop
from tests.testing.shop import Order, Payment


def test_a_body_gets_its_arguments_and_gives_its_result_in_the_declared_types(
    step_env: StepEnvironment,
) -> None:
    assert step_env.run(shop.charge, {"id": "o", "total": 7}) == Payment(id="p-o", cents=700)
    assert shop.EFFECTS == ["charge o test.1.1"]
    assert step_env.run(shop.refund, Order(id="o")) == "refunded"
    assert step_env.run(shop.ship, "o") == "t-o"


def test_what_would_not_survive_the_way_is_found(step_env: StepEnvironment) -> None:
    with pytest.raises(InvalidPayload, match="argument 1"):
        step_env.run(shop.charge, {"total": 7})
    with pytest.raises(InvalidPayload, match="arguments of"):
        step_env.run(shop.ship, object())

    def gives_a_set() -> Any:
        return {1, 2}

    with pytest.raises(InvalidPayload, match="a set has no order"):
        step_env.run(gives_a_set)


def test_heartbeats_are_kept_and_cancellation_is_seen(step_env: StepEnvironment) -> None:
    assert step_env.run(shop.beats) == "done"
    assert step_env.heartbeats == [{"number": 0}, {"number": 1}, {"number": 2}]
    step_env.on_heartbeat = lambda details: step_env.cancel() if details == {"number": 1} else None
    with pytest.raises(StepCancelled):
        step_env.run(shop.beats)
    assert shop.EFFECTS == ["stopped"]
    assert step_env.heartbeats == [{"number": 0}, {"number": 1}]


def test_a_coroutine_is_cancelled_where_it_waits(step_env: StepEnvironment) -> None:
    async def waits() -> None:
        step.heartbeat("here")
        await asyncio.Event().wait()

    def cancel(_: object) -> None:
        asyncio.get_running_loop().call_soon(step_env.cancel)

    step_env.on_heartbeat = cancel
    with pytest.raises(asyncio.CancelledError):
        step_env.run(waits)


def test_a_later_attempt_finds_what_the_earlier_left() -> None:
    def resumes() -> Any:
        info = step.current()
        assert info is not None
        return [info.attempt, info.details, info.idempotency_key, step.is_cancelled()]

    env = StepEnvironment(details={"page": 3}, attempt=2, idempotency_key="k")
    assert env.run(resumes) == [2, {"page": 3}, "k", False]


def test_a_body_that_has_ended_can_be_cancelled(step_env: StepEnvironment) -> None:
    async def body() -> int:
        await asyncio.sleep(0)
        return 1

    assert step_env.run(body) == 1
    step_env.cancel()
