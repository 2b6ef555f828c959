"""The orders of a storm, and what people say about each: drawn from a seed before anything runs.

O1  The same seed and number give the same orders, messages and switches.
O2  Messages go out at random times after the start, whatever the order is doing then: early, late,
    or when it has ended.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from tasks.faults import Mode

#: There are half as many as orders want.
SCARCE_SKU = "storm-rarity"
#: Of the orders that wait for a message, so that their second start meets an open run.
_DOUBLED_SHARE = 0.3
_TROUBLED_SHARE = 0.8
#: Of the messages, written to the door as `redis-cli XADD orc:signals` does.
_BY_DOOR_SHARE = 0.4
_TROUBLES = ("reserve", "charge", "ship")


class Kind(Enum):
    """What is special about an order."""

    ORDINARY = "ordinary"
    DECLINED = "declined card"
    SCARCE = "scarce article"
    APPROVED = "late approval"
    REFUSED = "refused approval"
    CANCELLED = "cancelled by customer"
    WITHDRAWN = "run cancelled"
    RACED = "delivered and cancelled at once"
    PARKED = "parked compensation"


#: Share of each kind, and the statuses in which it may end as long as no step gives up.
_KINDS: dict[Kind, tuple[int, frozenset[str]]] = {
    Kind.ORDINARY: (30, frozenset({"completed"})),
    Kind.DECLINED: (8, frozenset({"failed"})),
    Kind.SCARCE: (10, frozenset({"completed", "failed"})),
    Kind.APPROVED: (14, frozenset({"completed"})),
    Kind.REFUSED: (8, frozenset({"rejected"})),
    Kind.CANCELLED: (8, frozenset({"cancelled"})),
    Kind.WITHDRAWN: (6, frozenset({"cancelled"})),
    Kind.RACED: (8, frozenset({"completed", "cancelled"})),
    Kind.PARKED: (8, frozenset({"failed"})),
}
#: They may end without any message, and their id is then free for another run.
_UNASKED = (Kind.DECLINED, Kind.SCARCE, Kind.PARKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Trouble that waits for a task of an order; see `tasks.faults`."""

    task: str
    mode: Mode
    remaining: int | None = 1
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something that somebody says; `signal` "" asks the run itself to stop.

    `payload` is JSON, or what somebody takes for it.
    """

    after_s: float
    signal: str
    payload: str
    is_by_door: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlan:
    """One order: started `at_s` after the storm began, twice at once where `is_doubled`."""

    id: str
    kind: Kind
    at_s: float
    total: str
    sku: str
    switches: tuple[Switch, ...]
    messages: tuple[Message, ...]
    is_doubled: bool

    @property
    def ends(self) -> frozenset[str]:
        """The statuses in which it may end as long as no step gives up."""
        return _KINDS[self.kind][1]


def draw_orders(rng: random.Random, count: int, seconds: float) -> list[OrderPlan]:
    """Return so many orders, the first of each kind included, spread over `seconds`."""
    kinds = list(_KINDS)
    weights = [share for share, _ in _KINDS.values()]
    drawn = [*kinds, *rng.choices(kinds, weights=weights, k=max(0, count - len(kinds)))][:count]
    rng.shuffle(drawn)
    return [
        _draw_order(rng, f"storm-{number:04}", kind, seconds)
        for number, kind in enumerate(drawn, 1)
    ]


def _draw_order(rng: random.Random, order_id: str, kind: Kind, seconds: float) -> OrderPlan:
    is_large = kind in (Kind.APPROVED, Kind.REFUSED)
    total = rng.randint(500_001, 900_000) if is_large else rng.randint(100, 500_000)
    return OrderPlan(
        id=order_id,
        kind=kind,
        at_s=round(rng.uniform(0, seconds), 2),
        total=f"{total / 100:.2f}",
        sku=SCARCE_SKU if kind is Kind.SCARCE else rng.choice(["book", "lamp", "desk"]),
        switches=tuple(_draw_switches(rng, kind)),
        messages=tuple(sorted(_draw_messages(rng, kind), key=lambda message: message.after_s)),
        is_doubled=kind not in _UNASKED and rng.random() < _DOUBLED_SHARE,
    )


def _draw_switches(rng: random.Random, kind: Kind) -> Iterator[Switch]:
    """Yield at most one switch for each task: what the kind is about, and trouble on the way."""
    taken = set()
    if kind is Kind.DECLINED:
        taken = {"charge"}
        yield Switch(task="charge", mode=Mode.REFUSE, remaining=None)
    elif kind is Kind.PARKED:
        undo = rng.choice(["refund", "release"])
        taken = {"ship", undo}
        yield Switch(task="ship", mode=Mode.REFUSE, remaining=None)
        yield Switch(task=undo, mode=Mode.REFUSE, remaining=rng.randint(1, 2))
    free = [task for task in _TROUBLES if task not in taken]
    if rng.random() < _TROUBLED_SHARE:
        mode = rng.choices(
            [Mode.HANG, Mode.FAIL, Mode.CRASH_BEFORE, Mode.CRASH_AFTER], weights=[7, 1, 1, 2]
        )[0]
        seconds = round(rng.uniform(0.3, 2.5), 2) if mode is Mode.HANG else 0.0
        yield Switch(task=rng.choice(free), mode=mode, seconds=seconds)
    if rng.random() < _TROUBLED_SHARE / 2 and "release" not in taken:
        mode = rng.choice([Mode.HANG, Mode.CRASH_AFTER])
        yield Switch(task="release", mode=mode, seconds=round(rng.uniform(0.3, 1.5), 2))


def _draw_messages(rng: random.Random, kind: Kind) -> Iterator[Message]:
    def message(signal: str, payload: object, latest_s: float) -> Message:
        return Message(
            after_s=round(rng.uniform(0, latest_s), 2),
            signal=signal,
            payload=payload if isinstance(payload, str) else json.dumps(payload),
            is_by_door=bool(signal) and rng.random() < _BY_DOOR_SHARE,
        )

    if kind in (Kind.APPROVED, Kind.REFUSED):
        if rng.random() < 0.3:
            # The door takes what it is given; history says what was wrong with it.
            wrong = rng.choice(['{"approved": "perhaps", "by": "ana"}', "{approved: yes}"])
            yield Message(after_s=0.1, signal="approve", payload=wrong, is_by_door=True)
        yield message("approve", {"approved": kind is Kind.APPROVED, "by": "ana"}, 15)
    if kind in (Kind.ORDINARY, Kind.SCARCE, Kind.APPROVED, Kind.RACED):
        yield message("delivered", {"signed_by": "bo"}, 12)
    if kind in (Kind.CANCELLED, Kind.RACED):
        yield message("cancel", {"by": "bo", "reason": "changed my mind"}, 8)
    if kind is Kind.WITHDRAWN:
        yield message("", "", 8)
