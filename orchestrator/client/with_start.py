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
from orchestrator.core.errors import DuplicateRun
from orchestrator.core.values import Json
from orchestrator.core.versions import named_version
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

    def body(self, session: Session) -> dict[str, Json]:
        """Return the body of the start."""
        return {
            "workflow": self.definition.name,
            "args": self.args,
            "kwargs": self.kwargs,
            **named_version(session.registry, self.definition),
            **self.said,
        }


async def signal_with_start(
    session: Session, start: ToStart, name: str, payload: Any, signal_id: str | None
) -> Target:
    """Signal the run that is open, or start one whose first signal this is; return the run.

    Raises:
        InvalidPayload, PayloadTooLarge: See `messages.signal`; nothing was sent.
        DuplicateRun: None is open, and the start's reuse policy lets it not follow the last one.
        StoreUnavailable: No answer; repeat it under the same signal id.
    """
    encoded = messages.signal_payload(session, start.definition, name, payload)
    body: dict[str, Json] = {
        "signal": name,
        "signal_id": signal_id or new_request_id(),
        "payload": encoded,
    }
    return await _send(
        session, start, Kind.SIGNAL, with_start(new_request_id(), start.body(session), body)
    )


async def update_with_start(
    session: Session, start: ToStart, name: str, args: tuple[Any, ...], update_id: str | None
) -> Sent:
    """Send an update to the run that is open, or to one that is started for it.

    Raises:
        InvalidPayload, PayloadTooLarge: See `updates.send`; nothing was sent.
        DuplicateRun: None is open, and the start's reuse policy lets it not follow the last one.
        StoreUnavailable: No answer; repeat it under the same update id.
    """
    update_id = update_id or new_request_id()
    body = updates.body_of(session, name, args, update_id)
    both = with_start(new_request_id(), start.body(session), body)
    target = await _send(session, start, Kind.UPDATE, both)
    return Sent(target=target, name=name, update_id=update_id, with_start=both)


async def _send(session: Session, start: ToStart, kind: Kind, both: WithStart) -> Target:
    answer = await session.resend(
        lambda: session.store.start(
            start.workflow_id,
            request_id=both.request_id,
            body=both.start,
            message=(kind, both.message),
        )
    )
    if answer.answer is StartAnswer.BARRED:
        policy = str(both.start.get("id_reuse_policy"))
        raise DuplicateRun(start.workflow_id, answer.run, answer.status, policy)
    return Target(workflow_id=start.workflow_id, run=answer.run, definition=start.definition)
