"""P4: a saga ends committed, or undone as far as it may have taken effect, or parked."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ApplicationError, StepError
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.retry import Retry
from orchestrator.store.ports import Kind
from tests.engine.world import World

ONCE = Retry(attempts=1)


async def booking(order: str) -> str:
    async with workflow.saga() as saga:
        await saga.step("reserve", order, undo="release")
        await saga.step("charge", order, undo="refund", retry=ONCE)
        await saga.step("ship", order, undo="recall", retry=ONCE)
    return "shipped"


class Shop:
    """What took effect, as the outside world sees it."""

    def __init__(self, world: World) -> None:
        self.effects: list[str] = []
        self.broken: set[str] = set()
        self.refusing: set[str] = set()
        for name in ("reserve", "charge", "ship", "release", "refund", "recall"):
            world.tasks[name] = lambda order, name=name: self.act(name)

    def act(self, name: str) -> str:
        if name in self.refusing:
            raise ApplicationError(f"{name}: no", type="Refused", non_retryable=True)
        if name in self.broken:
            raise OSError(f"{name}: unreachable")
        self.effects.append(name)
        return name


def shop_world() -> tuple[World, Shop]:
    world = World(booking)
    return world, Shop(world)


def test_a_saga_that_succeeds_undoes_nothing() -> None:
    world, shop = shop_world()
    world.start("booking", "o1")
    world.settle()
    assert world.result() == "shipped"
    assert shop.effects == ["reserve", "charge", "ship"]
    assert "SagaCommitted" in world.names()


def test_a_refused_step_is_not_undone_and_those_before_it_are_newest_first() -> None:
    world, shop = shop_world()
    shop.refusing.add("ship")
    world.start("booking", "o1")
    world.settle()
    assert world.status() == "failed"
    assert shop.effects == ["reserve", "charge", "refund", "release"]


def test_a_step_that_failed_without_a_definitive_answer_is_undone_too() -> None:
    world, shop = shop_world()
    shop.broken.add("ship")
    world.start("booking", "o1")
    world.settle()
    assert shop.effects == ["reserve", "charge", "recall", "refund", "release"]


def test_a_step_whose_worker_died_is_undone_with_the_key_of_the_step() -> None:
    world, shop = shop_world()
    world.start("booking", "o1")
    for _ in range(2):
        world.turn()
        message = world.pop()
        assert message
        world.claim(message)
        charge_key = message["idempotency_key"]
        if message["task"] == "reserve":
            world.finish(message, world.run_body(message))
    world.advance(CLAIM_TTL_MS)
    world.turn()
    undo = world.pop()
    assert undo
    assert (undo["task"], undo["args"]) == ("refund", ["o1"])
    assert undo["compensates"] == charge_key
    world.claim(undo)
    world.finish(undo, world.run_body(undo))
    world.settle()
    assert shop.effects == ["reserve", "refund", "release"]
    assert world.status() == "failed"


def test_compensation_survives_the_death_of_its_orchestrator_at_every_turn() -> None:
    for turns_before_death in range(2, 14):
        world, shop = shop_world()
        shop.refusing.add("ship")
        world.start("booking", "o1")
        for _ in range(turns_before_death):
            world.node.turn()
            world.work()
        world.restart()
        world.settle()
        assert world.status() == "failed"
        assert shop.effects == ["reserve", "charge", "refund", "release"]


def test_status_shows_the_compensation_while_it_runs() -> None:
    world, shop = shop_world()
    shop.refusing.add("charge")
    world.start("booking", "o1")
    for _ in range(2):
        world.turn()
        assert world.status() == "running"
        world.work()
    world.turn()
    assert world.status() == "compensating"
    world.settle()
    assert world.status() == "failed"


@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.TERMINATE])
def test_neither_cancel_nor_terminate_stops_a_compensation(kind: Kind) -> None:
    world, shop = shop_world()
    shop.refusing.add("ship")
    world.start("booking", "o1")
    for _ in range(3):
        world.turn()
        world.work()
    world.turn()
    assert world.status() == "compensating"
    world.post(kind, {"reason": "stop", "request_id": "x"})
    world.settle()
    assert shop.effects == ["reserve", "charge", "refund", "release"]
    assert world.status() in ("failed", "cancelled", "terminated")


@pytest.mark.parametrize(
    ("kind", "status"), [(Kind.CANCEL, "cancelled"), (Kind.TERMINATE, "terminated")]
)
def test_a_stopped_saga_is_undone_in_reverse(kind: Kind, status: str) -> None:
    async def waiting() -> None:
        async with workflow.saga() as saga:
            await saga.step("reserve", "o1", undo="release")
            await saga.step("charge", "o1", undo="refund")
            await workflow.sleep(timedelta(days=1))

    world = World(waiting)
    shop = Shop(world)
    world.start("waiting")
    world.settle()
    world.post(kind, {"reason": "stop", "request_id": "x"})
    world.settle()
    assert shop.effects == ["reserve", "charge", "refund", "release"]
    assert world.status() == status


def test_an_undo_is_tried_until_it_works() -> None:
    world, shop = shop_world()
    shop.refusing.add("ship")
    shop.broken.add("refund")
    world.start("booking", "o1")
    for _ in range(20):
        world.settle()
        world.advance(60_000)
    assert world.status() == "compensating"
    shop.broken.clear()
    world.settle()
    world.advance(60_000)
    world.settle()
    assert world.status() == "failed"
    assert shop.effects == ["reserve", "charge", "refund", "release"]


def parked_world() -> tuple[World, Shop, int]:
    """A saga whose refund says a final no: parked, for a person."""
    world, shop = shop_world()
    shop.refusing.update({"ship", "refund"})
    world.start("booking", "o1")
    world.settle()
    assert world.status() == "compensation_failed"
    (parked,) = [event for event in world.events() if isinstance(event, e.StepParked)]
    return world, shop, parked.step


def test_an_undo_that_gives_up_parks_the_run_for_a_person() -> None:
    world, shop, _ = parked_world()
    world.restart()
    world.advance(10 * 24 * 3600 * 1000)
    world.settle()
    assert world.status() == "compensation_failed"
    assert shop.effects == ["reserve", "charge"]


def decide(world: World, step: int, decision: str, reason: str = "") -> None:
    body: dict[str, Any] = {"step": step, "decision": decision, "reason": reason, "by": "ana"}
    world.post(Kind.DECISION, body)
    world.settle()


def test_a_person_has_a_parked_undo_tried_again() -> None:
    world, shop, step = parked_world()
    shop.refusing.clear()
    decide(world, step, "retry")
    assert world.status() == "failed"
    assert shop.effects == ["reserve", "charge", "refund", "release"]


@pytest.mark.parametrize("decision", ["skip", "done"])
def test_a_person_settles_a_parked_undo_with_a_reason(decision: str) -> None:
    world, shop, step = parked_world()
    decide(world, step, decision, "paid back by hand")
    assert world.status() == "failed"
    assert shop.effects == ["reserve", "charge", "release"]
    (unparked,) = [event for event in world.events() if isinstance(event, e.StepUnparked)]
    assert (unparked.decision, unparked.reason, unparked.by) == (
        decision,
        "paid back by hand",
        "ana",
    )


def test_a_decision_without_a_reason_or_about_another_step_is_refused() -> None:
    world, _, step = parked_world()
    decide(world, step, "skip")
    decide(world, step + 1, "retry")
    decide(world, step, "shred", "why not")
    assert world.status() == "compensation_failed"
    rejected = [event for event in world.events() if isinstance(event, e.RequestRejected)]
    assert len(rejected) == 3


def test_after_the_point_of_no_return_the_saga_is_driven_forward() -> None:
    async def committing() -> str:
        async with workflow.saga() as saga:
            await saga.step("reserve", "o1", undo="release")
            saga.commit()
            await saga.step("ship", "o1")
        return "shipped"

    world = World(committing)
    shop = Shop(world)
    shop.broken.add("ship")
    world.start("committing")
    world.settle()
    world.post(Kind.CANCEL, {"reason": "too late", "request_id": "c"})
    for _ in range(10):
        world.advance(60_000)
        world.settle()
    assert world.status() == "running"
    shop.broken.clear()
    world.advance(60_000)
    world.settle()
    assert shop.effects == ["reserve", "ship"]
    assert world.status() in ("completed", "cancelled")


def test_a_failure_that_the_workflow_handles_leaves_the_run_running() -> None:
    async def handled(order: str) -> str:
        try:
            return await booking(order)
        except StepError as error:
            return f"rejected: {error.type}"

    world = World(handled)
    shop = Shop(world)
    shop.refusing.add("charge")
    world.start("handled", "o1")
    world.settle()
    assert world.status() == "completed"
    assert world.result() == "rejected: Refused"
    assert shop.effects == ["reserve", "release"]


def test_a_result_that_could_not_be_kept_is_undone_although_its_failure_is_final() -> None:
    world, shop = shop_world()
    world.start("booking", "o1")
    world.turn()
    world.work()
    world.turn()
    message = world.pop()
    assert message
    world.claim(message)
    shop.effects.append("charge")
    failure: dict[str, Any] = {"type": "ResultTooLarge", "message": "m", "non_retryable": True}
    world.finish(message, {"kind": "failed", "failure": failure, "ran": True})
    world.settle()
    assert shop.effects == ["reserve", "charge", "refund", "release"]


async def by_hand() -> str:
    async with workflow.saga() as saga:
        try:
            await saga.step(
                "charge",
                "o1",
                undo="refund",
                local=True,
                retry=Retry(attempts=9),
                schedule_to_close=timedelta(seconds=8),
            )
        except StepError as error:
            return type(error).__name__
    return "charged"


def test_a_local_attempt_that_its_own_commit_settles_never_runs() -> None:
    """Nobody looks until both the next attempt and the end of the step's time are due."""
    world, shop = shop_world()
    world.deploy(by_hand)
    world.start("by_hand")
    world.turn()
    ((_, done),) = world.node.local.waiting
    world.node.local.waiting.clear()
    done({"kind": "failed", "failure": {"type": "T", "message": "m"}, "ran": False})
    world.node.local_steps.close()
    world.turn()
    world.advance(20_000)
    world.settle()
    ended = ["StepAttemptFailed", "StepRetried", "StepFailed", "RunCompleted"]
    assert world.names()[-4:] == ended, "nothing to undo"
    assert world.result() == "StepTimeout"
    assert not world.node.local.waiting
    assert not shop.effects
