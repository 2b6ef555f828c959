"""A Celery app with a workflow, for the processes that the tests start."""

import os

from celery import Celery

from orchestrator import Orchestrator, workflow

app = Celery("shop", broker=os.environ["SHOP_BROKER"])
app.conf.worker_prefetch_multiplier = 1
orc = Orchestrator(app)


@app.task
def add(first: int, second: int) -> int:
    """Return the sum."""
    return first + second


@orc.workflow
async def sums(count: int) -> int:
    """Return 0 + 1 + … + (count - 1), one step each."""
    total = 0
    for number in range(count):
        total = await workflow.step(add, total, number)
    return total


@orc.workflow
async def waiting() -> int:
    """Return what the signal "go" brings."""
    brought: int = await workflow.signal("go", int)
    return brought
