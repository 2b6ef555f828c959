"""H5: what arrived stays until a commit records it; what nobody can read is kept with a reason."""

import threading

from orchestrator.core.limits import EVENT_BYTES_MAX
from orchestrator.core.values import Json
from orchestrator.store.keys import partition_of
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import AttemptKey, ClaimAnswer, Kind, TimerKey, TimerKind
from tests.store.conftest import client_of, keys_of
from tests.store.world import START, TOKEN, World, timer


def signal(number: int) -> dict[str, Json]:
    return {"signal": "s", "signal_id": str(number), "payload": None}


def test_reading_removes_nothing(world: World) -> None:
    world.open_run()
    world.store.post("order-42", Kind.SIGNAL, signal(1))
    assert world.inbox() == world.inbox()
    assert len(world.inbox()) == 1


def test_entries_after_an_id_come_in_order_and_bounded(world: World) -> None:
    world.open_run()
    for number in range(5):
        world.store.post("order-42", Kind.SIGNAL, signal(number))
    partition = world.partition()
    first = world.store.take_inbox({partition: "0"}, count=2, block_ms=0)[partition]
    rest = world.store.take_inbox({partition: first[-1].id}, count=9, block_ms=0)[partition]
    numbers = [entry.body["signal_id"] for entry in [*first, *rest]]
    assert numbers == ["0", "1", "2", "3", "4"]
    assert world.store.take_inbox({partition: rest[-1].id}, count=9, block_ms=0) == {}
    assert world.store.take_inbox({}, count=9, block_ms=0) == {}


def test_several_inboxes_are_taken_in_one_call(world: World) -> None:
    ids = ["a", "b", "c"]
    for workflow_id in ids:
        world.store.start(workflow_id, request_id="r", body=START)
    places = {partition_of(workflow_id, world.store.partitions) for workflow_id in ids}
    found = world.store.take_inbox(dict.fromkeys(range(16), "0"), count=9, block_ms=0)
    assert found.keys() == places
    assert sorted(e.workflow_id for entries in found.values() for e in entries) == ids


def test_taker_that_waits_is_woken_by_an_arrival(server_world: World) -> None:
    world = server_world
    partition = world.partition()
    found = []
    taker = threading.Thread(
        target=lambda: found.append(
            world.store.take_inbox({partition: "0"}, count=9, block_ms=20_000)
        )
    )
    world.store.now_ms()  # opens the namespace before the threads meet
    taker.start()
    world.store.start("order-42", request_id="r", body=START)
    taker.join(10)
    assert not taker.is_alive()
    assert [entry.kind for entry in found[0][partition]] == [Kind.START]


def test_taker_in_memory_that_waits_is_woken_by_an_arrival() -> None:
    store = MemoryStore()
    partition = partition_of("order-42", 16)
    found = []
    taker = threading.Thread(
        target=lambda: found.append(store.take_inbox({partition: "0"}, count=9, block_ms=20_000))
    )
    taker.start()
    store.start("order-42", request_id="r", body=START)
    taker.join(10)
    assert not taker.is_alive()
    assert [entry.kind for entry in found[0][partition]] == [Kind.START]


def test_wait_for_an_empty_inbox_ends(world: World) -> None:
    assert world.store.take_inbox({1: "0", 2: "0"}, count=9, block_ms=5) == {}


def test_unreadable_entries_are_moved_to_the_rejected_list(server_world: World) -> None:
    world, client = server_world, client_of(server_world)
    world.open_run()
    inbox = keys_of(world).inbox(world.partition())
    good = {"kind": "signal", "workflow": "order-42", "run": "0", "body": "{}"}
    client.xadd(inbox, {**good, "kind": "nonsense"})
    client.xadd(inbox, {**good, "run": "x"})
    client.xadd(inbox, {**good, "body": "{"})
    client.xadd(inbox, {**good, "body": "[1]"})
    client.xadd(inbox, {"body": "{}"})
    client.xadd(inbox, {**good, "workflow": b"\xff"})
    client.xadd(inbox, {**good, "body": '{"result": NaN}'})
    client.xadd(inbox, {**good, "body": '{"result": 1e999}'})
    client.xadd(inbox, {**good, "body": r'{"result": "\ud800"}'})
    client.xadd(inbox, {**good, "body": '{"result":' + "[" * 5_000})
    client.xadd(inbox, {**good, "body": '{"result":"' + "x" * EVENT_BYTES_MAX + '"}'})
    client.xadd(inbox, good)
    assert [entry.kind for entry in world.inbox()] == [Kind.SIGNAL]
    assert client.xlen(inbox) == 1
    lines = client.xrange(keys_of(world).rejected)
    assert len(lines) == 11
    assert all(fields[b"reason"] for _, fields in lines)
    assert lines[0][1][b"kind"] == b"nonsense"
    assert lines[5][1][b"workflow"] == b"\xff"


