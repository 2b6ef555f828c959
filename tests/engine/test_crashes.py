"""The rows of the crash table that are aimed at one point of the owner's cycle (P1, P2, P6).

The store is stopped just before, or just after, the call in question; the process that made it is
then gone, or never learns of the answer.
"""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.errors import StoreUnavailable
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import CommitResult, Kind
from tests.engine.world import Node, World


async def flow() -> list[Any]:
    first = await workflow.step("job", 1)
    said = await workflow.signal("say")
    return [first, said, await workflow.step("job", 2)]


def flow_world() -> World:
    world = World(flow)
    world.tasks["job"] = lambda number: number * 10
    return world


class Faulty:
    """A store of which one call, the `at`-th of a name, gets no answer."""

    def __init__(self, store: MemoryStore, name: str, at: int, *, happens: bool) -> None:
        self._store = store
        self._name = name
        self._at = at
        self._happens = happens
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        return self._watched(value) if name == self._name else value

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls != self._at:
                return call(*args, **kwargs)
            if self._happens:
                call(*args, **kwargs)
            raise StoreUnavailable(self._name, "no answer")

        return watched


class Unsure(Faulty):
    """A store of which one commit may or may not have been carried out, as far as it tells."""

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(commits: Any) -> Any:
            self.calls += 1
            if self.calls != self._at:
                return call(commits)
            if self._happens:
                call(commits)
            return [None] * len(commits)

        return watched


def finish(world: World) -> None:
    world.settle()
    world.signal("say", "hello", signal_id="s1")
    world.settle()


def check(world: World) -> None:
    assert world.result() == [10, "hello", 20]
    assert world.names() == [
        "RunStarted",
        "StepScheduled",
        "StepCompleted",
        "SignalReceived",
        "StepScheduled",
        "StepCompleted",
        "RunCompleted",
    ]
    world.check_chain()
    assert world.store.take_inbox(dict.fromkeys(range(4), "0"), count=10, block_ms=0) in (
        {},
        {p: [] for p in range(4)},
    )


@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
def test_an_owner_that_gets_no_answer_to_a_commit_reads_again_and_goes_on(
    at: int, *, happens: bool
) -> None:
    world = flow_world()
    store = Faulty(world.store, "commit", at, happens=happens)
    world.nodes = [Node(world, "shaky", store)]
    world.start("flow")
    finish(world)
    check(world)
    assert store.calls >= at


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
def test_an_owner_that_dies_at_a_commit_is_followed_by_another(at: int, *, happens: bool) -> None:
    world = flow_world()
    world.nodes = [Node(world, "doomed", Faulty(world.store, "commit", at, happens=happens))]
    world.start("flow")
    world.signal("say", "hello", signal_id="s1")
    for _ in range(50):
        try:
            world.nodes[0].turn()
        except StoreUnavailable:
            world.restart()
        world.work()
    world.settle()
    assert world.result() == [10, "hello", 20]
    world.check_chain()
    assert [task for task, _, _ in world.ran] == ["job", "job"]


@pytest.mark.parametrize("name", ["take_inbox", "sweep", "renew_leases", "read_history"])
def test_no_answer_to_a_read_costs_nothing(name: str) -> None:
    for at in range(1, 4):
        world = flow_world()
        world.nodes = [Node(world, "shaky", Faulty(world.store, name, at, happens=False))]
        world.start("flow")
        finish(world)
        check(world)


def test_a_commit_whose_answer_is_unknown_is_not_repeated() -> None:
    world = flow_world()
    commit = world.store.commit
    unknown: list[int] = []

    def forgetful(commits: Any) -> list[CommitResult | None]:
        results = commit(commits)
        if len(unknown) < 3:
            unknown.append(len(results))
            return [None] * len(results)
        return results

    world.store.commit = forgetful  # type: ignore[method-assign]
    world.start("flow")
    finish(world)
    check(world)
    assert unknown


async def parent() -> Any:
    return await workflow.child("flow", id="child")


