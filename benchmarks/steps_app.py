"""The orchestrator's side: one workflow of as many steps as asked for, each doing nothing."""

from celery import Celery

from benchmarks.celery_settings import SETTINGS, URL
from orchestrator import Orchestrator, workflow

app = Celery("benchmark", broker=URL)
app.conf.update(SETTINGS)
orc = Orchestrator(app)


@app.task
def nothing() -> None:
    """Do nothing."""


@orc.workflow
async def steps(count: int) -> int:
    """Return `count`, after as many steps, one by one."""
    for _ in range(count):
        await workflow.step(nothing)
    return count
