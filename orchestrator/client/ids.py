"""Ids that nobody else has.  Which ids are possible at all: `core.ids`."""

import secrets

from orchestrator.core.ids import checked_workflow_id
from orchestrator.core.limits import WORKFLOW_ID_CHARS_MAX

__all__ = ["checked_workflow_id", "new_request_id", "new_workflow_id"]


def new_workflow_id(workflow: str) -> str:
    """Return an id for a run of `workflow` that nobody else has; its first part says what it is."""
    return f"{workflow[: WORKFLOW_ID_CHARS_MAX - 17]}-{secrets.token_hex(8)}"


def new_request_id() -> str:
    """Return what tells this request from every other one, its own repetitions excepted."""
    return secrets.token_hex(16)
