"""What a client writes: starts, signals, questions, requests to stop.

M1  Everything is validated here before it is sent, so that a mistake is the caller's at once and
    never the run's later.
M2  A message counts as delivered if one of its sendings was; a run that ended between two sendings
    is asked whether its history has the message.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.client import conflicts
from orchestrator.client.ids import checked_workflow_id, new_request_id
from orchestrator.client.session import Session
from orchestrator.client.summary import history_event_of
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import (
    ApplicationError,
    InvalidPayload,
    OrchestratorError,
    QueryTimeout,
    RunClosed,
    RunNotFound,
    UnknownQuery,
)
from orchestrator.core.events import CancelRequested, SignalReceived, TerminateRequested
from orchestrator.core.interceptors import (
    QueryWorkflow,
    SignalWorkflow,
    StartWorkflow,
    StopWorkflow,
    checked_headers,
)
from orchestrator.core.names import checked_name, checked_reason
from orchestrator.core.own_signals import RESEED, is_reserved, why_refused
from orchestrator.core.start_policies import IdConflictPolicy
from orchestrator.core.values import Json
from orchestrator.core.versions import named_version, of_version
from orchestrator.payloads import encode_payload
from orchestrator.store.ports import Kind, Posted, PostedAnswer, RunKey

#: Seconds a query waits for its answer unless told otherwise.
QUERY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The run a handle is about; `run` 0 is the latest one of its id.

    `definition` is the workflow where the caller knows it, else it is looked up by the run's type.
    """

    workflow_id: str
    run: int = 0
    definition: WorkflowDefinition | None = None


async def start(
    session: Session,
    definition: WorkflowDefinition,
    call: StartWorkflow,
    said: Mapping[str, Json] | None = None,
    conflict: IdConflictPolicy = IdConflictPolicy.FAIL,
) -> int:
    """Open a run, unless an interceptor has it otherwise, and return its number.

    `said` is what `StartOptions.as_body` returned.

    Raises: See `conflicts.start`.
    """

    async def send(call: StartWorkflow) -> int:
        body = {**start_body(session, definition, call), "request_id": new_request_id()}
        return await conflicts.start(session, call.workflow_id, {**body, **(said or {})}, conflict)

    return await session.intercepted("start_workflow", send)(call)


def start_body(
    session: Session, definition: WorkflowDefinition, call: StartWorkflow
) -> dict[str, Json]:
    """Return what a START says of a call that has passed the interceptors.

    Raises:
        InvalidWorkflowId, PayloadTooLarge, UsageError: An interceptor made of it what cannot be.
    """
    checked_workflow_id(call.workflow_id)
    headers = checked_headers(call.headers)
    body: dict[str, Json] = {"workflow": call.workflow, "args": call.args, "kwargs": call.kwargs}
    if call.workflow == definition.name:
        body |= named_version(session.registry, definition)
    return {**body, "headers": headers} if headers else body


async def signal(
    session: Session, target: Target, name: str, payload: Any, signal_id: str | None
) -> str:
    """Send a signal and return its id.  The same id again is the same signal, and changes nothing.

    Raises:
        InvalidPayload: The workflow declares its signals, and this is none of them, or its payload
            does not validate.
        PayloadTooLarge: The payload as JSON is beyond its bound.
        RunNotFound, RunClosed: No open run takes it.
        StoreUnavailable: No answer; repeat it under the same id.
    """

    async def send(call: SignalWorkflow) -> str:
        checked_name("id of a signal", call.signal_id)
        definition = await _definition_of(session, target)
        encoded = signal_payload(session, definition, call.signal, call.payload)
        body: dict[str, Json] = {
            "signal": call.signal,
            "signal_id": call.signal_id,
            "payload": encoded,
        }
        await _deliver(session, target, Kind.SIGNAL, body, call.signal_id)
        return call.signal_id

    call = SignalWorkflow(
        workflow_id=target.workflow_id,
        run=target.run,
        signal=name,
        payload=payload,
        signal_id=signal_id or new_request_id(),
    )
    return await session.intercepted("signal_workflow", send)(call)


async def reseed(
    session: Session, target: Target, seed: int | str, name: str | None, signal_id: str | None
) -> str:
    """Let the run's numpy generators, or the one of that name, go on from another seed.

    It is a signal of the engine's own, recorded as any other one; see `core.streams` for what it
    does.  `seed` is a whole number, or hex digits.  Returns and raises what `signal` does.
    """
    payload = {"seed": seed} if name is None else {"seed": seed, "name": name}
    return await signal(session, target, RESEED, payload, signal_id)


async def cancel(session: Session, target: Target, reason: str, request_id: str = "") -> None:
    """Ask the run to stop; its code may clean up.  Raises what `signal` does.

    The same request id again is the same request, and changes nothing.
    """
    await _stop(session, target, Kind.CANCEL, reason, request_id)


async def terminate(session: Session, target: Target, reason: str, request_id: str = "") -> None:
    """End the run without its code, but with its compensations; as `cancel`."""
    await _stop(session, target, Kind.TERMINATE, reason, request_id)


async def _stop(session: Session, target: Target, kind: Kind, reason: str, request_id: str) -> None:
    async def send(call: StopWorkflow) -> None:
        checked_reason("reason", call.reason)
        await _request(session, target, kind, call.reason, request_id)

    call = StopWorkflow(workflow_id=target.workflow_id, run=target.run, reason=reason)
    await session.intercepted(f"{kind.value}_workflow", send)(call)


