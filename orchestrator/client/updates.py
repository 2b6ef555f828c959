"""Updates, as a client sends them and learns what became of them.

The history has every word of it, so a caller reads the history: an orchestrator that dies, or an
answer that is lost, costs nothing but time.

CU1  An update id is one update: whoever sends it again, or asks for it by its id, gets the same
     outcome, from whichever run of the chain has taken it.
CU2  An update that was sent with a start follows its run: see `core.with_start`.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.client.ids import new_request_id
from orchestrator.client.messages import Target
from orchestrator.client.reading import describe, ridden_out
from orchestrator.client.session import Session
from orchestrator.client.summary import history_event_of
from orchestrator.core.errors import (
    InvalidPayload,
    RunClosed,
    RunNotFound,
    UsageError,
    WorkflowUpdateFailed,
    WorkflowUpdateRejected,
)
from orchestrator.core.events import (
    ENDINGS,
    Event,
    RunStarted,
    UpdateAccepted,
    UpdateCompleted,
    UpdateFailed,
    UpdateReceived,
    UpdateRejected,
)
from orchestrator.core.failure import Failure
from orchestrator.core.interceptors import UpdateWorkflow
from orchestrator.core.names import checked_name
from orchestrator.core.run_retry import goes_on
from orchestrator.core.seen import update_digest
from orchestrator.core.values import Json
from orchestrator.core.with_start import WithStart, again_in
from orchestrator.payloads import encode_payload
from orchestrator.store.ports import Kind, PostedAnswer, RunKey, StartAnswer

#: What `start_update` may wait for.
STAGES = ("accepted", "completed")
#: Seconds `start_update` waits for the update's acceptance unless told otherwise.
ACCEPT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An update on its way.

    `after_seq` is where its run's history stood before; `with_start` what it was sent with (CU2),
    and `posted_run` the run that it was posted to then.
    """

    target: Target
    name: str
    update_id: str
    after_seq: int = 0
    with_start: WithStart | None = None
    posted_run: int = 0


def checked_stage(wait_for: str) -> None:
    """Raise unless `wait_for` is one of the stages.

    Raises:
        UsageError: It is not.
    """
    if wait_for not in STAGES:
        raise UsageError(f"wait_for is {wait_for!r}; it is one of {', '.join(STAGES)}")


def body_of(session: Session, name: str, args: tuple[Any, ...], update_id: str) -> dict[str, Json]:
    """Return what an update says.

    Raises:
        InvalidPayload, PayloadTooLarge: Arguments that have no JSON form, or too much of it.
    """
    checked_name("name of an update", name)
    checked_name("id of an update", update_id)
    encoded = encode_payload(f"arguments of update {name!r}", None, list(args), session.codec)
    return {"update": name, "update_id": update_id, "args": encoded}


async def send(
    session: Session, target: Target, name: str, args: tuple[Any, ...], update_id: str | None
) -> Sent:
    """Send an update and return it; it may be rejected yet.

    Raises:
        InvalidPayload, PayloadTooLarge: See `body_of`; nothing was sent.
        RunNotFound, RunClosed: No open run takes it.
        StoreUnavailable: No answer; repeat it under the same id.
    """
    made: list[Sent] = []

    async def post(call: UpdateWorkflow) -> str:
        made.append(await _send(session, target, call, is_new=update_id is None))
        return call.update_id

    call = UpdateWorkflow(
        workflow_id=target.workflow_id,
        run=target.run,
        update=name,
        args=args,
        update_id=update_id or new_request_id(),
    )
    await session.intercepted("update_workflow", post)(call)
    if not made:
        raise UsageError(f"an interceptor did not send update {name!r}: it proceeds, or raises")
    return made[-1]


async def _send(session: Session, target: Target, call: UpdateWorkflow, *, is_new: bool) -> Sent:
    name, update_id = call.update, call.update_id
    body = body_of(session, name, call.args, update_id)
    # One that was sent before may have its outcome anywhere in the history (CU1).
    known = await describe(session, target) if is_new else None
    posted = await session.resend(
        lambda: session.store.post(target.workflow_id, Kind.UPDATE, body, run=target.run)
    )
    if posted.answer is PostedAnswer.NOT_FOUND:
        raise RunNotFound(target.workflow_id)
    target = replace(target, run=posted.run)
    after_seq = known.seq if known is not None and known.run == posted.run else 0
    sent = Sent(target=target, name=name, update_id=update_id, after_seq=after_seq)
    if posted.answer is not PostedAnswer.CLOSED:
        return sent
    taken = await _where_taken(session, sent)
    if taken is None:
        raise RunClosed(target.workflow_id, posted.run, posted.status)
    return taken


