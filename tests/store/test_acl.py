"""ops/users.acl: each kind of process may do its work, and nothing that is another's."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.core.errors import StoreUnavailable
from orchestrator.embedded import EmbeddedServer
from orchestrator.store.connect import connect
from orchestrator.store.index_ports import Window
from orchestrator.store.ports import (
    Answer,
    ClaimAnswer,
    CommitResult,
    Kind,
    Message,
    PostAnswer,
    TimerKind,
)
from orchestrator.store.redis import RedisStore
from tests.store.world import DONE, LONG_MS, OWNER, START, TOKEN, World, redis_world, timer

USERS = Path(__file__).parents[2] / "ops" / "users.acl"
ROLES = ["worker", "client", "orchestrator"]


class Roles:
    """A store per kind of process, each with its own rights, and a world that may do all."""

    def __init__(self, server: EmbeddedServer, stack: ExitStack) -> None:
        admin = stack.enter_context(connect(server.url))
        self.world: World = redis_world(RedisStore(admin, blocking=admin), admin)
        for line in USERS.read_text().splitlines():
            name, *rules = re.findall(r"\([^)]*\)|\S+", line.removeprefix("user "))
            if name != "default":
                admin.execute_command("ACL SETUSER", name, *rules)
        self.stores: dict[str, RedisStore] = {}
        for role in ROLES:
            address = server.url.replace("redis://", f"redis://{role}:change-me-{role}@")
            client = stack.enter_context(connect(address))
            self.stores[role] = RedisStore(client, blocking=client, direct_queues=True)


@pytest.fixture
def roles(own_server: EmbeddedServer) -> Iterator[Roles]:
    with ExitStack() as stack:
        yield Roles(own_server, stack)


def test_worker_may_do_its_work(roles: Roles) -> None:
    key = roles.world.send(roles.world.open_run(), start_to_close_ms=9_000, heartbeat_ms=9_000)
    worker = roles.stores["worker"]
    assert worker.claim(key, "one", ttl_ms=LONG_MS).answer is ClaimAnswer.GRANTED
    assert worker.renew({key: "one"}, ttl_ms=LONG_MS) == {key: ClaimAnswer.GRANTED}
    assert worker.heartbeat(key, "one", 1) is ClaimAnswer.GRANTED
    assert worker.post_outcome(key, "one", DONE) is PostAnswer.POSTED
    roles.world.commit(key.run_key, ["settled"], steps_settled=[key])
    assert worker.post_outcome(key, "worker/one", DONE) is PostAnswer.SUPERSEDED


def test_client_may_do_its_work(roles: Roles) -> None:
    client = roles.stores["client"]
    client.start("order-42", request_id="request-1", body=START)
    key = roles.world.open_run()
    client.post("order-42", Kind.SIGNAL, {"signal": "s"})
    assert client.find_row("order-42") is not None
    assert client.read_history(key)
    assert client.wait_for_event(key, after_seq=0, wait_ms=5)
    assert not client.wait_for_event(key, after_seq=1, wait_ms=5)
    assert client.page_runs(["all"], Window(count=9)).rows
    assert client.wait_for_answer("order-42", "reply-1", wait_ms=5) is None
    roles.world.store.answer([Answer(reply_to="reply-1", body={"ok": 1})])
    assert client.wait_for_answer("order-42", "reply-1", wait_ms=5) == {"ok": 1}
    roles.world.commit(key, ["end"], closed_at_ms=5)
    assert client.start("order-42", request_id="request-2", body=START).run == 2
    runs = client.list_all_runs(roles.world.partition())
    assert runs == [("order-42", 1), ("order-42", 2)]
    assert client.index_sizes(["all"]) == [2]
    for (workflow_id, run), row in zip(runs, client.read_rows(runs), strict=True):
        assert client.reindex_run(workflow_id, run, row or {})
    client.mark_indexed()


def test_orchestrator_may_do_its_work(roles: Roles) -> None:
    store, world = roles.stores["orchestrator"], roles.world
    partition = world.partition()
    assert store.report_orchestrator(OWNER, ttl_ms=LONG_MS) == [OWNER]
    started = store.start("order-42", request_id="r", body=START)
    assert store.grant_lease(partition, OWNER, TOKEN, ttl_ms=LONG_MS)
    assert store.renew_leases({partition: TOKEN}, ttl_ms=LONG_MS) == set()
    key = world.open_run(request_id="r")
    assert key.run == started.run
    sent = world.send(key)
    world.store.claim(sent, "one", ttl_ms=LONG_MS)
    made = world.next_commit(
        key,
        ["a"],
        messages=[Message(queue="celery", body=b"m")],
        steps_settled=[sent],
        blocked=True,
        inbox_ids=["1-1"],
        closed_at_ms=5,
    )
    assert store.commit([(TOKEN, made)]) == [CommitResult.COMMITTED]
    assert store.take_inbox({partition: "0"}, count=9, block_ms=5) == {}
    assert store.sweep([partition], count=9)[1][partition].timers == []
    assert store.list_blocked(partition) == []
    assert store.read_step(key, 1) == {}
    store.discard(partition, TOKEN, ["1-1"], [timer(key, TimerKind.START, 0)])
    store.reject({"signal": "s"}, "no such run")
    store.answer([Answer(reply_to="reply-1", body={"ok": 1})])
    assert store.read_door(count=9) == []
    store.ack_door(["1-1"])
    assert store.read_outbox(partition, count=9) == []
    store.ack_outbox(partition, ["1-1"])
    store.retire_orchestrator(OWNER)
    store.release_lease(partition, TOKEN)
    assert store.server_id()


@pytest.mark.parametrize("role", ["worker", "client"])
def test_only_an_orchestrator_writes_history(roles: Roles, role: str) -> None:
    key = roles.world.open_run()
    made = roles.world.next_commit(key, ["forged"])
    assert roles.stores[role].commit([(TOKEN, made)]) == [None]
    with pytest.raises(StoreUnavailable, match="NoPermission"):
        roles.stores[role].grant_lease(roles.world.partition(), OWNER, "forged", ttl_ms=9)
    assert len(roles.world.store.read_history(key)) == 1


def test_worker_reads_no_history_and_client_no_steps(roles: Roles) -> None:
    key = roles.world.send(roles.world.open_run())
    with pytest.raises(StoreUnavailable, match="NoPermission"):
        roles.stores["worker"].read_history(key.run_key)
    with pytest.raises(StoreUnavailable, match="NoPermission"):
        roles.stores["client"].claim(key, "one", ttl_ms=9)
