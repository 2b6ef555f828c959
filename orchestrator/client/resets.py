"""Runs that go on from an event of a history: asked for, and looked at beforehand.

See `core.resetting` for what is kept and what is refused.

CR1  A run that is open is reset by its owner, in one commit; whoever asks waits until its history
     says what became of that.  Where a run has ended, and for a fork, a start is sent.
CR2  A request has one id: sent again, it opens no second run.
CR3  Everything is looked at here first, so that a mistake is the caller's at once; what the run did
     meanwhile its owner judges.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from orchestrator.client import conflicts
from orchestrator.client.exporting import stored_events
from orchestrator.client.ids import checked_workflow_id, new_request_id
from orchestrator.client.messages import Target
from orchestrator.client.reading import describe, ridden_out
from orchestrator.client.session import Session
from orchestrator.client.summary import RunSummary, history_event_of
from orchestrator.core.errors import ResetRefused
from orchestrator.core.events import (
    ENDINGS,
    Event,
    HistoryCopied,
    RequestRejected,
    RunReset,
    RunStarted,
)
from orchestrator.core.names import checked_reason
from orchestrator.core.resetting import (
    Cut,
    LostStep,
    Origin,
    changed,
    check,
    cut_at,
    event_before,
    lost_steps,
    start_of,
)
from orchestrator.core.values import Json
from orchestrator.payloads import encode_payload
from orchestrator.store.ports import Kind

#: Seconds that are waited for the owner of a run that is open.
RESET_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetOptions:
    """From where, and how.

    Args:
        at: Number of an event, or the name of a step: then the input before it was first ordered.
        reapply_signals: Whether signals that came later are received again.
        despite_effects: Whether it is done although a saga's steps are dropped, kept as done after
            they were undone, or left to two runs; whoever says so sees to them.
        reason: Why, for people.
        by: Who, for people.
    """

    at: int | str
    reapply_signals: bool = True
    despite_effects: bool = False
    reason: str = ""
    by: str = ""

    def __post_init__(self) -> None:
        checked_reason("reason", self.reason)
        checked_reason("by", self.by)


class ResetHow(TypedDict, total=False):
    """The same, but for `at`, as keyword arguments."""

    reapply_signals: bool
    despite_effects: bool
    reason: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPlan:
    """What a reset or a fork would do.

    Args:
        workflow_id: Whose history it is.
        run: Its number.
        event: Which event was named.
        kept: Events that are copied; the next one, where it is an input, is given again.
        signals: Signals behind the cut, which are received again unless that is not wanted.
        lost: Steps behind the cut, which the run that goes on knows nothing of.
        problem: Why it is refused, or "".
    """

    workflow_id: str
    run: int
    event: int
    kept: int
    signals: int
    lost: Sequence[LostStep]
    problem: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        return {
            "workflow_id": self.workflow_id,
            "run": self.run,
            "event": self.event,
            "kept": self.kept,
            "signals": self.signals,
            "lost": [
                {"step": one.step, "task": one.task, "event": one.event, "effect": one.is_effect}
                for one in self.lost
            ],
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class _Source:
    """A history, and where it is cut."""

    summary: RunSummary
    events: Sequence[Event]
    event: int
    cut: Cut
    head: str

    @property
    def started(self) -> RunStarted:
        first = self.events[0]
        assert isinstance(first, RunStarted), "a history begins with RunStarted"
        return first


async def plan(
    session: Session, target: Target, options: ResetOptions, *, is_fork: bool = False
) -> ResetPlan:
    """Return what `reset`, or `fork`, would do.

    Raises:
        ResetRefused: There is no such event or step.
        RunNotFound: No run has this id.
        StoreUnavailable: No answer.
    """
    found = await _look(session, target, options)
    problem = ""
    try:
        check(found.cut, is_fork=is_fork, despite_effects=options.despite_effects)
        if not is_fork:
            await _check_latest(session, found.summary)
    except ResetRefused as error:
        problem = str(error)
    return ResetPlan(
        workflow_id=found.summary.workflow_id,
        run=found.summary.run,
        event=found.event,
        kept=found.cut.last,
        signals=len(found.cut.later_signals()),
        lost=lost_steps(found.cut),
        problem=problem,
    )


async def reset(
    session: Session,
    target: Target,
    options: ResetOptions,
    request_id: str = "",
    batch: str = "",
) -> int:
    """Let the next run of the id go on from an event of this one; return the next run's number.

    The run ends, if it is open.  The same request id again is the same request.  A run that was
    made by a request whose id begins with `batch` is left alone, and its own number returned.

    Raises:
        ResetRefused: No run can go on from there, or it is not the id's latest one.
        RunNotFound: No run has this id.
        RunExists: It had ended, and another run of its id began at this moment.
        TimeoutError: No orchestrator has taken the request within `RESET_TIMEOUT_S`; it lies in the
            inbox, and is taken later.
        StoreUnavailable: No answer; repeat it under the same id.
    """
    request_id = request_id or new_request_id()
    await _begun(session, target)
    found = await _look(session, target, options)
    key = found.summary.key
    if batch and _is_made_by(found.events, batch):
        return key.run
    if _is_by(found.events[-1], request_id):
        return key.run + 1
    await _check_latest(session, found.summary)
    _check(found, options, is_fork=False)
    if not found.summary.is_closed:
        run = await _ask_owner(session, found, options, request_id)
        if run:
            return run
        found = await _look(session, target, options)  # It ended by itself meanwhile.
        _check(found, options, is_fork=False)
    return await _open(session, key.workflow_id, found, options, {}, request_id)


async def fork(
    session: Session,
    target: Target,
    workflow_id: str,
    options: ResetOptions,
    changes: Mapping[str, Any],
) -> int:
    """Let a run of another id go on from an event of this one, which is left alone.

    Args:
        session: The way to the store.
        target: Whose history it is.
        workflow_id: The id of the fork.
        options: From where, and how.
        changes: What is to be other than recorded: "args", the positional input, and "payload",
            what the named event brings.

    Raises: What `reset` does, and:
        InvalidWorkflowId: `workflow_id` cannot be part of keys.
        InvalidPayload, PayloadTooLarge: A change that has no JSON form, or is beyond its bound.
    """
    encoded = {
        name: encode_payload(f"{name} of the fork", None, value, session.codec)
        for name, value in changes.items()
    }
    checked_workflow_id(workflow_id)
    found = await _look(session, target, options)
    try:
        changed(found.cut, encoded)
    except ResetRefused as error:
        raise _about(found.summary, error) from None
    _check(found, options, is_fork=True)
    return await _open(session, workflow_id, found, options, encoded, new_request_id())


def _is_made_by(events: Sequence[Event], requests: str) -> bool:
    asked = [event.request_id for event in events if isinstance(event, RunStarted | HistoryCopied)]
    return any(each.startswith(requests) for each in asked)


async def _begun(session: Session, target: Target) -> None:
    """Wait until the run has begun, for up to `RESET_TIMEOUT_S`; not for one that is put off."""
    deadline = session.deadline(RESET_TIMEOUT_S)
    summary = await describe(session, target)
    while not summary.seq and summary.begins_at is None and (wait_ms := deadline.slice_ms()):
        wait = functools.partial(
            session.store.wait_for_event, summary.key, after_seq=0, wait_ms=wait_ms
        )
        await ridden_out(session, wait)
        summary = await describe(session, target)


async def _look(session: Session, target: Target, options: ResetOptions) -> _Source:
    summary = await describe(session, target)
    stored = [one async for one in stored_events(session, summary)]
    events = [history_event_of(one).event for one in stored]
    try:
        if not events:
            raise ResetRefused("it has not begun; is an orchestrator running?")
        if any(one.is_blank for one in stored):
            raise ResetRefused("it is sealed, and no key here opens it; was it shredded?")
        event = options.at if isinstance(options.at, int) else event_before(events, options.at)
        cut = cut_at(events, event)
    except ResetRefused as error:
        raise _about(summary, error) from None
    return _Source(summary, events, event, cut, stored[event - 1].head)


async def _check_latest(session: Session, summary: RunSummary) -> None:
    latest = await describe(session, Target(workflow_id=summary.workflow_id))
    if latest.run != summary.run and not latest.is_closed:
        raise _about(
            summary, f"run {latest.run} of the id is open; reset that one, or end it first"
        )


def _check(found: _Source, options: ResetOptions, *, is_fork: bool) -> None:
    try:
        check(found.cut, is_fork=is_fork, despite_effects=options.despite_effects)
    except ResetRefused as error:
        raise _about(found.summary, error) from None


def _is_by(ending: Event, request_id: str) -> bool:
    return isinstance(ending, RunReset) and ending.request_id == request_id


def _about(run: RunSummary, why: object) -> ResetRefused:
    return ResetRefused(f"{run.workflow_id} run {run.run}: {why}")


async def _ask_owner(
    session: Session, found: _Source, options: ResetOptions, request_id: str
) -> int:
    """Return the next run's number, once the owner has opened it; 0 if the run ended by itself."""
    key = found.summary.key
    body: dict[str, Json] = {
        "run": key.run,
        "event": found.event,
        "signals": options.reapply_signals,
        "despite_effects": options.despite_effects,
        "request_id": request_id,
        "reason": options.reason,
        "by": options.by,
    }
    await session.resend(lambda: session.store.post(key.workflow_id, Kind.RESET, body, run=key.run))
    # Where it is refused as closed, the history says how it ended: perhaps by an earlier sending.
    deadline, seq = session.deadline(RESET_TIMEOUT_S), found.summary.seq
    while True:
        read = functools.partial(session.store.read_history, key, after_seq=seq)
        for stored in await ridden_out(session, read):
            seq, event = stored.seq, history_event_of(stored).event
            if isinstance(event, RequestRejected) and event.request_id == request_id:
                raise _about(found.summary, event.reason)
            if isinstance(event, ENDINGS):
                return key.run + 1 if _is_by(event, request_id) else 0
        wait_ms = deadline.slice_ms()
        if not wait_ms:
            raise TimeoutError(
                f"{key.workflow_id} run {key.run} was not reset within {RESET_TIMEOUT_S} s; the "
                "request lies in its inbox; is an orchestrator running?"
            )
        wait = functools.partial(session.store.wait_for_event, key, after_seq=seq, wait_ms=wait_ms)
        await ridden_out(session, wait)


async def _open(
    session: Session,
    workflow_id: str,
    found: _Source,
    options: ResetOptions,
    changes: Mapping[str, Json],
    request_id: str,
) -> int:
    key = found.summary.key
    origin = Origin(
        id=key.workflow_id,
        run=key.run,
        event=found.event,
        head=found.head,
        signals=options.reapply_signals,
        request_id=request_id,
        reason=options.reason,
        by=options.by,
        changed=dict(changes),
    )
    body = {**start_of(found.started), "request_id": request_id, "origin": origin.as_json()}
    return await conflicts.start(session, workflow_id, body)