async def query(
    session: Session, target: Target, name: str, args: tuple[Any, ...], timeout_s: float | None
) -> Json:
    """Return what the run's query handler answers.

    Raises:
        QueryTimeout: No orchestrator answered in time.
        UnknownQuery: The workflow has no such query.
        InvalidPayload: The arguments do not validate.
        ApplicationError: The handler failed; `type` names its exception.
        RunNotFound: No run has this id.
    """

    async def ask(call: QueryWorkflow) -> Json:
        return await _query(session, target, call, timeout_s)

    call = QueryWorkflow(workflow_id=target.workflow_id, run=target.run, query=name, args=args)
    return await session.intercepted("query_workflow", ask)(call)


async def _query(
    session: Session, target: Target, call: QueryWorkflow, timeout_s: float | None
) -> Json:
    name, args = checked_name("name of a query", call.query), call.args
    timeout_s = QUERY_TIMEOUT_S if timeout_s is None else timeout_s
    timeout_ms = round(timeout_s * 1000)
    subject = f"arguments of query {name!r}"
    encoded = encode_payload(subject, None, list(args), session.codec)
    reply_to = new_request_id()
    now_ms = await session.store.now_ms()
    body: dict[str, Json] = {
        "query": name,
        "args": encoded,
        "reply_to": reply_to,
        "deadline_ms": now_ms + timeout_ms,
    }
    deadline = session.deadline(timeout_s)
    posted = await session.resend(
        lambda: session.store.post(target.workflow_id, Kind.QUERY, body, run=target.run)
    )
    if posted.answer is PostedAnswer.NOT_FOUND:
        raise RunNotFound(target.workflow_id)
    while wait_ms := deadline.slice_ms():
        answer = await session.store.wait_for_answer(target.workflow_id, reply_to, wait_ms=wait_ms)
        if answer is not None:
            return _answer_value(target.workflow_id, name, answer)
    raise QueryTimeout(target.workflow_id, name, timeout_ms)


async def _request(
    session: Session, target: Target, kind: Kind, reason: str, request_id: str
) -> None:
    request_id = request_id or new_request_id()
    body: dict[str, Json] = {"reason": reason, "request_id": request_id}
    await _deliver(session, target, kind, body, request_id)


async def _deliver(
    session: Session, target: Target, kind: Kind, body: Mapping[str, Json], message_id: str
) -> None:
    posted = await session.resend(
        lambda: session.store.post(target.workflow_id, kind, body, run=target.run)
    )
    # M2: 1. a sending lands, its answer is lost; 2. the run takes it and ends; 3. the next
    # sending, of this call or of the caller's next one, finds the run closed.
    if posted.answer is PostedAnswer.CLOSED and await _has_message(
        session, target, posted.run, message_id
    ):
        return
    check_posted(target, posted)


async def _has_message(session: Session, target: Target, run: int, message_id: str) -> bool:
    key = RunKey(workflow_id=target.workflow_id, run=run)
    for stored in await session.store.read_history(key):
        event = history_event_of(stored).event
        if isinstance(event, SignalReceived) and event.signal_id == message_id:
            return True
        if (
            isinstance(event, CancelRequested | TerminateRequested)
            and event.request_id == message_id
        ):
            return True
    return False


def check_posted(target: Target, posted: Posted) -> None:
    """Raise `RunNotFound` or `RunClosed` where no open run took a message."""
    if posted.answer is PostedAnswer.NOT_FOUND:
        raise RunNotFound(target.workflow_id)
    if posted.answer is PostedAnswer.CLOSED:
        raise RunClosed(target.workflow_id, posted.run, posted.status)


async def _definition_of(session: Session, target: Target) -> WorkflowDefinition | None:
    if target.definition is not None:
        return target.definition
    row = await session.resend(lambda: session.store.find_row(target.workflow_id))
    if row is None:
        raise RunNotFound(target.workflow_id)
    return of_version(session.registry, row.get("type", ""), row.get("version", ""))


def signal_payload(
    session: Session, definition: WorkflowDefinition | None, name: str, payload: Any
) -> Json:
    """Return the payload as JSON; raises what `signal` does."""
    subject = f"signal {checked_name('name of a signal', name)!r}"
    kind: Any = None
    if is_reserved(name):
        encoded = encode_payload(subject, None, payload, session.codec)
        if reason := why_refused(name, encoded):
            raise InvalidPayload(subject, reason)
        return encoded
    if definition is not None and definition.signals is not None:
        if name not in definition.signals:
            known = ", ".join(sorted(definition.signals)) or "none"
            raise InvalidPayload(subject, f"{definition.name} takes: {known}")
        kind = definition.signals[name]
    return encode_payload(subject, kind, payload, session.codec)


def _answer_value(workflow_id: str, name: str, answer: dict[str, Json]) -> Json:
    if "ok" in answer:
        return answer["ok"]
    kind, message = str(answer.get("error", "")), str(answer.get("message", ""))
    error: OrchestratorError
    if kind == "UnknownQuery":
        # The message is the error's own text, which ends with the names.
        known = tuple(message.rpartition("known: ")[2].split(", "))
        error = UnknownQuery(workflow_id, name, known)
    elif kind == "InvalidPayload":
        subject, _, reason = message.partition(" does not validate: ")
        error = InvalidPayload(subject, reason)
    else:
        error = ApplicationError(message, kind or "QueryFailed")
    raise error
