"""RT1 to RT3, RS1, RS2: a run is ended, and the next one goes on from an event of its history."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core import randomness
from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.replay import replay
from orchestrator.core.retry import Retry
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind
from tests.engine.resetting import (
    begin_from,
    check,
    number_of,
    order,
    reset,
    world_of,
)
from tests.engine.test_crashes import Faulty
from tests.engine.world import Node, World


def test_run_is_reset_to_an_input_which_is_given_again() -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    world.signal("approve", "ana")
    world.settle()
    cut = number_of(world, e.StepCompleted)
    reset(world, cut, reason="wrong price", by="bo")
    assert world.names()[-1] == "RunReset"
    assert world.row()["run"] == "2"
    (copied,) = [one for one in world.events("w", 2) if isinstance(one, e.HistoryCopied)]
    assert (copied.id, copied.run, copied.event) == ("w", 1, cut - 1)
    assert (copied.reason, copied.by) == ("wrong price", "bo")
    world.settle()
    world.signal("stars", 5)
    world.settle()
    assert world.result() == ["7", "price 7", "ana", "ship 7", 5]
    assert world.events("w", 2)[: cut - 1] == world.events("w", 1)[: cut - 1]
    # What is kept was not done again, what is dropped was.
    assert [task for task, *_ in world.ran] == ["price", "ship", "ship"]
    check(world)


def test_reset_to_the_first_event_begins_anew_with_the_same_seed() -> None:
    async def chance() -> list[Json]:
        drawn = str(workflow.uuid4())
        await workflow.signal("on")
        return [drawn, workflow.info().run, workflow.info().continued_from]

    world = world_of(chance)
    world.start("chance", memo={"who": "ana"}, run_timeout_ms=60_000)
    world.settle()
    world.advance(50_000)
    reset(world, 1, signals=False)
    first, again = world.events("w", 1)[0], world.events("w", 2)[0]
    assert isinstance(first, e.RunStarted)
    assert isinstance(again, e.RunStarted)
    assert (again.seed, again.memo, again.continued_from) == (first.seed, {"who": "ana"}, 1)
    assert again.at_ms == world.clock.now_ms
    world.advance(50_000)
    world.settle()
    assert world.status() == "running", "its time-out counts anew"
    drawn = str(workflow_uuid(world))
    world.signal("on")
    world.settle()
    assert world.result() == [drawn, 2, 1]
    check(world)


def workflow_uuid(world: World) -> object:
    started = world.events("w", 1)[0]
    assert isinstance(started, e.RunStarted)
    return randomness.uuid4(randomness.stream(started.seed))


def test_event_in_the_middle_of_an_activation_means_the_input_before_it() -> None:
    async def several() -> list[Json]:
        await workflow.signal("go")
        return [*await asyncio.gather(*(workflow.step("slow", n) for n in range(3)))]

    world = world_of(several)
    world.start("several")
    world.settle()
    world.signal("go")
    world.turn()
    second = number_of(world, e.StepScheduled, 2)
    reset(world, second)
    assert world.result() == ["slow 0", "slow 1", "slow 2"]
    kept = [one for one in world.events("w", 2) if isinstance(one, e.HistoryCopied)]
    assert [one.event for one in kept] == [1], "the signal is given again, all three are new"
    check(world)


def test_event_behind_whole_activations_keeps_what_they_ordered() -> None:
    world = world_of(order)
    world.start("order", "7")
    world.turn()
    before = world.pop()
    assert before is not None
    last = number_of(world, e.StepScheduled)
    reset(world, last)
    # The step that was out there keeps its key, so that whoever it acts upon knows it again.
    assert [(task, key) for task, _, key in world.ran] == [("price", before["idempotency_key"])]
    assert before["idempotency_key"] == "w.1.1"
    assert world.claim(before).value == "refused", "the message of the run that ended"
    world.signal("approve", "ana")
    world.settle()
    assert [key for *_, key in world.ran] == ["w.1.1", "w.2.2"]
    check(world)


@pytest.mark.parametrize("kept", [True, False])
def test_later_signals_are_received_again_in_their_order_or_dropped(*, kept: bool) -> None:
    async def listening() -> list[Json]:
        first = await workflow.signal("word")
        return [first, *[await workflow.signal("word") for _ in range(2)]]

    world = world_of(listening)
    world.start("listening")
    world.settle()
    for word in ("a", "b"):
        world.signal("word", word, signal_id=word)
    world.settle()
    at = number_of(world, e.SignalReceived)
    # What lies unread in the inbox behind the request is the next run's as well.
    world.post(Kind.RESET, {"run": 1, "event": at, "signals": kept, "request_id": "q"})
    world.signal("word", "late")
    world.settle()
    # One that the chain has received is known again, also where it was dropped.
    world.signal("word", "b", signal_id="b")
    world.settle()
    if kept:
        assert world.result() == ["a", "b", "late"]
    else:
        assert world.status() == "running"
        world.signal("word", "end")
        world.settle()
        assert world.result() == ["a", "late", "end"]
    check(world)


def test_timers_keep_their_instants_and_retries_go_on() -> None:
    async def waiting() -> list[Json]:
        nap = asyncio.create_task(workflow.sleep(timedelta(hours=1)))
        step = workflow.step.options(
            retry=Retry(attempts=9, initial=timedelta(hours=2), interval_max=timedelta(hours=2))
        )
        tried = asyncio.create_task(step("flaky"))
        await workflow.signal("on")
        await nap
        return [await tried, workflow.now().isoformat()]

    world = world_of(waiting)
    tries = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("not yet")
        return "done"

    world.tasks["flaky"] = flaky
    world.start("waiting")
    world.settle()
    began = world.events()[0].at_ms
    world.signal("on")
    world.settle()
    at = number_of(world, e.SignalReceived)
    reset(world, at)
    # A retry that waited is made at once, under the number that it was to have.
    assert [
        event.attempt for event in world.events("w", 2) if isinstance(event, e.StepRetried)
    ] == [2]
    world.advance(3_600_000 - (world.clock.now_ms - began) - 1)
    world.settle()
    assert world.status() == "running"
    world.advance(1)
    world.settle()
    assert world.status() == "completed"
    check(world)


def test_paused_and_unwanted_steps_are_as_they_were() -> None:
    async def two() -> list[Json]:
        held = asyncio.create_task(workflow.step("slow", 1))
        other = asyncio.create_task(workflow.step.options(cancellation="wait")("slow", 2))
        await workflow.signal("drop")
        other.cancel()
        await workflow.signal("on")
        return [await held, other.cancelled()]

    world = world_of(two)
    world.start("two")
    world.turn()
    messages = [world.pop(), world.pop()]
    assert messages[1] is not None
    world.claim(messages[1])  # So that its cancellation is not its outcome at once.
    world.post(Kind.DECISION, {"step": 1, "decision": "pause", "reason": "wait"})
    world.signal("drop")
    world.turn()
    last = number_of(world, e.StepCancelRequested)
    reset(world, last)
    assert [task for task, *_ in world.ran] == [], "one is held, the other no longer wanted"
    world.post(Kind.DECISION, {"step": 1, "decision": "unpause", "reason": "go"})
    world.signal("on")
    world.settle()
    assert world.result() == ["slow 1", True]
    check(world)


# --- code, crashes -------------------------------------------------------------------------------


def test_run_that_is_blocked_is_reset_and_mended_code_goes_another_way() -> None:
    async def price_twice(number: str) -> list[Json]:
        first = await workflow.step("price", number)
        raise RuntimeError(f"a bug after {first}")

    async def mended(number: str) -> list[Json]:
        first = await workflow.step("price", number)
        return [first, await workflow.step("ship", number)]

    price_twice.__name__ = mended.__name__ = "order"
    world = world_of(price_twice)
    world.start("order", "7")
    world.settle()
    assert world.status() == "blocked"
    world.deploy(mended)
    reset(world, number_of(world, e.StepCompleted))
    assert world.result() == ["price 7", "ship 7"]
    assert "RunBlocked" not in world.names("w", 2)


def test_prefix_that_today_s_code_does_not_fit_is_blocked_and_keeps_everything() -> None:
    async def other(number: str) -> list[Json]:
        return [await workflow.step("ship", number)]

    other.__name__ = "order"
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    world.signal("approve", "ana")
    world.turn()
    at = number_of(world, e.SignalReceived)
    world.deploy(other)
    reset(world, at)
    assert world.status() == "blocked"
    blocked = next(one for one in world.events("w", 2) if isinstance(one, e.RunBlocked))
    assert blocked.kind == "nondeterminism"
    world.deploy(order)
    world.restart()
    world.settle()
    world.signal("stars", 1)
    world.settle()
    assert world.result() == ["7", "price 7", "ana", "ship 7", 1]
    check(world)


def test_new_patches_and_side_effects_are_decided_in_what_is_given_again() -> None:
    async def old() -> list[Json]:
        await workflow.signal("on")
        return ["old", await workflow.step("price", 1)]

    async def new() -> list[Json]:
        await workflow.signal("on")
        if workflow.patched("other"):
            return ["new", workflow.side_effect(lambda: 7)]
        return ["old", await workflow.step("price", 1)]

    old.__name__ = new.__name__ = "turning"
    world = world_of(old)
    world.start("turning")
    world.settle()
    world.signal("on")
    world.settle()
    world.deploy(new)
    begin_from(world, number_of(world, e.SignalReceived))
    assert world.result() == ["new", 7]
    history = world.events("w", 2)
    replay(world.registry["turning"], "w", 2, history).execution.close()


@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("call", ["commit", "read_history"])
def test_owner_that_dies_in_a_reset_is_followed_by_another(
    call: str, at: int, *, happens: bool
) -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    world.signal("approve", "ana", signal_id="a")
    world.settle()
    world.node.close()
    world.nodes = [Node(world, "one", Faulty(world.store, call, at, happens=happens))]
    body: dict[str, Json] = {"run": 1, "event": number_of(world, e.SignalReceived)}
    world.post(Kind.RESET, {**body, "request_id": "q"})
    for _ in range(20):
        try:
            world.node.turn()
        except StoreUnavailable:
            world.restart()
        world.work()
        world.advance(1_000)  # A run whose history could not be read rests for so long.
    world.signal("stars", 3)
    world.settle()
    assert world.names()[-1] == "RunReset"
    assert world.row()["run"] == "2"
    assert world.result() == ["7", "price 7", "ana", "ship 7", 3]
    check(world)


def test_reset_to_an_event_that_was_copied_itself_is_to_the_run_that_made_it() -> None:
    async def telling() -> list[Json]:
        said = [workflow.info().run, await workflow.step("price", workflow.info().run)]
        said.append(await workflow.signal("on"))
        said.append(await workflow.step("ship", workflow.info().run))
        return [*said, await workflow.signal("on")]

    world = world_of(telling)
    world.start("telling")
    world.settle()
    world.signal("on", "a")
    world.settle()
    reset(world, number_of(world, e.SignalReceived), request="a")
    # Of what run 2 has copied the step's result is given again: the order is run 1's all the same.
    reset(world, number_of(world, e.StepCompleted), run=2, request="b")
    world.restart()
    world.settle()
    world.signal("on", "b")
    world.settle()
    assert world.row()["run"] == "3"
    assert world.result() == [1, "price 1", "a", "ship 3", "b"]
    (copied,) = [one for one in world.events("w", 3) if isinstance(one, e.HistoryCopied)]
    assert (copied.id, copied.run) == ("w", 1)
    check(world)


def test_copied_history_survives_eviction_reset_and_reset_again() -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    world.signal("approve", "ana")
    world.settle()
    reset(world, number_of(world, e.StepCompleted), request="a")
    world.restart()
    world.settle()
    copied = world.names("w", 2).index("SignalReceived") + 1
    reset(world, copied, run=2, request="b")
    world.restart()
    world.settle()
    world.signal("stars", 2)
    world.settle()
    assert world.row()["run"] == "3"
    assert world.result() == ["7", "price 7", "ana", "ship 7", 2]
    assert world.names("w", 3).count("HistoryCopied") == 2
    # Three runs have ordered: which step has whose key?
    assert [key for *_, key in world.ran] == ["w.1.1", "w.1.2", "w.2.2", "w.3.2"]
    check(world)


def test_watchers_and_parents_hear_of_the_last_end() -> None:
    async def boss() -> Any:
        return await workflow.child.options(id="w")("order", "7")

    async def reader() -> Any:
        return await workflow.external("w").result()

    world = world_of(order, boss, reader)
    world.start("boss", id="boss")
    world.settle()
    world.start("reader", id="reader")
    world.settle()
    world.signal("approve", "ana")
    world.settle()
    reset(world, number_of(world, e.SignalReceived))
    assert (world.status("boss"), world.status("reader")) == ("running", "running")
    world.signal("stars", 4)
    world.settle()
    expected = ["7", "price 7", "ana", "ship 7", 4]
    assert world.result("boss") == expected
    assert world.result("reader") == expected


def test_attributes_memo_and_state_are_those_of_the_kept_part() -> None:
    async def telling() -> None:
        workflow.upsert_search_attributes({"stage": "one"})
        workflow.publish({"at": 1})
        await workflow.signal("on")
        workflow.upsert_search_attributes({"stage": "two"})
        workflow.publish({"at": 2})
        await workflow.signal("on")
        await workflow.signal("never")

    world = world_of(telling)
    world.start("telling")
    world.settle()
    world.signal("on")
    world.settle()
    assert world.row()["state"] == '{"at":2}'
    reset(world, number_of(world, e.SearchAttributesUpserted), signals=False)
    assert world.row()["attributes"] == '{"stage":"one"}'
    assert world.row()["state"] == '{"at":1}'
    assert "one" in world.row()["indexes"]
    check(world)
