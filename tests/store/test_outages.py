"""What the store says when the server does not answer, and that it goes on once it does.

"No answer" is `StoreUnavailable`, never "did not happen"; nothing is sent twice.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.core.errors import StoreUnavailable
from orchestrator.embedded import EmbeddedServer
from orchestrator.store.connect import connect
from orchestrator.store.index_ports import Window
from orchestrator.store.ports import CommitResult, Kind, PostAnswer, RunKey
from orchestrator.store.redis import RedisStore
from tests.store.conftest import client_of, keys_of
from tests.store.world import DONE, LONG_MS, TOKEN, World, attempt, redis_world


@pytest.fixture
def own_world(own_server: EmbeddedServer) -> Iterator[World]:
    """A store on a server that the test may kill."""
    with (
        connect(own_server.url, socket_timeout=0.3) as client,
        connect(own_server.url, socket_timeout=10) as blocking,
    ):
        yield redis_world(RedisStore(client, blocking=blocking, direct_queues=True), client)


CALLS: list[Callable[[World], object]] = [
    lambda world: world.store.start("x", request_id="r", body={"workflow": "w"}),
    lambda world: world.store.post("x", Kind.SIGNAL, {"signal": "s"}),
    lambda world: world.store.find_row("x"),
    lambda world: world.store.page_runs(["all"], Window(count=9)),
    lambda world: world.store.index_sizes(["all"]),
    lambda world: world.store.read_rows([("x", 1)]),
    lambda world: world.store.read_history(RunKey(workflow_id="x", run=1)),
    lambda world: world.store.wait_for_answer("x", "r", wait_ms=9_000),
    lambda world: world.store.take_inbox({1: "0"}, count=9, block_ms=9_000),
    lambda world: world.store.sweep([1, 2], count=9),
    lambda world: world.store.commit(
        [(TOKEN, world.next_commit(RunKey(workflow_id="x", run=1)))] * 2
    ),
    lambda world: world.store.claim(attempt(RunKey(workflow_id="x", run=1)), "t", ttl_ms=9),
    lambda world: world.store.renew_leases({1: "t", 2: "t"}, ttl_ms=9),
    lambda world: world.store.server_id(),
]


def test_scripts_the_server_forgot_are_loaded_again(server_world: World) -> None:
    world, client = server_world, client_of(server_world)
    key = world.open_run()
    client.script_flush()
    assert world.commit(key, ["a"]) is CommitResult.COMMITTED
    client.script_flush()
    first = world.next_commit(key, ["b"])
    other = world.open_run("other")
    client.script_flush()
    results = world.store.commit(
        [(TOKEN, first), (TOKEN, first), (TOKEN, world.next_commit(other, ["c"]))]
    )
    wanted = [CommitResult.COMMITTED, CommitResult.CONFLICT, CommitResult.COMMITTED]
    assert results == wanted
    assert [event.data for event in world.store.read_history(key)] == [b"started", b"a", b"b"]


def test_killed_server_keeps_everything_and_the_same_store_goes_on(
    own_world: World, own_server: EmbeddedServer
) -> None:
    world = own_world
    key = world.open_run()
    sent = world.send(key, start_to_close_ms=LONG_MS)
    world.store.claim(sent, "one", ttl_ms=LONG_MS)
    world.store.post("order-42", Kind.SIGNAL, {"signal": "s"})
    before = (world.store.read_history(key), world.store.find_row("order-42"), world.inbox())
    rows = (world.store.read_step(key, 1), world.timers())
    server_id = world.store.server_id()

    own_server.kill()
    for call in CALLS:
        with pytest.raises(StoreUnavailable):
            call(world)
    own_server.start()

    assert world.store.server_id() != server_id
    after = (world.store.read_history(key), world.store.find_row("order-42"), world.inbox())
    assert after == before
    assert (world.store.read_step(key, 1), world.timers()) == rows
    assert world.store.post_outcome(sent, "one", DONE) is PostAnswer.POSTED
    world.lease()
    assert world.commit(key, ["a"], steps_settled=[sent]) is CommitResult.COMMITTED


def test_every_acknowledged_write_survives_a_kill(
    own_world: World, own_server: EmbeddedServer
) -> None:
    key = own_world.open_run()
    for round_number in range(3):
        for n in range(20):
            assert own_world.commit(key, [f"{round_number}/{n}"]) is CommitResult.COMMITTED
        own_server.kill()
        own_server.start()
        history = own_world.store.read_history(key)
        assert (history[-1].seq, history[-1].head) == own_world.heads[key]


def test_silent_server_is_no_answer_and_gets_a_message_once(
    own_world: World, own_server: EmbeddedServer
) -> None:
    own_world.open_run()
    own_world.store.post("order-42", Kind.SIGNAL, {"signal": "loads the script"})
    with paused(own_server), pytest.raises(StoreUnavailable, match="post"):
        own_world.store.post("order-42", Kind.SIGNAL, {"signal": "s"})
    while len(own_world.inbox()) < 2:
        pass
    settle(own_server)
    assert len(own_world.inbox()) == 2


def test_commit_whose_answer_was_lost_conflicts_when_asked_again(
    own_world: World, own_server: EmbeddedServer
) -> None:
    key = own_world.open_run()
    with paused(own_server), pytest.raises(StoreUnavailable, match="commit"):
        own_world.commit(key, ["a"])
    while len(own_world.store.read_history(key)) < 2:
        pass
    settle(own_server)
    assert own_world.commit(key, ["a"]) is CommitResult.CONFLICT
    assert len(own_world.store.read_history(key)) == 2


@contextmanager
def paused(server: EmbeddedServer) -> Iterator[None]:
    """Stop the server's process, as a machine that swaps does, and let it go on at the end."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def settle(server: EmbeddedServer) -> None:
    """Return once the server has read what was sent before: it reads in rounds."""
    with connect(server.url) as client:
        for _ in range(20):
            client.ping()


def test_error_in_one_commit_is_unknown_and_the_others_are_known(server_world: World) -> None:
    world, client = server_world, client_of(server_world)
    good, bad = world.open_run("good"), world.open_run("bad")
    broken = world.next_commit(bad, ["a"])
    client.delete(keys_of(world).row("bad"))
    client.set(keys_of(world).row("bad"), "not a hash")
    commits = [(TOKEN, broken), (TOKEN, world.next_commit(good, ["b"]))]
    assert world.store.commit(commits) == [None, CommitResult.COMMITTED]
    with pytest.raises(StoreUnavailable, match="find_row"):
        world.store.find_row("bad")


def test_full_server_refuses_whole_commits(own_world: World, own_server: EmbeddedServer) -> None:
    world = own_world
    key = world.open_run()
    sent = world.send(key)
    client = client_of(world)
    client.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailable, match="OutOfMemory"):
        world.store.claim(sent, "one", ttl_ms=LONG_MS)
    with pytest.raises(StoreUnavailable, match="OutOfMemory"):
        world.store.post("order-42", Kind.SIGNAL, {"signal": "s"})
    row: dict[str, Any] = {"fields": {"status": "x"}, "steps_settled": [sent], "inbox_ids": ["1-1"]}
    assert world.commit(key, ["a"], **row) is None
    client.config_set("maxmemory", "0")
    assert world.store.read_step(key, 1)["state"] == "scheduled"
    assert world.inbox() == []
    found = world.store.find_row("order-42")
    assert found is not None
    assert (found["status"], found["seq"]) == ("pending", "2")
    assert world.commit(key, ["a"], **row) is CommitResult.COMMITTED
