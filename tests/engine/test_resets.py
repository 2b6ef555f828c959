"""RT1 to RT5 and RS1 to RS4: a run goes on from an event of a history, its own or another's."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core import randomness, resetting
from orchestrator.core.errors import ApplicationError
from orchestrator.core.replay import replay
from orchestrator.core.resetting import Origin, start_of
from orchestrator.core.retry import Retry
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind, RunKey
from tests.engine.world import World


async def order(number: str) -> list[Json]:
    said: list[Json] = [number]
    said.append(await workflow.step("price", number))
    said.append(await workflow.signal("approve"))
    said.append(await workflow.step("ship", number))
    said.append(await workflow.signal("stars"))
    return said


async def paid(number: str) -> str:
    async with workflow.saga() as saga:
        await saga.step("reserve", number, undo="release")
        await workflow.signal("go")
        await saga.step("charge", number, undo="refund")
        await workflow.signal("go")
        if await workflow.signal("verdict") == "no":
            raise ApplicationError("no", "Refused")
    return "paid"


def world_of(*functions: Any) -> World:
    world = World(*functions)
    for name in ("price", "ship", "reserve", "release", "charge", "refund", "slow"):
        world.tasks[name] = lambda *args, name=name: f"{name} {args[0] if args else ''}".strip()
    return world


def reset(world: World, event: int, *, run: int = 1, request: str = "q", **said: Json) -> None:
    body: dict[str, Json] = {"run": run, "event": event, "request_id": request, **said}
    world.post(Kind.RESET, body)
    world.settle()


def begin_from(
    world: World, event: int, *, source: str = "w", run: int = 1, id: str = "w", **said: Json
) -> RunKey:
    """Start a run that goes on from a history, as clients do for one that has ended, or a fork."""
    stored = world.store.read_history(RunKey(workflow_id=source, run=run))
    started = world.events(source, run)[0]
    assert isinstance(started, e.RunStarted)
    head = stored[event - 1].head
    changed: Any = said.pop("changed", {})
    signals = bool(said.pop("signals", True))
    origin = Origin(
        id=source, run=run, event=event, head=head, signals=signals, changed=changed, **said
    )
    said = start_of(started)
    key = world.start(str(said.pop("workflow")), id=id, origin=origin.as_json(), **said)
    world.settle()
    return key


def number_of(world: World, kind: type[e.Event], nth: int = 1, **parts: object) -> int:
    found = [
        number
        for number, event in enumerate(world.events(), start=1)
        if isinstance(event, kind) and all(getattr(event, n) == v for n, v in parts.items())
    ]
    return found[nth - 1]


def check(world: World, *ids: str) -> None:
    """Every history of these ids holds, and replays to nothing more."""
    for id in ids or ("w",):
        for run in range(1, int(world.row(id)["run"]) + 1):
            world.check_chain(id, run)
            history = world.events(id, run)
            started = history[0]
            assert isinstance(started, e.RunStarted)
            replayed = replay(world.registry[started.workflow], id, run, history)
            assert replayed.pending == []
            replayed.execution.close()


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


# --- sagas ---------------------------------------------------------------------------------------


def paid_until_charged() -> World:
    world = world_of(paid)
    world.start("paid", "7")
    world.settle()
    world.signal("go")
    world.settle()
    return world


def refusal(world: World) -> str:
    assert world.row()["run"] == "1"
    last = world.events()[-1]
    assert isinstance(last, e.RequestRejected)
    assert last.request == "reset"
    return last.reason


def test_effects_that_nobody_would_undo_are_not_dropped_in_silence() -> None:
    world = paid_until_charged()
    at = number_of(world, e.SignalReceived)
    reset(world, at, request="a")
    assert "step 2 charge" in refusal(world)
    assert "despite_effects" in refusal(world)
    reset(world, at, request="b", despite_effects=True)
    assert world.row()["run"] == "2"
    assert [task for task, *_ in world.ran] == ["reserve", "charge", "charge"]
    check(world)


def test_saga_undoes_what_was_kept_under_the_keys_it_was_done_under() -> None:
    world = paid_until_charged()
    at = number_of(world, e.StepCompleted, 2)
    undone: list[Any] = []
    reset(world, at)
    world.signal("go")
    world.signal("verdict", "no")
    while True:
        world.turn()
        message = world.pop()
        if message is None:
            break
        if message["compensates"]:
            undone.append((message["task"], message["compensates"], message["idempotency_key"]))
        world.claim(message)
        world.finish(message, world.run_body(message))
    assert world.status() == "failed"
    # Both steps were ordered by run 1; their undoing is ordered by run 2.
    assert undone == [("refund", "w.1.2", "w.2.3"), ("release", "w.1.1", "w.2.4")]
    check(world)


def test_what_was_undone_is_not_kept_as_done() -> None:
    world = paid_until_charged()
    world.signal("go")
    world.signal("verdict", "no")
    world.settle()
    assert world.status() == "failed"
    with pytest.raises(Exception, match="step 1 reserve, which is kept, was undone since"):
        check_cut(world, number_of(world, e.SignalReceived))
    check_cut(world, 1)
    begin_from(world, 1)
    assert [task for task, *_ in world.ran] == ["reserve", "charge", "refund", "release", "reserve"]


def check_cut(world: World, event: int, *, is_fork: bool = False) -> None:
    cut = resetting.cut_at(world.events(), event)
    resetting.check(cut, is_fork=is_fork, despite_effects=False)


def test_run_that_undoes_a_saga_is_not_reset() -> None:
    world = paid_until_charged()
    world.signal("go")
    world.signal("verdict", "no")
    world.tasks["refund"] = lambda *_: 1 // 0
    world.settle()
    assert world.status() == "compensating"
    reset(world, 1, despite_effects=True)
    assert "undoes a saga" in refusal(world)


# --- what cannot be ------------------------------------------------------------------------------


async def asking() -> str:
    child = asyncio.create_task(workflow.child("order", "1"))
    await workflow.signal("on")
    return str(await child)


async def locking() -> str:
    async with workflow.mutex("door"):
        await workflow.signal("on")
        await workflow.signal("off")
    return "out"


async def calling() -> str:
    heard = asyncio.create_task(workflow.external("order-1").result())
    await workflow.signal("on")
    return str(await heard)


@pytest.mark.parametrize(
    ("function", "what"),
    [(asking, "a child"), (locking, "a permit"), (calling, "an answer of another run")],
)
def test_what_waits_for_an_answer_of_elsewhere_cannot_be_kept(function: Any, what: str) -> None:
    world = world_of(function, order)
    world.start("order", "1", id="order-1")
    world.start(function.__name__)
    world.settle()
    world.signal("on")
    world.settle()
    at = number_of(world, e.SignalReceived)
    reset(world, at)
    assert f"has {what} outstanding" in refusal(world)
    # From the beginning it can: it asks again.
    reset(world, 1, request="other", signals=False)
    assert world.row()["run"] == "2"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"event": 99}, "there is no event 99: the history has 3"),
        ({"event": 0}, "there is no event 0"),
        ({"event": "first"}, "it names no event"),
        ({"event": 1, "run": 4}, "run 4 was to be reset; run 1 goes on for it"),
    ],
)
def test_nonsense_changes_nothing_and_says_why(said: dict[str, Json], why: str) -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    world.post(Kind.RESET, {"run": 1, "request_id": "q", **said})
    world.settle()
    last = world.events()[-1]
    assert isinstance(last, e.RequestRejected)
    assert why in last.reason
    assert last.request_id == "q"
    assert world.status() == "running"


def test_the_same_request_again_changes_nothing() -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    reset(world, 2)
    reset(world, 2)
    assert world.row()["run"] == "2"
    assert "RequestRejected" not in world.names("w", 2)


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


def test_owner_that_dies_after_the_reset_leaves_the_next_run_to_another() -> None:
    world = world_of(order)
    world.start("order", "7")
    world.settle()
    world.signal("approve", "ana")
    world.settle()
    world.post(
        Kind.RESET, {"run": 1, "event": number_of(world, e.SignalReceived), "request_id": "q"}
    )
    world.node.turn()
    assert world.names()[-1] == "RunReset"
    assert (world.row()["run"], world.status()) == ("2", "pending")
    world.restart()
    world.settle()
    world.signal("stars", 3)
    world.settle()
    assert world.result() == ["7", "price 7", "ana", "ship 7", 3]
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


# --- runs that have ended, and forks -------------------------------------------------------------


async def named(word: str) -> list[Json]:
    about = workflow.info()
    first = await workflow.step("price", f"{about.workflow_id} {about.run}")
    said = await workflow.signal("on")
    later = workflow.info()
    return [word, first, said, f"{later.workflow_id} {later.run}"]


def ended() -> World:
    world = world_of(named)
    world.start("named", "x")
    world.settle()
    world.signal("on", 1)
    world.settle()
    assert world.result() == ["x", "price w 1", 1, "w 1"]
    return world


def test_run_that_has_ended_is_followed_by_one_that_goes_on_from_an_event() -> None:
    world = ended()
    begin_from(world, number_of(world, e.SignalReceived))
    assert world.result() == ["x", "price w 1", 1, "w 2"]
    assert world.status() == "completed"
    check(world)


def test_fork_goes_on_under_another_id_and_leaves_the_first_alone() -> None:
    world = ended()
    before = world.events()
    begin_from(world, number_of(world, e.SignalReceived), id="other", signals=False)
    # What was kept was done as run 1 of "w"; what follows is the fork's own.
    assert world.result("other") == ["x", "price w 1", 1, "other 1"]
    assert world.events() == before
    world.restart()
    world.settle()
    check(world, "w", "other")


def test_fork_with_another_payload_and_with_another_input() -> None:
    world = ended()
    at = number_of(world, e.SignalReceived)
    begin_from(world, at, id="two", changed={"payload": 2})
    assert world.result("two") == ["x", "price w 1", 2, "two 1"]
    begin_from(world, at, id="three", changed={"args": ["y"], "payload": 3})
    assert world.result("three") == ["y", "price w 1", 3, "three 1"]
    begin_from(world, 1, id="four", changed={"args": ["z"]}, signals=True)
    assert world.result("four") == ["z", "price four 1", 1, "four 1"]
    check(world, "w", "two", "three", "four")


def test_fork_does_not_undo_what_the_other_run_would_undo() -> None:
    world = paid_until_charged()
    at = number_of(world, e.StepCompleted, 2)
    with pytest.raises(Exception, match="step 1 reserve, step 2 charge, which either run would"):
        check_cut(world, at, is_fork=True)
    check_cut(world, 1, is_fork=True)


def test_origin_that_is_not_there_ends_the_run_with_that_reason() -> None:
    world = ended()
    stored = world.store.read_history(RunKey(workflow_id="w", run=1))
    for source, head in (("nobody", stored[2].head), ("w", "0" * 64)):
        origin = Origin(id=source, run=1, event=3, head=head, signals=True)
        id = world.start("named", "x", id=f"from-{source}", origin=origin.as_json()).workflow_id
        world.settle()
        assert world.status(id) == "terminated"
        last = world.events(id)[-1]
        assert isinstance(last, e.RunTerminated)
        assert f"it cannot go on from run 1 of {source}" in last.reason


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
