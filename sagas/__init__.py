"""Workflows: what should happen, in which order, and what is undone when it does not.

Rule of this layer: workflow code is replayed, so it knows `orchestrator.workflow` and the tasks it
orders, and reaches for nothing else.

    celery -A sagas worker          carries out steps
    celery -A sagas orchestrator    advances runs
    python -m sagas order           sends one order through, and tells what happens
"""

from sagas import order
from sagas.app import app, orc

__all__ = ["app", "orc", "order"]