def test_entries_of_no_history_are_discarded_by_the_lease_holder_only(world: World) -> None:
    world.open_run()
    for number in range(3):
        world.store.post("order-42", Kind.SIGNAL, signal(number))
    ids = [entry.id for entry in world.inbox()]
    world.store.discard(world.partition(), "stale", ids)
    assert [entry.id for entry in world.inbox()] == ids
    world.store.discard(world.partition(), TOKEN, [])
    world.store.discard(world.partition(), TOKEN, ids[:2])
    world.store.discard(world.partition(), TOKEN, ids[:2])
    assert [entry.id for entry in world.inbox()] == ids[2:]


def test_timers_of_no_history_are_discarded_by_the_lease_holder_only(world: World) -> None:
    key = world.open_run()
    gone, kept = timer(key, TimerKind.START, 0), timer(key, TimerKind.SLEEP)
    world.commit(key, ["a"], timers_set={gone: 1, kept: 2})
    world.store.post("order-42", Kind.SIGNAL, signal(1))
    world.store.discard(world.partition(), "stale", [], [gone, kept])
    assert due(world) == [gone, kept]
    world.store.discard(world.partition(), TOKEN, [], [gone])
    assert due(world) == [kept]
    (entry,) = world.inbox()
    world.store.discard(world.partition(), TOKEN, [entry.id], [gone, kept])
    assert (due(world), world.inbox()) == ([], [])


def test_expired_claims_of_no_history_are_discarded_and_others_are_not(world: World) -> None:
    key = world.open_run()
    sent = [world.send(key, step) for step in (1, 2)]
    world.store.claim(sent[0], "one", ttl_ms=1)
    world.store.claim(sent[1], "one", ttl_ms=60_000)
    world.pass_ms(2)
    world.store.discard(world.partition(), "stale", [], (), sent)
    assert expired(world) == [sent[0]]
    world.store.discard(world.partition(), TOKEN, [], (), sent)
    assert expired(world) == []
    assert world.store.renew({sent[1]: "one"}, ttl_ms=60_000) == {sent[1]: ClaimAnswer.GRANTED}


def expired(world: World) -> list[AttemptKey]:
    _, found = world.store.sweep([world.partition()], count=9)
    return [*found[world.partition()].claims]


def due(world: World) -> list[TimerKey]:
    _, found = world.store.sweep([world.partition()], count=9)
    return [*found[world.partition()].timers]


def test_very_many_entries_and_timers_are_discarded_in_one_call(world: World) -> None:
    key = world.open_run()
    timers = [timer(key, TimerKind.SLEEP, number) for number in range(1, 20_000)]
    world.commit(key, ["a"], timers_set={timers[-1]: 1})
    world.store.post("order-42", Kind.SIGNAL, signal(1))
    ids = [*(f"{n}-7" for n in range(1, 20_000)), world.inbox()[0].id]
    world.store.discard(world.partition(), TOKEN, ids, timers)
    assert (world.inbox(), due(world)) == ([], [])


def test_an_entry_that_no_run_can_take_is_moved_to_the_rejected_list(world: World) -> None:
    world.open_run()
    for number in range(2):
        world.store.post("order-42", Kind.SIGNAL, signal(number))
    first, second = (entry.id for entry in world.inbox())
    world.store.set_aside(world.partition(), TOKEN, first, "it is odd")
    assert [entry.id for entry in world.inbox()] == [second]
    (kept,) = world.rejected()
    told = {name: kept[name] for name in ("workflow", "kind", "run", "reason")}
    assert told == {"workflow": "order-42", "kind": "signal", "run": "1", "reason": "it is odd"}
    # Who has lost the lease takes nothing away.
    world.store.set_aside(world.partition(), "stale", second, "it is odd")
    assert [entry.id for entry in world.inbox()] == [second]
    world.store.set_aside(world.partition(), TOKEN, "1-1", "it is gone")
    assert len(world.rejected()) == 2


def test_rejected_signal_is_kept_with_its_reason(world: World) -> None:
    world.store.reject({"workflow": "nobody", "signal": "s"}, "no such run")
    assert world.rejected() == [{"workflow": "nobody", "signal": "s", "reason": "no such run"}]


def test_door_lines_stay_until_they_are_acked(world: World) -> None:
    for name in ("one", "two", "three"):
        world.write_door({"workflow": "order-42", "signal": name, "payload": '{"ü":1}'})
    assert [line.fields["signal"] for line in world.store.read_door(count=2)] == ["one", "two"]
    first, *rest = world.store.read_door(count=9)
    assert first.fields == {"workflow": "order-42", "signal": "one", "payload": '{"ü":1}'}
    world.store.ack_door([first.id])
    world.store.ack_door([first.id])
    world.store.ack_door([])
    assert world.store.read_door(count=9) == rest


def test_door_line_that_is_not_text_is_shown_all_the_same(server_world: World) -> None:
    name = keys_of(server_world).door
    client_of(server_world).xadd(name, {"workflow": b"\xff"})
    (line,) = server_world.store.read_door(count=9)
    assert line.fields == {"workflow": "\ufffd"}
