"""An app whose task hands its token to a file and ends, long before its step does."""

import os
from pathlib import Path

from celery import Celery

from orchestrator import Orchestrator, Retry, step, workflow

app = Celery("tokens", broker=os.environ["CELERY_BROKER_URL"])
app.conf.worker_prefetch_multiplier = 1
orc = Orchestrator(app)


@app.task
def ask(question: str) -> None:
    """Leave the token where somebody finds it who has the answer."""
    info = step.current()
    assert info is not None
    file = Path(os.environ["ACCEPTANCE_PLACE"]) / f"{question}.{info.attempt}.token"
    # Whoever looks finds all of it, or none.
    written = file.with_suffix(".part")
    written.write_text(info.token)
    written.rename(file)
    raise step.complete_later()


@orc.workflow
async def asking(question: str, queue: str) -> dict[str, str]:
    """Return the answer to a question."""
    retry = Retry(attempts=3, factor=1.0)
    answer: dict[str, str] = await workflow.step.options(queue=queue, retry=retry)(ask, question)
    return answer
