"""Workflows: what should happen, in which order, and what is undone when it does not.

Rule of this layer: workflow code is replayed, so it knows `orchestrator.workflow` and the tasks it
orders, and reaches for nothing else.

    celery -A sagas worker          carries out steps
    celery -A sagas orchestrator    advances runs
    python -m sagas order           sends one order through, and tells what happens
    python -m sagas training        trains on digits, and shows how far it is
    python -m sagas stages          pretrains, fine-tunes and examines, and shows each stage
"""

from sagas import order
from sagas.app import app, orc
from tasks.app import TRAINS

__all__ = ["app", "orc", "order"]

if TRAINS:
    from sagas import stages, training

    __all__ += ["stages", "training"]