@pytest.mark.parametrize("answer", [CommitResult.CONFLICT, None], ids=["sent twice", "unknown"])
def test_letters_of_a_commit_that_was_not_known_to_succeed_are_delivered(
    answer: CommitResult | None,
) -> None:
    world = flow_world()
    world.deploy(parent)
    commit = world.store.commit
    with_letters: list[str] = []

    def forgetful(commits: Any) -> list[CommitResult | None]:
        results = commit(commits)
        found = [str(one.key) for _, one in commits if one.letters]
        with_letters.extend(found)
        # 1. committed; 2. the answer lost, and the commit sent again: a conflict with itself.
        return [answer] * len(results) if found else results

    world.store.commit = forgetful  # type: ignore[method-assign]
    world.start("parent")
    world.settle()
    world.signal("say", "hello", id="child", signal_id="s1")
    world.settle()
    assert with_letters == ["w.1", "child.1"]
    assert world.result() == [10, "hello", 20]


def test_a_stale_owner_writes_nothing() -> None:
    world = flow_world()
    world.start("flow")
    world.settle()
    stale = world.nodes[0]
    world.restart()
    world.turn()
    before = world.names()
    # The old owner wakes up, finds the signal, and does not know that it lost its lease.
    world.signal("say", "hello", signal_id="s1")
    stale.owner.cycle(block_ms=0)
    assert world.names() == before
    assert not stale.leases.tokens or stale.owner.cycle(block_ms=0) == 0
    world.settle()
    check(world)


def test_two_orchestrators_share_the_partitions_and_drive_every_run() -> None:
    world = flow_world()
    world.nodes.append(Node(world, "two"))
    for number in range(12):
        world.start("flow", id=f"w{number}")
    world.settle()
    world.clock.advance(500)
    world.settle()
    held = [set(node.leases.tokens) for node in world.nodes]
    assert [len(partitions) for partitions in held] == [2, 2]
    assert not held[0] & held[1]
    for number in range(12):
        world.signal("say", "hello", id=f"w{number}")
    world.settle()
    assert {world.status(f"w{number}") for number in range(12)} == {"completed"}


def test_a_clean_stop_hands_over_at_once() -> None:
    world = flow_world()
    world.start("flow")
    world.settle()
    world.nodes[0].leases.release_all()
    world.nodes = [Node(world, "next")]
    finish(world)
    check(world)


def test_a_start_that_is_repeated_after_a_lost_answer_starts_one_run() -> None:
    world = flow_world()
    body: dict[str, Any] = {"workflow": "flow", "args": [], "kwargs": {}}
    first = world.store.start("w", request_id="r", body=body)
    again = world.store.start("w", request_id="r", body=body)
    assert first.run == again.run == 1
    finish(world)
    check(world)


def test_what_arrives_while_no_orchestrator_lives_waits_for_one() -> None:
    world = flow_world()
    node = world.nodes.pop()
    world.start("flow")
    world.signal("say", "hello", signal_id="s1")
    world.settle()
    assert world.names() == []
    world.nodes.append(node)
    world.settle()
    assert world.result() == [10, "hello", 20]


def test_a_poisoned_run_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world = flow_world()
    world.start("flow", id="sick")
    world.start("flow", id="fine")
    read_history = world.store.read_history

    def poisoned(key: Any, **kwargs: Any) -> Any:
        if key.workflow_id == "sick":
            raise RuntimeError("the log is not readable")
        return read_history(key, **kwargs)

    world.turn()
    monkeypatch.setattr(world.store, "read_history", poisoned)
    world.restart()
    for id in ("sick", "fine"):
        world.signal("say", "hello", id=id)
    for _ in range(10):
        world.nodes[0].turn()
        world.work()
    assert world.status("fine") == "completed"
    monkeypatch.undo()
    world.clock.advance(2_000)
    world.settle()
    assert world.status("sick") == "completed"


