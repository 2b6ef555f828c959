"""Starts, in memory: the twin of start_run.lua."""

from collections.abc import Mapping

from orchestrator.core.limits import JOINED_REQUESTS_MAX
from orchestrator.core.values import Json, canonical
from orchestrator.store import memory_index
from orchestrator.store.memory_partition import Partition
from orchestrator.store.ports import Kind, RunKey, Start, StartAnswer
from orchestrator.store.rows import fields_of_start

Message = tuple[Kind, Mapping[str, Json]]


def start(
    part: Partition,
    workflow_id: str,
    request_id: str,
    body: Mapping[str, Json],
    message: Message | None,
    now_ms: int,
) -> Start:
    """See `ClientStore.start`."""
    row, run = part.rows.get(workflow_id), 1
    joined: list[str] = []
    if row is not None:
        run = int(row["run"]) + 1
        joined = row.get("joined", "").split()
        if row["request"] == request_id or request_id in joined:
            return _answer(StartAnswer.REPEATED, row)
        if workflow_id in part.open:
            if message is not None:
                row["joined"] = " ".join([*joined, request_id][-JOINED_REQUESTS_MAX:])
                _post(part, workflow_id, int(row["run"]), message)
            return _answer(StartAnswer.EXISTS, row)
    row = {
        "run": str(run),
        "status": "pending",
        "type": str(body["workflow"]),
        "request": request_id,
        "started_at_ms": str(now_ms),
        "seq": "0",
        **fields_of_start(body),
    }
    if joined:
        # These requests are of the id, not of the run.
        row["joined"] = " ".join(joined)
    replace_row(part, workflow_id, row)
    part.open[workflow_id] = now_ms
    _post(part, workflow_id, run, (Kind.START, body))
    if message is not None:
        _post(part, workflow_id, run, message)
    return _answer(StartAnswer.STARTED, row)


def replace_row(part: Partition, workflow_id: str, row: dict[str, str]) -> None:
    """Make `row` the id's latest, and keep the one before under its own run."""
    before = part.rows.get(workflow_id)
    if before is not None:
        part.past[RunKey(workflow_id=workflow_id, run=int(before["run"]))] = before
    part.rows[workflow_id] = row
    memory_index.add(part, workflow_id, row)


def _post(part: Partition, workflow_id: str, run: int, message: Message) -> None:
    kind, body = message
    part.post(kind, workflow_id, run, canonical(dict(body)))


def _answer(answer: StartAnswer, row: Mapping[str, str]) -> Start:
    return Start(answer=answer, run=int(row["run"]), status=row["status"])
