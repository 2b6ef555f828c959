"""Permits of a key: never more holders than the limit, first come first served, none is lost.

The runs live in different partitions: what they say to a key, and it to them, survives the death of
the orchestrator at every call.
"""

import asyncio
import random
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.errors import ApplicationError
from orchestrator.core.ledger import Ledger
from orchestrator.core.values import Json
from orchestrator.engine.permits import TO_KEYS, deliver_to_key
from orchestrator.store.keys import partition_of
from orchestrator.store.ports import Kind, Letter
from tests.engine.test_crashes import Faulty
from tests.engine.world import Node, World

KEY = "account-42"


async def guarded(key: str = KEY) -> int:
    async with workflow.mutex(key) as permit:
        await workflow.signal("leave")
        return permit.fence


async def pooled(limit: int) -> int:
    async with workflow.semaphore("pool", limit=limit) as permit:
        await workflow.signal("leave")
        return permit.fence


def permits_world(*functions: Any) -> World:
    return World(guarded, pooled, *functions)


def holders(world: World, key: str = KEY) -> list[str]:
    return [grant.holder.workflow_id for grant in world.store.read_permits(key).holders]


def waiters(world: World, key: str = KEY) -> list[str]:
    return [holder.workflow_id for holder in world.store.read_permits(key).waiters]


def is_forgotten(world: World, key: str = KEY) -> bool:
    state = world.store.read_permits(key)
    return not state.holders and not state.waiters and state.limit == 0


def test_the_runs_of_these_tests_live_apart() -> None:
    assert len({partition_of(id, 4) for id in ("a", "b", "c")}) == 3


def test_a_mutex_lets_one_run_in_at_a_time_in_the_order_of_asking() -> None:
    world = permits_world()
    for id in ("a", "b", "c"):
        world.start("guarded", id=id)
        world.settle()
    assert (holders(world), waiters(world)) == (["a"], ["b", "c"])
    for id in ("a", "b", "c"):
        assert holders(world) == [id]
        world.signal("leave", id=id)
        world.settle()
        assert world.status(id) == "completed"
    fences = [int(str(world.result(id))) for id in ("a", "b", "c")]
    assert fences == sorted(set(fences))
    assert world.names("b") == [
        "RunStarted",
        "PermitRequested",
        "PermitGranted",
        "SignalReceived",
        "PermitReleased",
        "RunCompleted",
    ]
    assert is_forgotten(world)


def test_a_semaphore_lets_as_many_in_as_the_latest_request_says() -> None:
    world = permits_world()
    for id, limit in (("a", 2), ("b", 2), ("c", 2), ("d", 3), ("e", 1)):
        world.start("pooled", limit, id=id)
        world.settle()
    assert holders(world, "pool") == ["a", "b", "c"]
    for id in ("a", "b"):
        world.signal("leave", id=id)
        world.settle()
    assert (holders(world, "pool"), waiters(world, "pool")) == (["c"], ["d", "e"])


@pytest.mark.parametrize("end", ["signal", "cancel", "terminate"])
@pytest.mark.parametrize("which", ["holder", "waiter"])
def test_whoever_ends_gives_back_what_he_has_or_waits_for(which: str, end: str) -> None:
    world = permits_world()
    for id in ("a", "b", "c"):
        world.start("guarded", id=id)
        world.settle()
    gone = "a" if which == "holder" else "b"
    if end == "signal":
        world.signal("leave", id=gone)
    else:
        kind = Kind.CANCEL if end == "cancel" else Kind.TERMINATE
        world.post(kind, {"reason": "enough", "request_id": "r"}, id=gone)
    world.settle()
    if which == "waiter":
        assert holders(world) == ["a"]
        world.signal("leave", id="a")
        world.settle()
    assert world.status("c") == "running"
    if (which, end) == ("waiter", "signal"):
        assert world.status("b") == "completed"
    assert holders(world) == (["b"] if which == "holder" else ["c"])


async def careless(how: str) -> None:
    """Ends while a task of its own is in the block."""
    entered = asyncio.Event()

    async def inside() -> None:
        async with workflow.mutex(KEY):
            entered.set()
            await workflow.signal("never")

    background = [asyncio.create_task(inside())]
    await entered.wait()
    await workflow.signal("end")
    if how == "fail":
        raise ApplicationError("no")
    if how == "again":
        workflow.continue_as_new("again")
    background.clear()


@pytest.mark.parametrize("how", ["return", "fail", "again"])
def test_a_permit_goes_on_however_its_run_ends(how: str) -> None:
    world = World(guarded, careless)
    world.start("careless", how, id="a")
    world.settle()
    world.start("guarded", id="b")
    world.settle()
    assert holders(world) == ["a"]
    world.signal("end", id="a")
    world.settle()
    assert holders(world) == ["b"]