def test_a_missing_blob_rests_the_run_until_it_is_back() -> None:
    world = flow_world()
    world.start("flow")
    world.turn()
    message = world.pop()
    assert message
    world.claim(message)
    ref = world.blobs.put("x" * 100)
    value = world.blobs.values.pop(ref.sha256)
    world.finish(message, {"kind": "completed", "result": ref.as_json()})
    for _ in range(5):
        world.node.turn()
    assert world.names() == ["RunStarted", "StepScheduled"]
    world.blobs.values[ref.sha256] = value
    world.clock.advance(2_000)
    finish(world)
    assert world.status() == "completed"


def test_a_signal_for_a_run_that_just_ended_is_kept_with_the_reason() -> None:
    world = flow_world()
    world.start("flow")
    world.settle()
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "t"})
    world.signal("say", "too late", signal_id="late")
    world.turn()
    assert world.status() == "terminated"
    (rejected,) = world.store.rejected
    assert rejected["signal_id"] == "late"
    assert "ended" in rejected["reason"]
    assert "too late" not in str(rejected)


@pytest.mark.parametrize("call", ["commit", "reject", "discard"])
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
def test_a_signal_behind_the_end_of_its_run_is_kept_although_its_owner_dies(
    call: str, *, happens: bool
) -> None:
    world = flow_world()
    world.start("flow")
    world.settle()
    world.node.close()
    world.clock.advance(10_000)
    world.nodes = [Node(world, "doomed", Faulty(world.store, call, 1, happens=happens))]
    world.post(Kind.TERMINATE, {"reason": "enough", "request_id": "t"})
    world.signal("say", "too late", signal_id="late")
    with pytest.raises(StoreUnavailable):
        world.node.turn()
    world.restart()
    world.settle()
    assert world.status() == "terminated"
    assert {each["signal_id"] for each in world.store.rejected} == {"late"}
    left = world.store.take_inbox(dict.fromkeys(range(4), "0"), count=9, block_ms=0)
    assert not any(left.values())


def test_a_cycle_that_outlasts_its_leases_renews_them_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = flow_world()
    for number in range(250):
        world.start("flow", id=f"w{number}")
    world.turn()
    world.restart()
    for number in range(250):
        world.signal("say", "hello", id=f"w{number}")
    read_history = world.store.read_history

    def slow(key: Any, **kwargs: Any) -> Any:
        world.clock.advance(30)  # All of them take longer than a lease lasts.
        return read_history(key, **kwargs)

    monkeypatch.setattr(world.store, "read_history", slow)
    world.node.turn()
    monkeypatch.undo()
    recorded = [world.names(f"w{number}").count("SignalReceived") for number in range(250)]
    assert recorded == [1] * 250


def two_runs() -> World:
    """The id's first run has ended, and its second one waits."""
    world = flow_world()
    world.start("flow")
    finish(world)
    world.start("flow")
    world.settle()
    assert world.row()["run"] == "2"
    return world


def test_a_query_to_a_run_that_was_replaced_is_answered_and_gone() -> None:
    world = two_runs()
    body: dict[str, Any] = {"query": "stack", "args": [], "reply_to": "me"}
    world.store.post("w", Kind.QUERY, body, run=1)
    world.settle()
    answer = world.store.wait_for_answer("w", "me", wait_ms=0)
    assert answer is not None
    assert "ok" in answer


def test_mail_for_a_run_that_ended_meanwhile_never_reaches_the_next_one() -> None:
    world = flow_world()
    world.start("flow")
    world.settle()
    world.signal("say", "hello", signal_id="s1")
    # Sent to the first run, read after the second one was started.
    part = world.store._of("w")
    finish(world)
    world.start("flow")
    part.post(Kind.SIGNAL, "w", 1, b'{"signal":"say","signal_id":"late","payload":"x"}')
    part.post(Kind.SIGNAL, "w", 9, b'{"signal":"say","signal_id":"early","payload":"x"}')
    part.post(Kind.SIGNAL, "w", 2, b'{"signal":"say","payload":"no id"}')
    world.settle()
    assert [each["signal_id"] for each in world.store.rejected] == ["late", "early"]
    assert "SignalReceived" not in world.names(run=2)
    assert "RequestRejected" in world.names(run=2)
    assert not any(
        world.store.take_inbox(dict.fromkeys(range(4), "0"), count=9, block_ms=0).values()
    )
