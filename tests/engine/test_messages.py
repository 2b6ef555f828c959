"""Messages between runs, and updates, where the orchestrator's part of them is at stake."""

import asyncio
import contextlib
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ForbiddenInWorkflow
from orchestrator.core.limits import INLINE_BYTES_MAX, PAYLOAD_BYTES_MAX
from orchestrator.core.values import Json
from orchestrator.core.with_start import with_start
from orchestrator.engine.externals import answer_undelivered
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind, Letter, Posted, PostedAnswer
from tests.engine.world import Node, World
from tests.parity.test_signal import listener, pair, reader, sender

ASKER: dict[str, Json] = {"workflow": "w", "run": 1, "external": 1}


class Held:
    """A store whose letters are not found as long as they are held."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.is_holding = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read_letters(self, partition: int, *, count: int) -> list[tuple[str, Letter]]:
        return [] if self.is_holding else self._store.read_letters(partition, count=count)


@pytest.mark.parametrize("asks", ["sender", "reader"])
def test_what_is_taken_after_the_end_that_it_raced_with_is_answered(asks: str) -> None:
    world = World(listener, sender, reader)
    held = Held(world.store)
    world.nodes = [Node(world, "one", held)]
    world.start("listener", id="other")
    world.start(asks, "other", *(["late"] if asks == "sender" else []))
    world.settle()
    # The end lies in the inbox, and then the letter: the run takes the first one.
    world.signal("say", "end", id="other")
    held.is_holding = False
    world.node.owner.doubt()
    world.settle()
    late = ["closed", 1, "other run 1 has ended: it takes no more messages"]
    assert world.result() == (late if asks == "sender" else [])
    assert list(world.store.rejected) == []


def test_a_letter_that_its_run_has_recorded_gets_no_second_answer() -> None:
    world = pair()
    world.start("sender", "other", "end")
    world.settle()
    recorded = "w.1.external-1"
    closed = Posted(answer=PostedAnswer.CLOSED, run=1, status="completed")
    for signal_id, has_answer in ((recorded, False), ("another", True)):
        body: dict[str, Json] = {"signal": "say", "signal_id": signal_id, "asker": ASKER}
        letter = Letter(kind=Kind.SIGNAL, workflow_id="other", body=body)
        answer = answer_undelivered(world.store, letter, closed)
        assert (answer is not None) is has_answer


def test_an_answer_that_no_question_waits_for_leaves_no_trace() -> None:
    world = pair()
    world.start("reader", "other")
    world.settle()
    before = world.names()
    world.post(Kind.EXTERNAL, {"external": 9, "run": 1, "status": "delivered"})
    world.settle()
    assert world.names() == before


def test_who_asks_twice_is_told_once() -> None:
    world = pair()
    for _ in range(2):
        world.post(Kind.WATCH, {"asker": ASKER}, id="other")
        world.settle()
    assert world.names("other").count("WatcherAdded") == 1


def test_a_payload_beyond_its_bound_blocks_who_sends_it() -> None:
    async def shouting() -> None:
        await workflow.external("other").signal("say", "x" * PAYLOAD_BYTES_MAX)

    world = pair()
    world.deploy(shouting)
    world.start("shouting")
    world.settle()
    assert world.status() == "blocked"
    assert "limit: signal 'say'" in world.row()["blocked"]


def test_a_large_result_comes_whole_to_who_waits_for_it_and_to_an_update() -> None:
    large = "x" * (INLINE_BYTES_MAX + 1)

    async def generous() -> list[str]:
        @workflow.on_update("give")
        def give() -> str:
            return large

        await workflow.signal("end")
        return [large]

    world = World(generous, reader)
    world.start("generous", id="other")
    world.start("reader", "other")
    world.update("give", id="other")
    world.settle()
    world.restart()
    world.signal("end", id="other")
    world.settle()
    assert len(world.blobs.values) == 2
    (completed,) = (one for one in world.events() if isinstance(one, e.ExternalCompleted))
    assert isinstance(completed.result, dict)  # by reference
    assert world.status() == "completed"
    assert list(world.blobs.values.values())[-1] == [large]
    assert world.names("other").count("UpdateCompleted") == 1


def test_a_validator_that_swallows_its_refusal_has_not_got_away_with_it() -> None:
    async def sly() -> str:
        def orders(number: int) -> None:
            with contextlib.suppress(ForbiddenInWorkflow):
                asyncio.create_task(workflow.sleep(number))  # noqa: RUF006 - it is refused

        @workflow.on_update("go", validator=orders)
        def go(number: int) -> int:
            return number

        await workflow.signal("end")
        return "ended"

    world = World(sly)
    world.start("sly")
    world.settle()
    world.update("go", 1)
    world.settle()
    (rejected,) = (one for one in world.events() if isinstance(one, e.UpdateRejected))
    assert rejected.reason == "its validator did more than read"
    assert len(world.node.owner.cache) == 0  # and nothing of it is kept in memory
    world.signal("end")
    world.settle()
    assert world.result() == "ended"


async def done_soon() -> None:
    await workflow.signal("go")


@pytest.mark.parametrize("policy", ["allow_duplicate", "reject_duplicate"])
def test_signal_with_a_start_whose_run_ends_first_starts_another_or_is_rejected(
    policy: str,
) -> None:
    world = World(done_soon)
    world.start("done_soon")
    world.settle()
    # Both are in before the run ends: the first one ends it, and the second one is too late.
    world.signal("go")
    start: dict[str, Json] = {"workflow": "done_soon", "args": [], "kwargs": {}}
    if policy != "allow_duplicate":
        start["id_reuse_policy"] = policy
    both = with_start("other", start, {"signal": "go", "signal_id": "late", "payload": None})
    world.store.start("w", request_id="other", body=both.start, message=(Kind.SIGNAL, both.message))
    world.settle()
    rejected = [fields["signal_id"] for fields in world.store.rejected]
    is_allowed = policy == "allow_duplicate"
    assert (world.row()["run"], rejected) == (("2", []) if is_allowed else ("1", ["late"]))
    assert world.status() == "completed"