CALLS = [
    "commit",
    "post",
    "request_permit",
    "release_permit",
    "note_told",
    "read_letters",
    "ack_letters",
    "take_inbox",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("restarts", [False, True], ids=["goes on", "dies"])
def test_permits_survive_a_lost_answer_and_a_death_at_every_call(
    call: str, *, happens: bool, restarts: bool
) -> None:
    for at in range(1, 16):
        world = permits_world()
        faulty = Faulty(world.store, call, at, happens=happens)
        world.nodes = [Node(world, "one", faulty)]

        def settle(world: World = world) -> None:
            world.settle()
            if restarts:
                world.restart()
                world.settle()

        for id in ("a", "b", "c"):
            world.start("guarded", id=id)
            settle()
        for id in ("a", "b", "c"):
            assert holders(world) == [id], at
            world.signal("leave", id=id)
            settle()
        for id in ("a", "b", "c"):
            assert world.status(id) == "completed", at
            assert world.names(id).count("PermitGranted") == 1, at
            world.check_chain(id)
        assert is_forgotten(world)
        world.close()


def test_a_request_delivered_again_behind_its_release_keeps_nobody_waiting() -> None:
    world = permits_world()
    world.start("guarded", id="a")
    world.settle()
    world.signal("leave", id="a")
    world.start("pooled", 1, id="b")
    world.settle()
    # What an owner does that was suspended with the letter in its hands.
    for run in ("a", "b"):
        deliver_to_key(world.store, request_of(run, KEY))
    world.settle()
    assert is_forgotten(world)
    world.start("guarded", id="c")
    world.settle()
    assert holders(world) == ["c"]
    assert world.names("b") == ["RunStarted", "PermitRequested", "PermitGranted"]
    world.check_chain("b")


def request_of(id: str, key: str, number: int = 9) -> Letter:
    body: dict[str, Json] = {"key": key, "permit": number, "kind": "permit", "limit": 1}
    return Letter(kind=Kind.PERMIT_REQUEST, workflow_id=id, run=1, body=body)


@pytest.mark.parametrize("call", ["commit", "release_permit", "post", "discard", "note_told"])
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
def test_a_permit_that_came_too_late_goes_on_although_its_owner_dies(
    call: str, *, happens: bool
) -> None:
    world = permits_world()
    world.start("guarded", "other", id="a")
    world.settle()
    world.nodes[0].close()
    world.clock.advance(10_000)
    world.nodes = [Node(world, "shaky", Faulty(world.store, call, 1, happens=happens))]
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "t"}, id="a")
    # Told while the run is open; taken behind its end.
    deliver_to_key(world.store, request_of("a", KEY))
    world.settle()
    world.restart()
    world.settle()
    assert world.status("a") == "terminated"
    assert is_forgotten(world)
    assert is_forgotten(world, "other")


async def handing_over() -> None:
    workflow.continue_as_new(KEY, workflow="guarded")


def test_a_permit_of_a_run_that_was_continued_is_not_taken_by_the_run_that_goes_on() -> None:
    world = permits_world(handing_over)
    world.start("guarded", id="b")
    world.settle()
    world.start("handing_over", id="a")
    world.settle()
    assert (world.row("a")["run"], holders(world), waiters(world)) == ("2", ["b"], ["a"])
    deliver_to_key(world.store, request_of("a", "other", number=1))
    world.settle()
    assert is_forgotten(world, "other")
    assert world.names("a", run=2) == ["RunStarted", "PermitRequested"]
    world.signal("leave", id="b")
    world.settle()
    assert holders(world) == ["a"]
    assert world.names("a", run=2) == ["RunStarted", "PermitRequested", "PermitGranted"]


class Watched:
    """Notes, at each step of a world, who says that he is inside."""

    def __init__(self, world: World, limit: int) -> None:
        self._world = world
        self._limit = limit
        self.entered: list[str] = []

    def look(self, ids: list[str]) -> None:
        inside = []
        for id in ids:
            ledger = Ledger()
            for event in self._world.events(id):
                ledger.apply(event)
            held = [entry for entry in ledger.permits.values() if entry.is_granted]
            if held:
                inside.append(id)
                if id not in self.entered:
                    self.entered.append(id)
        assert len(inside) <= self._limit, inside


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_no_more_than_the_limit_are_inside_and_all_get_in(seed: int) -> None:
    rng = random.Random(seed)
    limit = rng.randint(1, 3)
    world = permits_world()
    watched = Watched(world, limit)
    open_ids: list[str] = []
    asked: list[str] = []
    ended: set[str] = set()
    for step in range(60):
        what = rng.choice(["start", "start", "leave", "cancel", "terminate", "restart", "turn"])
        if what == "start" and len(asked) < 20:
            id = f"run-{step}"
            world.start("pooled", limit, id=id)
            asked.append(id)
            open_ids.append(id)
            world.settle()
        elif what in ("leave", "cancel", "terminate") and open_ids:
            id = rng.choice(open_ids)
            if what == "leave":
                world.signal("leave", id=id)
            else:
                kind = Kind.CANCEL if what == "cancel" else Kind.TERMINATE
                world.post(kind, {"reason": "chance", "request_id": f"r{step}"}, id=id)
                open_ids.remove(id)
                ended.add(id)
        elif what == "restart":
            world.restart()
        else:
            world.nodes[0].try_turn()
        watched.look(asked)
    for id in asked:
        world.signal("leave", id=id)
    for _ in range(60):
        world.nodes[0].try_turn()
        watched.look(asked)
    world.settle()
    assert {world.status(id) for id in asked if id not in ended} <= {"completed"}
    assert is_forgotten(world, "pool")
    for id in asked:
        world.check_chain(id)
    entered = [id for id in asked if id in watched.entered and id not in ended]
    assert [id for id in watched.entered if id not in ended] == entered, "first come, first served"