async def wait(
    session: Session, sent: Sent, stage: str, timeout_s: float | None, kind: Any = None
) -> Any:
    """Wait until the update has come to `stage`; return its result, as `kind` or JSON, or None.

    Raises:
        WorkflowUpdateRejected: The workflow does not take it.
        WorkflowUpdateFailed: It failed, or the run ended before it was through.
        RunClosed: The run ended before it took the update.
        TimeoutError: It has not come so far within `timeout_s` seconds; it goes on.
        InvalidPayload: The result is no `kind`.
        StoreUnavailable: No answer for longer than a restart takes.
    """
    deadline, seq = session.deadline(timeout_s), sent.after_seq
    is_accepted = False
    while True:
        key = RunKey(workflow_id=sent.target.workflow_id, run=sent.target.run)
        read = functools.partial(session.store.read_history, key, after_seq=seq)
        for stored in await ridden_out(session, read):
            seq, event = stored.seq, history_event_of(stored).event
            if _is_about(event, sent):
                if isinstance(event, UpdateCompleted):
                    return _value(session, sent, event, kind)
                is_accepted |= _check(event, sent)
                if is_accepted and stage == "accepted":
                    return None
            elif isinstance(event, RunStarted) and update_digest(sent.update_id) in event.seen:
                sent, seq = await _taken_before(session, sent), 0
                break
            elif isinstance(event, ENDINGS):
                sent, seq = await _after_end(session, sent, event, is_accepted=is_accepted), 0
                break
        else:
            wait_ms = deadline.slice_ms()
            if not wait_ms:
                raise _too_slow(sent, stage, timeout_s)
            await ridden_out(
                session,
                functools.partial(
                    session.store.wait_for_event, key, after_seq=seq, wait_ms=wait_ms
                ),
            )


def _too_slow(sent: Sent, stage: str, timeout_s: float | None) -> TimeoutError:
    return TimeoutError(
        f"update {sent.name!r} of {sent.target.workflow_id} was not {stage} within {timeout_s} s; "
        f"it goes on, and the id {sent.update_id} finds it again; is an orchestrator running?"
    )


def _is_about(event: Event, sent: Sent) -> bool:
    return (
        isinstance(event, UpdateAccepted | UpdateRejected | UpdateCompleted | UpdateFailed)
        and event.update_id == sent.update_id
    )


def _check(event: Event, sent: Sent) -> bool:
    """Return whether `event` accepts the update; raise where it is an end without an answer."""
    target = sent.target
    if isinstance(event, UpdateRejected):
        raise WorkflowUpdateRejected(target.workflow_id, sent.name, sent.update_id, event.reason)
    if isinstance(event, UpdateFailed):
        raise WorkflowUpdateFailed(
            target.workflow_id, sent.name, sent.update_id, "failed", event.failure
        )
    return isinstance(event, UpdateAccepted)


async def _after_end(session: Session, sent: Sent, ending: Event, *, is_accepted: bool) -> Sent:
    """Return the update where it goes on after its run's end (CU2), or say that it does not."""
    target = sent.target
    words = type(ending).__name__
    is_known = is_accepted or await _where_taken(session, sent) is not None
    if goes_on(ending) and not is_known:
        return replace(sent, target=replace(target, run=target.run + 1), after_seq=0)
    if is_known:
        failure = Failure(type=words, message=f"run {target.run} ended before it was through")
        raise WorkflowUpdateFailed(
            target.workflow_id, sent.name, sent.update_id, "unfinished", failure
        )
    # As the owner makes it, who knows the entry by the run that it was posted to (WS2).
    posted_run = sent.posted_run or target.run
    again = None if sent.with_start is None else again_in(sent.with_start.message, posted_run)
    if again is None:
        raise RunClosed(target.workflow_id, target.run, words)
    started = await session.resend(
        lambda: session.store.start(
            target.workflow_id,
            request_id=again.request_id,
            body=again.start,
            message=(Kind.UPDATE, again.message),
        )
    )
    if started.answer is StartAnswer.BARRED:
        raise RunClosed(target.workflow_id, target.run, words)
    return replace(
        sent,
        target=replace(target, run=started.run),
        with_start=again,
        posted_run=started.run,
        after_seq=0,
    )


async def _where_taken(session: Session, sent: Sent) -> Sent | None:
    """Return the update at the run that has taken it: its own, or one before it in the chain."""
    run = sent.target.run
    while run:
        key = RunKey(workflow_id=sent.target.workflow_id, run=run)
        before = 0
        for stored in await session.resend(functools.partial(session.store.read_history, key)):
            event = history_event_of(stored).event
            if isinstance(event, UpdateReceived) and event.update_id == sent.update_id:
                return replace(sent, target=replace(sent.target, run=run), after_seq=0)
            if isinstance(event, RunStarted) and update_digest(sent.update_id) in event.seen:
                before = event.continued_from
        run = before
    return None


async def _taken_before(session: Session, sent: Sent) -> Sent:
    """Return the update at the earlier run of its chain that has taken it."""
    taken = await _where_taken(session, sent)
    if taken is None:
        target = sent.target
        message = f"a run before run {target.run} has taken it, and its history is gone"
        failure = Failure(type="HistoryGone", message=message)
        raise WorkflowUpdateFailed(
            target.workflow_id, sent.name, sent.update_id, "unfinished", failure
        )
    return taken


def _value(session: Session, sent: Sent, event: UpdateCompleted, kind: Any) -> Any:
    value = session.resolved(event.result)
    try:
        return session.codec.decode(kind, value)
    except ValueError as error:
        subject = f"result of update {sent.name!r} of {sent.target.workflow_id}"
        raise InvalidPayload(subject, str(error)) from None
