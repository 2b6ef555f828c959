"""P3: the code, given the inputs of a history, orders what the history has; and nothing more."""

import json
from collections.abc import Sequence

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.events import decode
from orchestrator.core.replay import Replayed, replay
from orchestrator.store.ports import RunKey
from tests.simulation import histories, programs
from tests.simulation.broken import Broken
from tests.simulation.checks import Verdict
from tests.simulation.histories import Event

#: How a run may come to be blocked, where code with a bug was deployed.
_PLANTED = ("forbidden", "nondeterminism")


def check_replays(verdict: Verdict) -> None:
    """Replay every history with sound code.

    Raises:
        Broken: Code and history disagree, or a run was blocked without a reason.
    """
    for key, events in verdict.runs.items():
        for event in histories.of_type(events, "RunBlocked"):
            if not verdict.has_bugs or event["kind"] not in _PLANTED:
                raise Broken("P3", f"{key} was blocked", "no reason to", event)
        _replay(verdict, key, events)


def _replay(verdict: Verdict, key: RunKey, events: Sequence[Event]) -> None:
    try:
        replayed = replay(
            programs.definition(), key.workflow_id, key.run, [decode(event) for event in events]
        )
    except OrchestratorError as error:
        raise Broken("P3", f"replay of {key}", "the commands of its history", error) from error
    try:
        if not _has_ended_blocked(events):
            _compare(verdict, key, replayed)
    finally:
        replayed.execution.close()


def _has_ended_blocked(events: Sequence[Event]) -> bool:
    """Return whether the run was ended without its code, which did not fit."""
    moves = histories.of_type(events, "RunBlocked", "RunUnblocked")
    return bool(moves) and moves[-1]["type"] == "RunBlocked"


def _compare(verdict: Verdict, key: RunKey, replayed: Replayed) -> None:
    if replayed.pending:
        raise Broken("P3", f"replay of {key}", "nothing more than its history", replayed.pending)
    row = verdict.row_of(key)
    if row is None:
        return
    published = json.dumps(replayed.execution.published_state(), sort_keys=True)
    found = json.dumps(json.loads(row.get("state", "null")), sort_keys=True)
    if found != published:
        raise Broken("P3", f"published state of {key}", published, found)
