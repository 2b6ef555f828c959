"""What a person decides about a step, and what became of it.

DC1  A decision is sent once: a repeated "retry" might meet the next failure.
DC2  The history says whether it was taken, or refused and why; a refusal names the request.
"""

from dataclasses import dataclass

from orchestrator.client.ids import new_request_id
from orchestrator.client.messages import Target, check_posted
from orchestrator.client.session import Session
from orchestrator.client.summary import history_event_of
from orchestrator.core.errors import RunNotFound, UsageError
from orchestrator.core.events import (
    Event,
    RequestRejected,
    StepPaused,
    StepReset,
    StepUnparked,
    StepUnpaused,
)
from orchestrator.core.names import checked_reason
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind, RunKey

#: What a person can decide about a parked step.
DECISIONS = ("retry", "skip", "done")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision that was sent, and behind which event of the run what became of it stands."""

    key: RunKey
    after_seq: int
    request_id: str
    step: int
    decision: str
    reason: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a decision: it was taken, or refused with a reason."""

    is_taken: bool
    reason: str = ""


async def resolve(
    session: Session, target: Target, step: int, decision: str, *, reason: str, by: str
) -> Decided:
    """Decide about a parked step; recorded in the history with reason and name.

    Raises:
        UsageError: No such decision, or "skip" and "done" without a reason.
        RunNotFound, RunClosed: No open run takes it.
        StoreUnavailable: No answer.  Look at the history before you decide again (DC1).
    """
    if decision not in DECISIONS:
        raise UsageError(f"decision {decision!r}: one of {', '.join(DECISIONS)} is wanted")
    if decision != "retry" and not reason:
        raise UsageError(f"decision {decision!r} needs a reason; it goes into the history")
    return await decide(session, target, step, decision, reason=reason, by=by)


async def decide(
    session: Session, target: Target, step: int, decision: str, *, reason: str, by: str
) -> Decided:
    """Send a person's decision about a step, as it is; see `resolve` for what it raises."""
    checked_reason("reason", reason)
    checked_reason("by", by)
    row = await session.resend(lambda: session.store.find_row(target.workflow_id))
    if row is None:
        raise RunNotFound(target.workflow_id)
    request_id, run = new_request_id(), target.run or int(row["run"])
    body: dict[str, Json] = {"step": step, "decision": decision, "reason": reason, "by": by}
    # Steps are numbered by run: a run that goes on as the next one has another of this number.
    body |= {"for_run": run, "request_id": request_id}
    posted = await session.store.post(target.workflow_id, Kind.DECISION, body, run=target.run)
    check_posted(target, posted)
    is_same = posted.run == int(row["run"])
    return Decided(
        key=RunKey(workflow_id=target.workflow_id, run=posted.run),
        after_seq=int(row.get("seq") or 0) if is_same else 0,
        request_id=request_id,
        step=step,
        decision=decision,
        reason=reason,
        by=by,
    )


async def wait(session: Session, decided: Decided, timeout_s: float) -> Verdict | None:
    """Return what became of a decision; None where no orchestrator took it within the time.

    Raises:
        StoreUnavailable: No answer.
    """
    deadline, seq, key = session.deadline(timeout_s), decided.after_seq, decided.key
    while True:
        for stored in await session.store.read_history(key, after_seq=seq):
            verdict = _verdict(decided, history_event_of(stored).event)
            if verdict is not None:
                return verdict
            seq = stored.seq
        wait_ms = deadline.slice_ms()
        if not wait_ms:
            return None
        await session.store.wait_for_event(key, after_seq=seq, wait_ms=wait_ms)


def _verdict(decided: Decided, event: Event) -> Verdict | None:
    match event:
        case RequestRejected() if event.request_id == decided.request_id:
            return Verdict(is_taken=False, reason=event.reason)
        case StepUnparked():
            decision = event.decision
        case StepPaused():
            decision = "pause"
        case StepUnpaused():
            decision = "unpause"
        case StepReset():
            decision = "reset"
        case _:
            return None
    found = (event.step, decision, event.reason, event.by)
    is_ours = found == (decided.step, decided.decision, decided.reason, decided.by)
    return Verdict(is_taken=True) if is_ours else None
