"""What a run has to say to another lies there from its commit on, until it is delivered."""

from collections.abc import Sequence

import pytest

from orchestrator.store.ports import CommitResult, Kind, Letter
from tests.store.conftest import client_of, keys_of
from tests.store.world import TOKEN, World

LETTERS: Sequence[Letter] = (
    Letter(
        kind=Kind.START,
        workflow_id="child {1}",
        request="order-42.1.child-1",
        body={"workflow": "ship", "args": ["grüße"], "kwargs": {}},
    ),
    Letter(kind=Kind.CHILD, workflow_id="parent", run=3, body={"child": 1, "result": None}),
)


def test_letters_of_a_commit_are_read_in_order_until_they_are_removed(world: World) -> None:
    key, partition = world.open_run(), world.partition()
    assert world.store.read_letters(partition, count=9) == []
    assert world.commit(key, ["a"], letters=LETTERS) is CommitResult.COMMITTED
    found = world.store.read_letters(partition, count=9)
    assert [letter for _, letter in found] == list(LETTERS)
    assert world.store.read_letters(partition, count=1) == found[:1]
    for _ in range(2):
        world.store.ack_letters(partition, [found[0][0]])
    world.store.ack_letters(partition, [])
    assert world.store.read_letters(partition, count=9) == found[1:]


def test_a_refused_commit_leaves_no_letter(world: World) -> None:
    key = world.open_run()
    stale = world.next_commit(key, ["a"], letters=LETTERS)
    world.commit(key, ["b"])
    assert world.store.commit([(TOKEN, stale)]) == [CommitResult.CONFLICT]
    assert world.store.read_letters(world.partition(), count=9) == []


@pytest.mark.parametrize("body", [b"not json", b"[]"])
def test_an_unreadable_letter_is_kept_among_the_rejected_and_stops_nothing(
    server_world: World, body: bytes
) -> None:
    world, client, keys = server_world, client_of(server_world), keys_of(server_world)
    name = keys.letters(world.partition())
    client.xadd(name, {"kind": "child", "workflow": "parent", "run": "3", "body": body})
    world.commit(world.open_run(), ["a"], letters=LETTERS[1:])
    found = world.store.read_letters(world.partition(), count=9)
    assert [letter for _, letter in found] == [LETTERS[1]]
    assert client.xlen(name) == 1
    ((_, fields),) = client.xrange(keys.rejected)
    assert fields[b"body"] == body
