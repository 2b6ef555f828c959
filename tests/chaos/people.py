"""Customers and clerks: they start the orders, say what they have to say, and mend what is parked.

Q1  What is kept as acknowledged was acknowledged: the call returned.  Where there was no answer it
    is said again, under the same id where the way has ids.
Q2  Nobody starts an id anew whose run they know of: an id whose run has ended is free, and the
    second run would be a second order.
"""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from orchestrator import RunClosed, RunExists, RunHandle, RunNotFound, StoreUnavailable
from orchestrator.core import events as e
from sagas.order import Order, OrderLine
from tests.acceptance.stack import Stack
from tests.chaos.orders import Message, OrderPlan

#: Between two looks at an order that is parked, or between two sendings without an answer.
_PAUSE_S = 0.5
#: Nobody tries longer to be heard: the server is never away for a tenth of it.
_PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message that was acknowledged; `id` is what history has to know it by, "" for requests."""

    order_id: str
    signal: str
    id: str
    is_by_door: bool


@dataclass(slots=True)
class Record:
    """What the people know to be true, by what they were told."""

    started: list[str] = field(default_factory=list)
    duplicates_refused: int = 0
    said: list[Said] = field(default_factory=list)
    too_late: int = 0
    unheard: int = 0
    resolved: int = 0
    troubles: list[str] = field(default_factory=list)


class People:
    """One thread for each order, from its start until nothing is left to be said about it."""

    def __init__(self, stack: Stack, plans: list[OrderPlan]) -> None:
        self.record = Record()
        self._stack = stack
        self._plans = plans
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._began = time.monotonic()
        self._threads = [
            threading.Thread(target=self._look_after, args=(plan,), name=plan.id, daemon=True)
            for plan in plans
        ]

    def begin(self) -> None:
        """The storm's clock starts; the orders come in by themselves."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def go_home(self) -> None:
        """Everybody stops; waits for them."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def busy(self) -> list[str]:
        """The orders somebody still looks after."""
        return [thread.name for thread in self._threads if thread.is_alive()]

    # --- one order -------------------------------------------------------------------------------

    def _look_after(self, plan: OrderPlan) -> None:
        try:
            self._wait_until(self._began + plan.at_s)
            handle = self._start(plan)
            started = time.monotonic()
            for number, message in enumerate(plan.messages):
                self._wait_until(started + message.after_s)
                self._say(handle, message, f"{plan.id}-said-{number}")
            while not self._over.is_set() and not self._is_closed(handle):
                self._mend(handle)
                self._over.wait(_PAUSE_S)
        except Exception as error:
            # The boundary of one person: told with the claims, where it makes the storm fail.
            with self._lock:
                self.record.troubles.append(f"{plan.id}: {type(error).__name__}: {error}")

    def _wait_until(self, instant: float) -> None:
        self._over.wait(max(0.0, instant - time.monotonic()))

    # --- starting --------------------------------------------------------------------------------

    def _start(self, plan: OrderPlan) -> RunHandle[Any]:
        if plan.is_doubled:
            with ThreadPoolExecutor(2) as both:
                answers = [both.submit(self._start_once, plan) for _ in range(2)]
                is_new = [answer.result() for answer in answers]
        else:
            is_new = [self._start_once(plan)]
        with self._lock:
            self.record.started.append(plan.id)
            self.record.duplicates_refused += plan.is_doubled and sum(is_new) == 1
            if sum(is_new) > 1:
                self.record.troubles.append(f"{plan.id}: two starts of one id were accepted")
        return self._stack.orc.run(plan.id)

    def _start_once(self, plan: OrderPlan) -> bool:
        """Start the order; return False if the id's run is somebody's already."""
        lines = (OrderLine(sku=plan.sku),)
        order = Order(id=plan.id, total=plan.total, lines=lines)  # type: ignore[arg-type]
        workflow = self._stack.orc.get_workflow("order")
        deadline = time.monotonic() + _PATIENCE_S
        has_doubts = False
        while True:
            try:
                if has_doubts and self._is_known(plan.id):  # Q2
                    return False
                workflow.start(order, id=plan.id)
            except RunExists:
                return False
            except StoreUnavailable:
                has_doubts = True
                self._pause(deadline)
            else:
                return True

    def _is_known(self, order_id: str) -> bool:
        try:
            self._stack.orc.run(order_id).describe()
        except RunNotFound:
            return False
        return True

    def _pause(self, deadline: float) -> None:
        with self._lock:
            self.record.unheard += 1
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens for {_PATIENCE_S} s")
        self._over.wait(_PAUSE_S)

    # --- saying ----------------------------------------------------------------------------------

    def _say(self, handle: RunHandle[Any], message: Message, message_id: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not self._over.is_set():
            try:
                known_as = self._send(handle, message, message_id)
            except RunClosed:
                with self._lock:
                    self.record.too_late += 1
                return
            except (StoreUnavailable, RedisError):
                self._pause(deadline)
            else:
                said = Said(
                    order_id=handle.id,
                    signal=message.signal,
                    id=known_as,
                    is_by_door=message.is_by_door,
                )
                with self._lock:
                    self.record.said.append(said)
                return

    def _send(self, handle: RunHandle[Any], message: Message, message_id: str) -> str:
        """Send it once, and return the id that history will know it by."""
        if not message.signal:
            handle.cancel("the customer withdrew")
            return ""
        if message.is_by_door:
            fields = {"workflow": handle.id, "signal": message.signal, "payload": message.payload}
            entry: bytes = self._stack.redis.xadd(self._stack.keys.door, fields)
            return f"door:{entry.decode()}"
        return handle.signal(message.signal, json.loads(message.payload), id=message_id)

    # --- looking and mending ---------------------------------------------------------------------

    def _is_closed(self, handle: RunHandle[Any]) -> bool:
        try:
            return handle.describe().is_closed
        except StoreUnavailable:
            return False

    def _mend(self, handle: RunHandle[Any]) -> None:
        """Where an undo is parked, have it tried again, as a person would who put it right."""
        try:
            if handle.status() != "compensation_failed":
                return
            events = [each.event for each in handle.history()]
            parked = {event.step for event in events if isinstance(event, e.StepParked)}
            for step in sorted(parked):
                told = [
                    event
                    for event in events
                    if isinstance(event, e.StepParked | e.StepUnparked) and event.step == step
                ]
                if isinstance(told[-1], e.StepParked):
                    handle.resolve(step, "retry", reason="the bank is back", by="ana")
                    with self._lock:
                        self.record.resolved += 1
        except (StoreUnavailable, RunClosed):
            return  # Look again in a moment: `resolve` is not repeated without a look.
