"""A Celery message in, an outcome out: what happens in the workers.

Rule of this layer: it holds no rights on histories.  It claims, runs, renews and posts through
`store.ports.WorkerStore`, and it never raises out of a Celery hook.
"""

from orchestrator.worker.installation import install
from orchestrator.worker.settings import recommended_settings

__all__ = ["install", "recommended_settings"]
