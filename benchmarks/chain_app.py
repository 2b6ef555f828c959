"""The plain Celery side: tasks that do nothing, results in the same Redis or Valkey.

It knows nothing of the orchestrator, so that no hook of ours slows its worker down.
"""

from celery import Celery

from benchmarks.celery_settings import SETTINGS, URL

app = Celery("benchmark", broker=URL, backend=URL)
app.conf.update(SETTINGS)


@app.task
def nothing() -> None:
    """Do nothing."""
