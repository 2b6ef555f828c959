"""A start and a message in one act: signal-with-start, update-with-start.

Either a run is opened and has the message right behind its start, or the run that is open gets the
message: nobody comes between.  Sent again after a lost answer, it changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.client import messages, updates
from orchestrator.client.ids import new_request_id
from orchestrator.client.messages import Target
from orchestrator.client.session import Session
from orchestrator.client.updates import Sent
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import DuplicateRun, UsageError
from orchestrator.core.interceptors import SignalWorkflow, StartWorkflow, UpdateWorkflow
from orchestrator.core.names import checked_name
from orchestrator.core.values import Json
from orchestrator.core.with_start import WithStart, with_start
from orchestrator.store.ports import Kind, StartAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class ToStart:
    """What is started, unless a run of the id is open."""

    workflow_id: str
    definition: WorkflowDefinition
    args: list[Json]
    kwargs: dict[str, Json]
    #: What `StartOptions.said_with_message` returned.
    said: Mapping[str, Json] = field(default_factory=dict)

    def call(self, message: SignalWorkflow | UpdateWorkflow) -> StartWorkflow:
        """Return it as the interceptors see it."""
        return StartWorkflow(
            workflow_id=self.workflow_id,
            workflow=self.definition.name,
            args=self.args,
            kwargs=self.kwargs,
            message=message,
        )

    def body(self, session: Session, call: StartWorkflow) -> dict[str, Json]:
        """Return the body of the start that `call` has become."""
        return {**messages.start_body(session, self.definition, call), **self.said}


async def signal_with_start(
    session: Session, start: ToStart, name: str, payload: Any, signal_id: str | None
) -> Target:
    """Signal the run that is open, or start one whose first signal this is; return the run.

    Raises:
        InvalidPayload, PayloadTooLarge: See `messages.signal`; nothing was sent.
        DuplicateRun: None is open, and the start's reuse policy lets it not follow the last one.
        StoreUnavailable: No answer; repeat it under the same signal id.
    """

    async def send(call: StartWorkflow) -> int:
        said = call.message
        if not isinstance(said, SignalWorkflow):
            raise UsageError(f"an interceptor took signal {name!r} from its start")
        encoded = messages.signal_payload(session, start.definition, said.signal, said.payload)
        body: dict[str, Json] = {
            "signal": said.signal,
            "signal_id": checked_name("id of a signal", said.signal_id),
            "payload": encoded,
        }
        both = with_start(new_request_id(), start.body(session, call), body)
        return await _send(session, call, Kind.SIGNAL, both)

    message = SignalWorkflow(
        workflow_id=start.workflow_id,
        run=0,
        signal=name,
        payload=payload,
        signal_id=signal_id or new_request_id(),
    )
    run = await session.intercepted("start_workflow", send)(start.call(message))
    return Target(workflow_id=start.workflow_id, run=run, definition=start.definition)


async def update_with_start(
    session: Session, start: ToStart, name: str, args: tuple[Any, ...], update_id: str | None
) -> Sent:
    """Send an update to the run that is open, or to one that is started for it.

    Raises:
        InvalidPayload, PayloadTooLarge: See `updates.send`; nothing was sent.
        DuplicateRun: None is open, and the start's reuse policy lets it not follow the last one.
        StoreUnavailable: No answer; repeat it under the same update id.
    """
    made: list[WithStart] = []

    async def send(call: StartWorkflow) -> int:
        said = call.message
        if not isinstance(said, UpdateWorkflow):
            raise UsageError(f"an interceptor took update {name!r} from its start")
        body = updates.body_of(session, said.update, said.args, said.update_id)
        made.append(with_start(new_request_id(), start.body(session, call), body))
        return await _send(session, call, Kind.UPDATE, made[-1])

    message = UpdateWorkflow(
        workflow_id=start.workflow_id,
        run=0,
        update=name,
        args=args,
        update_id=update_id or new_request_id(),
    )
    run = await session.intercepted("start_workflow", send)(start.call(message))
    if not made:
        raise UsageError(f"an interceptor did not send update {name!r}: it proceeds, or raises")
    sent = made[-1].message
    return Sent(
        target=Target(workflow_id=start.workflow_id, run=run, definition=start.definition),
        name=str(sent["update"]),
        update_id=str(sent["update_id"]),
        with_start=made[-1],
        posted_run=run,
    )


async def _send(session: Session, call: StartWorkflow, kind: Kind, both: WithStart) -> int:
    answer = await session.resend(
        lambda: session.store.start(
            call.workflow_id,
            request_id=both.request_id,
            body=both.start,
            message=(kind, both.message),
        )
    )
    if answer.answer is StartAnswer.BARRED:
        policy = str(both.start.get("id_reuse_policy"))
        raise DuplicateRun(call.workflow_id, answer.run, answer.status, policy)
    return answer.run
