"""A broker that is elsewhere gets every message, through the outbox, at least once."""

from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.errors import StoreUnavailable
from orchestrator.engine.relay import OutboxRelay
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Message
from tests.engine.world import FakeDispatcher, Node, World


async def one() -> Any:
    return await workflow.step("job")


class Broker(FakeDispatcher):
    """A broker that may be away."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.is_away = False

    def publish(self, messages: Sequence[Message]) -> None:
        if self.is_away:
            raise StoreUnavailable("publish", "away")
        self.messages += messages


@pytest.fixture
def world() -> World:
    made = World(one)
    made.tasks["job"] = lambda: "done"
    made.store = MemoryStore(4, clock=made.clock, direct=False)
    made.nodes = [Node(made, "one")]
    made.start("one")
    made.turn()
    return made


def relay_of(world: World, broker: Broker) -> OutboxRelay:
    return OutboxRelay(world.store, broker, lambda: list(world.node.leases.tokens))


def outbox(world: World) -> list[Message]:
    return [m for p in range(4) for _, m in world.store.read_outbox(p, count=10)]


def test_the_outbox_reaches_the_broker_and_is_emptied(world: World) -> None:
    broker = Broker()
    assert len(outbox(world)) == 1
    assert not world.store.queues["celery"]
    relay_of(world, broker).relay_once()
    assert len(broker.messages) == 1
    assert outbox(world) == []
    world.store.queues["celery"].append(broker.messages[0].body)
    world.settle()
    assert world.result() == "done"


def test_a_message_stays_in_the_outbox_while_the_broker_is_away(world: World) -> None:
    broker = Broker()
    broker.is_away = True
    with pytest.raises(StoreUnavailable):
        relay_of(world, broker).relay_once()
    assert len(outbox(world)) == 1
    broker.is_away = False
    relay_of(world, broker).relay_once()
    assert len(broker.messages) == 1


def test_a_relay_that_dies_between_publishing_and_noting_it_sends_twice_and_runs_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker()
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "ack_outbox", lambda partition, ids: None)
        relay_of(world, broker).relay_once()
    relay_of(world, broker).relay_once()
    assert len(broker.messages) == 2
    for message in broker.messages:
        world.store.queues["celery"].append(message.body)
    world.settle()
    assert world.result() == "done"
    assert len(world.ran) == 1
