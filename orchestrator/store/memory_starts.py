"""Starts, in memory: the twin of start_run.lua."""

from collections.abc import Mapping

from orchestrator.core.limits import JOINED_REQUESTS_MAX, STARTS_REMEMBERED_MAX
from orchestrator.core.values import Json, canonical
from orchestrator.store import memory_index
from orchestrator.store.memory_partition import Partition
from orchestrator.store.ports import Kind, RunKey, Start, StartAnswer
from orchestrator.store.rows import barred_by, fields_of_start

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
    starts: list[str] = []
    if row is not None:
        run = int(row["run"]) + 1
        joined = row.get("joined", "").split()
        if row["request"] == request_id or request_id in joined:
            return _answer(StartAnswer.REPEATED, row)
        if (known := _find_start(part, workflow_id, row, request_id)) is not None:
            return _answer(StartAnswer.REPEATED, known)
        if workflow_id in part.open:
            if message is not None:
                row["joined"] = " ".join([*joined, request_id][-JOINED_REQUESTS_MAX:])
                _post(part, workflow_id, int(row["run"]), message)
            return _answer(StartAnswer.EXISTS, row)
        if row["status"] in barred_by(body):
            return _answer(StartAnswer.BARRED, row)
        starts = starts_after(row)
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
    if starts:
        row["starts"] = " ".join(starts[-STARTS_REMEMBERED_MAX:])
    replace_row(part, workflow_id, row)
    part.open[workflow_id] = now_ms
    _post(part, workflow_id, run, (Kind.START, body))
    if message is not None:
        _post(part, workflow_id, run, message)
    return _answer(StartAnswer.STARTED, row)


def starts_after(row: Mapping[str, str]) -> list[str]:
    """Return what the row that follows `row` keeps of the starts before it, oldest first."""
    starts = row.get("starts", "").split()
    # A run that continues another was opened by no start.
    return starts if "first" in row else [*starts, f"{row['run']}={row['request']}"]


def _find_start(
    part: Partition, workflow_id: str, row: Mapping[str, str], request_id: str
) -> Mapping[str, str] | None:
    """Return the row of the earlier run that `request_id` opened, or None."""
    for entry in row.get("starts", "").split():
        run, _, request = entry.partition("=")
        if request == request_id:
            return part.past[RunKey(workflow_id=workflow_id, run=int(run))]
    return None


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