@pytest.mark.parametrize("seed", range(15))
def test_letters_that_are_delivered_again_late_let_nobody_in_twice(seed: int) -> None:
    """Two owners share the partitions; whatever was a letter once may be delivered once more."""
    rng = random.Random(seed)
    world = permits_world()
    world.nodes.append(Node(world, "two"))
    watched = Watched(world, 2)
    letters: list[Letter] = []
    read_letters = world.store.read_letters

    def noted(partition: int, *, count: int) -> list[tuple[str, Letter]]:
        found = read_letters(partition, count=count)
        letters.extend(letter for _, letter in found)
        return found

    world.store.read_letters = noted  # type: ignore[method-assign]
    asked = [f"run-{number}" for number in range(10)]
    for id in asked:
        world.start("pooled", 2, id=id)
        world.settle()
    for step in range(120):
        again = rng.choice(letters)
        if again.kind in TO_KEYS and rng.random() < 0.5:
            deliver_to_key(world.store, again)
        if rng.random() < 0.3:
            world.signal("leave", id=rng.choice(asked))
        if rng.random() < 0.05:
            body: dict[str, Json] = {"reason": "chance", "request_id": f"r{step}"}
            world.post(Kind.TERMINATE, body, id=rng.choice(asked))
        rng.choice(world.nodes).try_turn()
        watched.look(asked)
    for id in asked:
        world.signal("leave", id=id)
    for _ in range(100):
        rng.choice(world.nodes).try_turn()
        watched.look(asked)
    world.settle()
    assert {world.status(id) for id in asked} <= {"completed", "terminated"}
    assert is_forgotten(world, "pool")
    for id in asked:
        assert world.names(id).count("PermitGranted") <= 1
        world.check_chain(id)


async def later() -> None:
    await workflow.signal("begin")
    async with workflow.mutex(KEY):
        await workflow.signal("leave")


def test_an_owner_that_slept_over_the_request_does_not_give_the_permit_back() -> None:
    world = World(later)
    world.start("later", id="a")
    world.settle()
    asleep, awake = world.nodes[0], Node(world, "two")
    world.clock.advance(10_000)
    awake.turn()
    world.signal("begin", id="a")
    awake.turn()
    assert holders(world) == ["a"]
    assert world.names("a")[-1] == "PermitRequested", "the grant lies in the inbox"
    # It still thinks that the run, which it has in memory, asked for nothing.
    asleep.owner.cycle(block_ms=0)
    asleep.owner.cycle(block_ms=0)
    assert holders(world) == ["a"]
    world.nodes = [awake]
    world.clock.advance(10_000)  # Until the other one no longer counts for the fair shares.
    world.settle()
    assert world.names("a")[-1] == "PermitGranted"
    assert holders(world) == ["a"]


async def inside_and_on() -> None:
    async with workflow.mutex(KEY):
        await workflow.signal("leave")
        workflow.continue_as_new()


def test_who_continues_as_new_inside_his_block_asks_again_behind_the_others() -> None:
    world = permits_world(inside_and_on)
    world.start("inside_and_on", id="a")
    world.settle()
    world.start("guarded", id="b")
    world.settle()
    world.signal("leave", id="a")
    world.settle()
    assert (holders(world), waiters(world)) == (["b"], ["a"])
    assert world.names("a")[-2:] == ["PermitReleased", "RunContinuedAsNew"]


def test_a_blocked_run_keeps_its_permit_until_it_is_ended() -> None:
    world = permits_world()
    for id in ("a", "b"):
        world.start("guarded", id=id)
        world.settle()

    async def guarded(key: str = KEY) -> int:
        return int(await workflow.step("another"))

    world.deploy(guarded)
    world.restart()
    world.signal("leave", id="a")
    world.settle()
    assert (world.status("a"), holders(world), waiters(world)) == ("blocked", ["a"], ["b"])
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "t"}, id="a")
    world.settle()
    assert (world.status("a"), holders(world)) == ("terminated", ["b"])


async def undoing() -> None:
    async with workflow.mutex(KEY), workflow.saga() as saga:
        await saga.step("do", undo="undo")
        await workflow.signal("leave")


def test_a_terminated_run_keeps_its_permit_until_its_compensations_are_through() -> None:
    world = permits_world(undoing)
    world.tasks.update(do=lambda: None, undo=lambda: None)
    for workflow_name, id in (("undoing", "a"), ("guarded", "b")):
        world.start(workflow_name, id=id)
        world.settle()
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "t"}, id="a")
    world.turn()
    assert (world.status("a"), holders(world)) == ("compensating", ["a"])
    world.settle()
    assert (world.status("a"), holders(world)) == ("terminated", ["b"])
