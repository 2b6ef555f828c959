"""The broker: it loses messages, doubles them, holds them back and changes their order."""

import json
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from orchestrator.core.errors import StoreUnavailable
from orchestrator.store.ports import Message
from tests.engine.world import QUEUE, FakeDispatcher
from tests.simulation.scheduler import Actor, Scheduler
from tests.simulation.server import Server
from tests.simulation.story import Story
from tests.simulation.weather import Weather

_HOLD_MS_MAX = 15_000


class Broker:
    """The queue between orchestrators and workers.

    Args:
        is_elsewhere: It is not the store's server: messages come through the outbox.
    """

    def __init__(
        self,
        server: Server,
        scheduler: Scheduler,
        weather: Weather,
        story: Story,
        rng: Random,
        *,
        is_elsewhere: bool,
    ) -> None:
        self.is_elsewhere = is_elsewhere
        self.weather = weather
        #: Told when there may be something to take.
        self.sent: Callable[[], None] = lambda: None
        self._server = server
        self._scheduler = scheduler
        self._story = story
        self._rng = rng
        self._own: deque[bytes] = deque()
        self._wires = Actor("broker")

    @property
    def queue(self) -> deque[bytes]:
        """The messages that wait."""
        return self._own if self.is_elsewhere else self._server.queues[QUEUE]

    def publish(self, messages: Sequence[Message]) -> None:
        """Take messages from an outbox.

        Raises:
            StoreUnavailable: Some may have arrived.
        """
        for message in messages:
            if self._rng.random() < self.weather.rate:
                self._story.fault("broker", "breaks off while messages are published")
                raise StoreUnavailable("publish", "broken off")
            self.queue.append(message.body)
        self.sent()

    def take(self) -> dict[str, Any] | None:
        """Return the next message, as its consumer gets it; None for none."""
        queue = self.queue
        if not queue:
            return None
        body = queue.popleft()
        if self._rng.random() < self.weather.broker_rate:
            return self._meddle(self._rng.choice(self.weather.broker), body)
        found: dict[str, Any] = json.loads(body)
        return found

    def _meddle(self, fault: str, body: bytes) -> dict[str, Any] | None:
        found: dict[str, Any] = json.loads(body)
        self._story.fault("broker", f"{fault}: message of {found['key']}")
        if fault == "lose":
            return None
        if fault == "hold":
            self._scheduler.after(
                self._rng.randint(1, _HOLD_MS_MAX), self._wires, lambda: self._put_back(body)
            )
            return None
        if fault == "double":
            self.queue.append(body)
            self.sent()
        elif self.queue:  # reorder: another one comes first
            self.queue.append(body)
            body = self.queue.popleft()
        other: dict[str, Any] = json.loads(body)
        return other

    def _put_back(self, body: bytes) -> None:
        self.queue.append(body)
        self.sent()


class SimulatedDispatcher(FakeDispatcher):
    """Messages as JSON, published to the simulated broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def publish(self, messages: Sequence[Message]) -> None:
        """See `Dispatcher.publish`."""
        self._broker.publish(messages)
