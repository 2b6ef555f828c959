"""A start that finds a run of its id open, or a last one that it must not follow.

CO1  A start has one request id, however often it is sent and whatever it meets on the way: it opens
     one run at most.
CO2  TERMINATE_EXISTING is no single act.  It asks the open run to end, waits until it has, with
     what it compensates, and starts then.  In between nothing of the id may be open, or another
     start's run, which is terminated as well; two runs of the id are never open at once.  A caller
     that dies in between leaves a terminated run and no new one: it starts again.
"""

import functools

from orchestrator.client.session import Deadline, Session
from orchestrator.core.errors import DuplicateRun, RunExists, UsageError
from orchestrator.core.start_policies import IdConflictPolicy, IdReusePolicy
from orchestrator.core.states import CLOSED_STATUSES
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind, RunKey, Start, StartAnswer

#: How long TERMINATE_EXISTING waits for the end of what is open, in all.
TERMINATION_TIMEOUT_S = 30.0


async def start(
    session: Session,
    workflow_id: str,
    body: dict[str, Json],
    conflict: IdConflictPolicy = IdConflictPolicy.FAIL,
) -> int:
    """Open a run with this START; return its number, or the open run's where `conflict` says so.

    Raises:
        RunExists: A run of this id is open, started by another request, and `conflict` is FAIL; or
            it did not end within ``TERMINATION_TIMEOUT_S``.
        DuplicateRun: The body's reuse policy lets this start not follow the id's latest run.
        StoreUnavailable: No answer.  The run may have been started; start the same id again, and
            `RunExists` tells that it was.
        UsageError: The policies contradict each other; nothing was sent.
    """
    policy = str(body.get("id_reuse_policy") or IdReusePolicy.ALLOW_DUPLICATE.value)
    is_terminating = conflict is IdConflictPolicy.TERMINATE_EXISTING
    if is_terminating and policy == IdReusePolicy.REJECT_DUPLICATE.value:
        raise UsageError(
            "id_conflict_policy terminate_existing would end a run that id_reuse_policy "
            "reject_duplicate lets nothing follow; choose one of them"
        )
    answer = await _send(session, workflow_id, body)
    deadline = session.deadline(TERMINATION_TIMEOUT_S)
    while answer.answer is StartAnswer.EXISTS and is_terminating:
        if not await _is_terminated(session, workflow_id, answer.run, body, deadline):
            break
        answer = await _send(session, workflow_id, body)
    if answer.answer is StartAnswer.BARRED:
        raise DuplicateRun(workflow_id, answer.run, answer.status, policy)
    if answer.answer is StartAnswer.EXISTS and conflict is not IdConflictPolicy.USE_EXISTING:
        raise RunExists(workflow_id, answer.run, answer.status)
    return answer.run


async def _send(session: Session, workflow_id: str, body: dict[str, Json]) -> Start:
    request_id = str(body["request_id"])
    return await session.resend(
        lambda: session.store.start(workflow_id, request_id=request_id, body=body)
    )


async def _is_terminated(
    session: Session, workflow_id: str, run: int, body: dict[str, Json], deadline: Deadline
) -> bool:
    """Terminate a run and wait for its end; False where the time was over before."""
    asked: dict[str, Json] = {
        "reason": "another start of this id terminates it",
        "request_id": f"{body['request_id']}:{run}",
    }
    await session.resend(lambda: session.store.post(workflow_id, Kind.TERMINATE, asked, run=run))
    key = RunKey(workflow_id=workflow_id, run=run)
    while wait_ms := deadline.slice_ms():
        row = await session.resend(lambda: session.store.find_row(workflow_id))
        if row is None or row["run"] != str(run) or row["status"] in CLOSED_STATUSES:
            return True
        await session.resend(
            functools.partial(
                session.store.wait_for_event, key, after_seq=int(row["seq"]), wait_ms=wait_ms
            )
        )
    return False
