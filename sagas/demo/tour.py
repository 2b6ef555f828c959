"""What all scenes share: the stage, the shop, the narrator, and the orders of this tour.

T1  Each tour has ids and an article of its own, so that it counts the same over old data, even
    where an earlier tour was broken off and its orders go on beside this one's.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any

from redis import Redis

from orchestrator import RunHandle
from orchestrator.client.summary import HistoryEvent
from sagas.demo.narrator import Narrator
from sagas.demo.programs import Program
from sagas.demo.shop import Shop
from sagas.demo.stage import Stage
from sagas.order import Delivered, Order, OrderLine, OrderState, Status, process_order
from tasks.inventory import restock

#: How many of the tour's article lie on the shelf when it begins.
STOCK = 10

Handle = RunHandle[OrderState]


class Tour:
    """One tour, on a stage that stands."""

    def __init__(self, stage: Stage, narrator: Narrator) -> None:
        self.stage = stage
        self.narrator = narrator
        self.shop = Shop(stage.database_path)
        self._name = f"tour-{secrets.token_hex(3)}"
        self.article = f"book-of-{self._name}"
        self.handles: list[Handle] = []
        self.trainings: list[RunHandle[Any]] = []
        restock(self.article, STOCK)
        self.orchestrator = stage.start_orchestrator()
        self.worker: Program = stage.start_worker()

    def id_of(self, name: str) -> str:
        """Return the id that an order of this name has in this tour."""
        return f"{self._name}-{name}"

    def place(self, name: str, total: int) -> Handle:
        """Start an order for one copy of the tour's article."""
        order_id = self.id_of(name)
        lines = (OrderLine(sku=self.article),)
        order = Order(id=order_id, total=Decimal(total), lines=lines)
        handle = process_order.start(order, id=order_id)
        self.handles.append(handle)
        return handle

    def wait_for_status(self, handle: Handle, status: Status) -> OrderState:
        """Wait until the order publishes `status`, tell which ones it showed, and return it all."""
        shown: list[str] = []

        def look() -> OrderState | None:
            state: OrderState | None = handle.state(OrderState)
            if state is not None and state.status.value not in shown[-1:]:
                shown.append(state.status.value)
            return state if state is not None and state.status is status else None

        state = self.stage.wait_until(f"{handle.id} is {status.value}", look)
        self.narrator.tell(f"state, readable by anyone: {' > '.join(shown)}")
        return state

    def deliver(self, handle: Handle) -> None:
        """Tell the order that its parcel has arrived, and wait for its end."""
        handle.signal("delivered", Delivered(signed_by="ana"))
        self.wait_for_end(handle)

    def wait_for_end(self, handle: RunHandle[Any]) -> None:
        """Wait until the run has ended, well or not."""
        self.stage.wait_until(f"{handle.id} ends", lambda: handle.describe().is_closed)

    def wait_for_body(self, task: str, handle: Handle) -> None:
        """Wait until a worker is in the body of a task whose switch makes it hang."""
        self.stage.wait_until(
            f"a worker is inside {task}", lambda: self.shop.has_met_switch(task, handle.id)
        )

    def knock(self, handle: RunHandle[Any], signal: str, payload: str) -> None:
        """Write a signal to the door for people, as redis-cli would."""
        self.narrator.command(
            f"redis-cli XADD orc:signals '*' workflow {handle.id} signal {signal} "
            f"payload '{payload}'"
        )
        with closing(Redis.from_url(self.stage.server.url)) as client:
            client.xadd(
                "orc:signals", {"workflow": handle.id, "signal": signal, "payload": payload}
            )


def since(history: Sequence[HistoryEvent], at_ms: int) -> Iterator[HistoryEvent]:
    """Yield the events recorded after an instant of the store's clock."""
    return (event for event in history if event.event.at_ms > at_ms)
