"""The keys of every script, but for the broker's queues, lie in one slot of Redis Cluster."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import fakeredis
import pytest
from redis.crc import key_slot

from orchestrator.store.calls import Call, load_script
from orchestrator.store.executors import Executor
from orchestrator.store.permit_ports import Holder
from orchestrator.store.ports import Answer, Kind, Message
from orchestrator.store.redis import RedisStore
from tests.store.world import DONE, LONG_MS, TOKEN, World, redis_world

SCRIPTS = sorted(
    file.name.removesuffix(".lua")
    for file in (resources.files("orchestrator.store") / "scripts").iterdir()
)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every call that is sent."""
    calls: list[Call] = []
    send = Executor._send

    def recorded(self: Executor, batch: Sequence[Call]) -> list[Any]:
        calls.extend(batch)
        return send(self, batch)

    monkeypatch.setattr(Executor, "_send", recorded)
    return calls


def use_every_script(world: World, workflow_id: str) -> None:
    store, partition = world.store, world.partition(workflow_id)
    key = world.open_run(workflow_id)
    world.commit(key, ["m"], messages=[Message(queue="celery", body=b"1")])
    attempt = world.send(key)
    store.claim(attempt, "one", ttl_ms=LONG_MS)
    store.renew({attempt: "one"}, ttl_ms=LONG_MS)
    store.heartbeat(attempt, "one", 1)
    store.detach(attempt, "one")
    store.post_outcome(attempt, "one", DONE)
    store.post(workflow_id, Kind.SIGNAL, {"signal": "s"})
    store.answer([Answer(reply_to="reply{1}", body={"ok": 1})])
    store.sweep([partition], count=9)
    store.discard(partition, TOKEN, ["1-1"])
    store.renew_leases({partition: TOKEN}, ttl_ms=LONG_MS)
    store.report_orchestrator("one", ttl_ms=LONG_MS)
    store.replace_key(store.create_key(workflow_id, "wrapped"), "wrapped", "anew")
    asked = Holder(workflow_id=workflow_id, run=1, permit=1)
    store.request_permit(workflow_id, asked, limit=1)
    store.take_slot(workflow_id, asked, limit=1, per_ms=1)
    assert store.reindex_run(workflow_id, 1, store.find_row(workflow_id) or {})
    store.release_lease(partition, TOKEN)


@pytest.mark.parametrize("workflow_id", ["order-42", "{3}", "größe}{1", "a{}b"])
def test_keys_of_every_script_share_a_slot(sent: list[Call], workflow_id: str) -> None:
    client = fakeredis.FakeRedis(protocol=2)
    store = RedisStore(client, blocking=client, direct_queues=True)
    use_every_script(redis_world(store, client), workflow_id)
    name_of = {load_script(name).sha1: name for name in SCRIPTS}
    used = set()
    for call in sent:
        if call.script is None or call.command[0] != "EVALSHA":
            continue
        _, sha1, count, *rest = call.command
        keys = [str(key) for key in rest[: int(count)]]
        slots = {key_slot(key.encode()) for key in keys if key != "celery"}
        assert len(slots) == 1, keys
        used.add(name_of[str(sha1)])
    assert used == set(SCRIPTS)
