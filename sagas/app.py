"""The orchestrator of the shop's Celery app, for workflows to register with."""

from orchestrator import Orchestrator
from tasks.app import app

__all__ = ["app", "orc"]

orc = Orchestrator(app)
