"""A small app for the tests of the test kit: tasks whose bodies count, and workflows."""

import asyncio
from datetime import timedelta
from typing import Any

from celery import Celery
from pydantic import BaseModel

from orchestrator import (
    ApplicationError,
    Orchestrator,
    Retry,
    StepCancelled,
    StepError,
    step,
    workflow,
)

# A broker that nobody runs: whoever reaches for it fails.
app = Celery("shop", broker="redis://127.0.0.1:1/0")
orc = Orchestrator(app)

EFFECTS: list[str] = []


class Order(BaseModel):
    id: str
    total: int = 5


class Payment(BaseModel):
    id: str
    cents: int = 0


@app.task
def charge(order: Order) -> Payment:
    info = step.current()
    EFFECTS.append(f"charge {order.id} {info.idempotency_key if info else ''}")
    return Payment(id=f"p-{order.id}", cents=order.total * 100)


@app.task(pydantic=True)
def refund(order: Order) -> str:
    EFFECTS.append(f"refund {order.id}")
    return "refunded"


@app.task
async def ship(order_id: str) -> str:
    await asyncio.sleep(0)
    EFFECTS.append(f"ship {order_id}")
    return f"t-{order_id}"


@app.task(bind=True)
def bound(self: Any, number: int) -> list[Any]:
    return [self.request.id, self.request.called_directly, number]


@app.task(bind=True)
def asks_again(self: Any) -> None:
    raise self.retry(countdown=3600, exc=KeyError("not yet"))


@app.task
def beats() -> str:
    try:
        for number in range(3):
            step.heartbeat({"number": number})
    except StepCancelled:
        EFFECTS.append("stopped")
        raise
    return "done"


@app.task
def asserts() -> None:
    assert EFFECTS == ["never"], "a step's own assertion"


def local_half(number: int) -> int:
    return number // 2


class Approval(BaseModel):
    by: str


@orc.workflow(signals={"approve": Approval})
async def approved(order: Order) -> str:
    approval = await workflow.signal("approve", timeout=timedelta(days=7))
    payment = await workflow.step(charge, order)
    return f"{payment.id} by {approval.by}"


@orc.workflow
async def paid(order: Order) -> list[Any]:
    payment = await workflow.step(charge, order, retry=Retry(attempts=3))
    return [payment.id, payment.cents]


@orc.workflow
async def shipped(order_id: str) -> str:
    return str(await workflow.step(ship, order_id))


@orc.workflow
async def undone(order: Order) -> None:
    async with workflow.saga() as saga:
        await saga.step(charge, order, undo=refund)
        await workflow.step(ship, order.id, retry=Retry(attempts=1))


@orc.workflow
async def timers(count: int, hours: float) -> int:
    for _ in range(count):
        await workflow.sleep(timedelta(hours=hours))
    return count


@orc.workflow
async def for_ever() -> None:
    while True:
        await workflow.sleep(timedelta(days=1))


@orc.workflow
async def patient(name: str = "go") -> Any:
    state = workflow.publish({"waits": True})
    workflow.on_query("length")(lambda: len(name))
    value = await workflow.signal(name)
    state["waits"] = False
    return value


@orc.workflow
async def one_by_one(key: str) -> float:
    async with workflow.mutex(key):
        await workflow.rate_limit("hourly", 1, timedelta(hours=1))
        await workflow.signal("leave")
        return workflow.time()


@orc.workflow
async def bounded(seconds: float) -> str:
    try:
        await workflow.step(
            charge,
            Order(id="b"),
            retry=Retry(attempts=1),
            start_to_close=timedelta(seconds=seconds),
        )
    except StepError as error:
        return f"{type(error).__name__} {error.type}"
    return "in time"


@orc.workflow
async def beating(seconds: float = 60) -> str:
    return str(
        await workflow.step(beats, heartbeat=timedelta(seconds=seconds), retry=Retry(attempts=1))
    )


@orc.workflow
async def halved(number: int) -> int:
    return int(await workflow.step.options(local=True)(local_half, number))


@orc.workflow
async def single(task: str, *args: Any) -> Any:
    return await workflow.step(task, *args, retry=Retry(attempts=2))


@orc.workflow
async def wrong(number: int) -> None:
    await workflow.sleep(60)
    total = number + 1
    assert total == number, "the books do not balance"


@orc.workflow(bugs_fail=True)
async def wrong_but_fails(number: int) -> None:
    assert number == 0


@orc.workflow(name="versioned", version="1", bugs_fail=True)
async def versioned_before(number: int) -> None:
    assert number == 0


@orc.workflow(name="versioned", version="2")
async def versioned(number: int) -> int:
    return number


@orc.workflow
async def wrong_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(workflow.sleep(5))
        group.create_task(wrong(1))


@orc.workflow
async def buggy() -> None:
    {}["missing"]  # type: ignore[index]


@orc.workflow
async def refuses() -> None:
    raise ApplicationError("sold out", type="OutOfStock")


@orc.workflow
async def parent(number: int) -> int:
    child = await workflow.child(timers, number, 24)
    return int(child) + 1


#: What no workflow may look at; set by a test to break determinism.
OUTSIDE: list[bool] = []


@orc.workflow
async def unsteady() -> None:
    if OUTSIDE:
        await workflow.sleep(1)
    await workflow.step(ship, "x")
    await workflow.signal("go")
