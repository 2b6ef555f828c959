"""A storm: orders, people and faults on real processes; then quiet; then the claims.

S1  Everything a seed decides is drawn before anything runs: orders, messages, switches, faults.
S2  The storm waits for no order; the end of all orders is waited for with everything running.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from tasks.database import open_database
from tasks.faults import set_switch
from tasks.inventory import restock
from tests.acceptance.stack import PARTITIONS, Stack
from tests.chaos.aftermath import Aftermath
from tests.chaos.books import Books
from tests.chaos.faults import Fault, Victim, draw_faults
from tests.chaos.fleet import Fleet
from tests.chaos.orders import SCARCE_SKU, Kind, OrderPlan, draw_orders
from tests.chaos.people import People
from tests.chaos.witness import Witness

#: The application that ships with the repository, as `celery -A` names it.
APP = "sagas"
#: Orders come in during this part of the storm.
_ORDERS_PART = 0.8
_PROGRESS_S = 5.0
_LOOK_S = 0.25

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a storm is about; `settle_s` is how long all orders have to end once it is over."""

    orders: int
    seed: int
    seconds: float
    settle_s: float = 150.0
    workers: int = 2
    orchestrators: int = 2

    def draw(self) -> tuple[list[OrderPlan], list[Fault]]:
        """Return all that the seed decides (S1)."""
        orders = draw_orders(
            random.Random(f"orders {self.seed}"), self.orders, self.seconds * _ORDERS_PART
        )
        return orders, draw_faults(random.Random(f"faults {self.seed}"), self.seconds)


class Storm:
    """One storm, below `directory`.

    Args:
        setting: See `Setting`.
        directory: Where data and logs lie; stays.
        tell: Takes a line of the story.
    """

    def __init__(self, setting: Setting, directory: Path, tell: Tell) -> None:
        self._setting = setting
        self._directory = directory
        self._tell_line = tell
        self._plans, self._faults = setting.draw()
        self._began = time.monotonic()
        self._told_at = 0.0

    def rage(self, judge: Callable[[Aftermath], None]) -> None:
        """Run the storm and hand what it left to `judge`, as long as the server is still there."""
        with Stack(self._directory, fsync="always", app=APP) as stack:
            # Opens the namespace, which is made at the first use, while the server answers.
            assert stack.orc.store.partitions == PARTITIONS
            books = self._open_books()
            fleet = Fleet(stack, self._tell)
            fleet.man(Victim.ORCHESTRATOR, self._setting.orchestrators)
            fleet.man(Victim.WORKER, self._setting.workers)
            fleet.wait_until_ready()
            people = People(stack, self._plans)
            ids = [plan.id for plan in self._plans]
            self._began = time.monotonic()
            with Witness(stack, ids, fleet.takeovers) as witness:
                people.begin()
                fleet.weather(self._faults, lambda: self._show_progress(stack, fleet))
                self._tell("the storm is over; what is left of it may end now")
                unended = self._settle(stack, fleet, people)
            aftermath = Aftermath(
                stack=stack,
                plans=self._plans,
                record=people.record,
                tally=fleet.tally,
                witness=witness,
                takeovers=fleet.takeovers,
                books=books,
                unended=unended,
            )
            judge(aftermath)

    def _open_books(self) -> Books:
        """Set the shop up: its tables, its switches, and half of the scarce articles asked for."""
        open_database()
        scarce = sum(plan.kind is Kind.SCARCE for plan in self._plans)
        restock(SCARCE_SKU, max(1, scarce // 2))
        for plan in self._plans:
            for switch in plan.switches:
                set_switch(
                    switch.task,
                    switch.mode,
                    order_id=plan.id,
                    remaining=switch.remaining,
                    seconds=switch.seconds,
                )
        books = Books(self._directory / "shop.db")
        books.count_tries()
        return books

    def _settle(self, stack: Stack, fleet: Fleet, people: People) -> list[str]:
        """Wait until all orders have ended, nothing waits, and all people have gone; or too long.

        Returns:
            What has not come to an end.
        """
        deadline = time.monotonic() + self._setting.settle_s
        pause = threading.Event()
        while time.monotonic() < deadline:
            fleet.look()
            self._show_progress(stack, fleet)
            if not people.busy and not _waiting(stack):
                self._tell("all quiet")
                return []
            pause.wait(_LOOK_S)
        busy = people.busy
        people.go_home()
        self._tell(f"not quiet after {self._setting.settle_s:g} s")
        return [f"{order_id}: {_where_it_stands(stack, order_id)}" for order_id in busy]

    # --- the story -------------------------------------------------------------------------------

    def _tell(self, line: str) -> None:
        self._tell_line(f"{time.monotonic() - self._began:7.1f} s  {line}")

    def _show_progress(self, stack: Stack, fleet: Fleet) -> None:
        now = time.monotonic()
        if now - self._told_at < _PROGRESS_S or not fleet.is_server_up:
            return
        self._told_at = now
        try:
            closed = sum(stack.redis.zcard(stack.keys.closed(p)) for p in range(PARTITIONS))
            opened = sum(stack.redis.zcard(stack.keys.open(p)) for p in range(PARTITIONS))
        except RedisError:
            return  # It went just now; next time.
        faults = sum(fleet.tally.done.values())
        self._tell(
            f"-- {closed} of {self._setting.orders} orders ended, {opened} under way; "
            f"{faults} of {len(self._faults)} faults"
        )


def _waiting(stack: Stack) -> bool:
    """Return whether an inbox, the door or the queue holds anything."""
    keys = [stack.keys.inbox(p) for p in range(PARTITIONS)]
    sizes = [stack.redis.xlen(key) for key in [*keys, stack.keys.door]]
    return any(sizes) or bool(stack.redis.llen("celery"))


def _where_it_stands(stack: Stack, order_id: str) -> str:
    try:
        run = stack.orc.run(order_id)
        last = [each.type for each in run.history()][-3:]
        return f"{run.status()} after {', '.join(last)}"
    except Exception as error:
        # The person's boundary: the claim fails anyway, this only says more about it.
        return f"{type(error).__name__}: {error}"
