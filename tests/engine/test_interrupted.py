"""P1, P5: what a lost answer leaves half done is done after all, and nothing is left behind."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.retry import Retry
from orchestrator.store.ports import Kind
from tests.engine.world import World, definition


async def flow() -> Any:
    said = await workflow.signal("say")
    return [said, await workflow.step("job")]


def failing_once(call: Callable[..., Any], *, happens: bool) -> Callable[..., Any]:
    """Return `call` as it is when its first answer is lost, or its first call not sent."""
    calls = iter([True])

    def once(*args: Any, **kwargs: Any) -> Any:
        if not next(calls, False):
            return call(*args, **kwargs)
        if happens:
            call(*args, **kwargs)
        raise StoreUnavailable("call", "no answer")

    return once


@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_owner_that_gets_some_leases_and_no_further_answer_drives_their_runs(
    monkeypatch: pytest.MonkeyPatch, at: int, *, happens: bool
) -> None:
    world = World(flow)
    world.tasks["job"] = lambda: 1
    for number in range(12):
        world.start("flow", id=f"w{number}")
        world.signal("say", "hello", id=f"w{number}")
    grant, calls = world.store.grant_lease, iter(range(100))
    shaky = failing_once(grant, happens=happens)
    monkeypatch.setattr(
        world.store, "grant_lease", lambda *a, **k: (shaky if next(calls) >= at else grant)(*a, **k)
    )
    world.settle()
    assert {world.status(f"w{number}") for number in range(12)} == {"completed"}


def test_blocked_runs_are_tried_again_although_the_list_of_them_was_lost_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def buggy() -> Any:
        raise ValueError("a bug")

    world = World(definition(buggy, "flow"))
    world.start("flow")
    world.settle()
    assert world.status() == "blocked"
    world.deploy(definition(flow, "flow"))
    world.restart()
    shaky = failing_once(world.store.list_blocked, happens=False)
    monkeypatch.setattr(world.store, "list_blocked", shaky)
    world.settle()
    assert world.status() == "running"


def test_a_run_with_a_parked_step_can_be_terminated() -> None:
    async def driven() -> None:
        async with workflow.saga() as saga:
            saga.commit()
            await saga.step("job", retry=Retry(attempts=1))

    world = World(driven)

    @world.task
    def job() -> None:
        raise OSError("never again")

    world.start("driven")
    world.settle()
    assert world.status() == "parked"
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "t"})
    world.settle()
    assert world.status() == "terminated"


def test_a_step_that_times_out_as_it_is_cancelled_leaves_no_claim_behind() -> None:
    async def impatient() -> str:
        try:
            async with asyncio.timeout(5):
                await workflow.step("job", start_to_close=timedelta(seconds=5))
        except TimeoutError:
            return "gave up"
        return "finished"

    world = World(impatient)
    world.start("impatient")
    world.turn()
    message = world.pop()
    assert message
    world.claim(message)
    # Both fall due at once: the attempt ends, and the code no longer wants another.
    world.advance(5_000)
    world.turn()
    assert world.result() == "gave up"
    world.advance(CLAIM_TTL_MS)
    assert world.node.owner.cycle(block_ms=0) == 0, "a claim of nobody is worked on for ever"
    assert not any(part.claims for part in world.store._parts)
