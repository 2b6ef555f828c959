"""An app whose task notes the order in which its bodies are entered."""

import os
from pathlib import Path

from celery import Celery

from orchestrator import Orchestrator, workflow

app = Celery("ranked", broker=os.environ["CELERY_BROKER_URL"])
app.conf.worker_prefetch_multiplier = 1
orc = Orchestrator(app)


@app.task
def note(name: str) -> None:
    """Add a line to the file of the order."""
    with (Path(os.environ["ACCEPTANCE_PLACE"]) / "order.txt").open("a") as file:
        file.write(f"{name}\n")


@orc.workflow
async def ranked(name: str, priority: int) -> None:
    """Order one step of a priority."""
    await workflow.step.options(queue="ranked", priority=priority)(note, name)
