"""What a client reads: a run's summary, result, state and history, and whether the history holds.

None of it needs an orchestrator or a worker: everything lies in the store.
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar, get_type_hints

from orchestrator.client.messages import Target
from orchestrator.client.session import (
    OUTAGE_MS_MAX,
    RESEND_PAUSE_MS,
    WAIT_MS_MAX,
    Deadline,
    Session,
)
from orchestrator.client.summary import (
    HistoryEvent,
    RunSummary,
    history_event_of,
    instant,
    summary_of,
)
from orchestrator.client.verifying import ChainCheck, Verification
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import (
    InvalidPayload,
    RunNotFound,
    StoreUnavailable,
    WorkflowFailed,
)
from orchestrator.core.events import (
    ENDINGS,
    Event,
    RunCancelled,
    RunCompleted,
    RunContinuedAsNew,
    RunFailed,
    RunReset,
    RunStarted,
    RunTerminated,
)
from orchestrator.core.failure import Failure
from orchestrator.core.resetting import failure_of
from orchestrator.core.run_retry import goes_on
from orchestrator.core.states import RunState
from orchestrator.core.versions import of_version
from orchestrator.store.ports import RunKey, StoredEvent

T = TypeVar("T")
#: Events read at a time where a history is looked through.
_PAGE_EVENTS = 1_000


async def describe(session: Session, target: Target) -> RunSummary:
    """Return the run at a glance.

    Raises:
        RunNotFound: No run has this id, or retention has removed it.
    """
    row = await session.resend(lambda: session.store.find_row(target.workflow_id))
    if row is None:
        raise RunNotFound(target.workflow_id)
    latest = summary_of(target.workflow_id, row)
    if target.run in (0, latest.run):
        return latest
    (row,) = await session.resend(
        lambda: session.store.read_rows([(target.workflow_id, target.run)])
    )
    if row is not None:
        return summary_of(target.workflow_id, row)
    return await _describe_earlier(session, target)


async def result(session: Session, target: Target, timeout_s: float | None) -> Any:
    """Wait for the run's end and return its result, as the type the workflow declares.

    A run that is continued as new, or attempted again, is waited for to the end of its chain.

    Raises:
        WorkflowFailed: It ended without one.
        TimeoutError: It has not ended within `timeout_s` seconds; it goes on.
        RunNotFound: No run has this id.
        StoreUnavailable: No answer for longer than a restart takes.
    """
    deadline = session.deadline(timeout_s)
    summary = await ridden_out(session, lambda: describe(session, target))
    # From here on this run, also if another one of the id follows it.
    target = Target(workflow_id=target.workflow_id, run=summary.run, definition=target.definition)
    while not summary.is_closed or summary.goes_on:
        if summary.is_closed:
            target = replace(target, run=summary.run + 1)
            summary = await ridden_out(session, functools.partial(describe, session, target))
            continue
        wait_ms = deadline.slice_ms()
        if not wait_ms:
            raise TimeoutError(
                f"{target.workflow_id} run {summary.run} is {summary.status} after {timeout_s} s"
            )
        await ridden_out(session, functools.partial(_wait, session, summary, wait_ms))
        summary = await ridden_out(session, functools.partial(describe, session, target))
    if summary.status != RunState.COMPLETED.value:
        raise WorkflowFailed(summary.workflow_id, summary.run, summary.status, summary.failure)
    return _result_of(session, target, summary)


async def state(session: Session, target: Target, kind: Any) -> Any:
    """Return what the run published last, as `kind` or as JSON; None where it published nothing.

    Raises:
        RunNotFound: No run has this id.
        InvalidPayload: It is no `kind`.
    """
    published = (await describe(session, target)).state
    if kind is None or published is None:
        return published
    try:
        return session.codec.decode(kind, published)
    except ValueError as error:
        raise InvalidPayload(f"state of {target.workflow_id}", str(error)) from None


async def history(
    session: Session, target: Target, *, after: int = 0, limit: int | None = None
) -> list[HistoryEvent]:
    """Return the events of the run, oldest first; [] for one that no orchestrator has seen yet.

    Only those behind event number `after`, and at most `limit`: a long history is best read page
    by page.

    Raises:
        RunNotFound: No run has this id.
        ValueError: An entry that is no event of this version; `verify` says which.
    """
    key = (await describe(session, target)).key
    stored = await session.resend(
        lambda: session.store.read_history(key, after_seq=after, count=limit)
    )
    return [history_event_of(each) for each in stored]


async def verify(session: Session, target: Target) -> Verification:
    """Recompute the hash chain over the run's history and name the first event that breaks it.

    Raises:
        RunNotFound: No run has this id.
    """
    # The row first: what is appended meanwhile is longer than the row says, never shorter.
    summary = await describe(session, target)
    check, seq, head = ChainCheck(summary.key), 0, ""
    while page := await _page(session, summary.key, seq):
        check.add(page)
        seq = page[-1].seq
        head = next((each.head for each in page if each.seq == summary.seq), head)
        if len(page) < _PAGE_EVENTS:
            break
    if check.found().events < summary.seq:
        events = check.found().events
        check.note(events + 1, f"missing: the row counts {summary.seq} events")
    elif summary.seq and head != summary.head:
        check.note(summary.seq, "the row has another head")
    return check.found()


async def _page(session: Session, key: RunKey, seq: int) -> list[StoredEvent]:
    return await session.resend(
        lambda: session.store.read_history(key, after_seq=seq, count=_PAGE_EVENTS)
    )


def result_type(definition: WorkflowDefinition | None) -> Any:
    """Return what the workflow's function says it returns; None where it says nothing."""
    if definition is None:
        return None
    return get_type_hints(definition.function, include_extras=True).get("return")


async def _wait(session: Session, summary: RunSummary, wait_ms: int) -> bool:
    return await session.store.wait_for_event(summary.key, after_seq=summary.seq, wait_ms=wait_ms)


async def ridden_out(session: Session, read: Callable[[], Awaitable[T]]) -> T:
    """Return what `read` returns; it sits out an outage of the store (R2 in the session)."""
    # Reading may be repeated for as long as the store is away; see R2 in the session.
    away = Deadline(OUTAGE_MS_MAX / 1000)
    pause_ms = RESEND_PAUSE_MS
    while True:
        try:
            return await read()
        except StoreUnavailable:
            if not away.slice_ms():
                raise
            await session.pause(pause_ms / 1000)
            pause_ms = min(WAIT_MS_MAX, pause_ms * 2)


def _result_of(session: Session, target: Target, summary: RunSummary) -> Any:
    known = of_version(session.registry, summary.type, summary.version)
    definition = target.definition or known
    value = session.resolved(summary.result)
    try:
        return session.codec.decode(result_type(definition), value)
    except ValueError as error:
        raise InvalidPayload(f"result of {target.workflow_id}", str(error)) from None


async def _describe_earlier(session: Session, target: Target) -> RunSummary:
    """Return a run that is no longer the latest of its id, and has no row, from its history."""
    key = RunKey(workflow_id=target.workflow_id, run=target.run)
    stored = await session.resend(lambda: session.store.read_history(key))
    events = [history_event_of(entry).event for entry in stored]
    if not events or not isinstance(started := events[0], RunStarted):
        raise RunNotFound(f"{target.workflow_id} run {target.run}")
    ended = next((event for event in reversed(events) if isinstance(event, ENDINGS)), None)
    assert ended is not None, "a run that another one follows has ended"
    state, failure = end_of(ended)
    return RunSummary(
        workflow_id=key.workflow_id,
        run=key.run,
        type=started.workflow,
        status=state.value,
        version=started.version,
        started_at=instant(started.at_ms),
        closed_at=instant(ended.at_ms),
        seq=len(stored),
        head=stored[-1].head,
        result=ended.result if isinstance(ended, RunCompleted) else None,
        failure=failure,
        is_retried=isinstance(ended, RunFailed | RunReset) and goes_on(ended),
    )


def end_of(ended: Event) -> tuple[RunState, Failure | None]:
    """Return the status that an ending leads to, and the failure: None where it completed."""
    match ended:
        case RunFailed():
            return RunState.FAILED, ended.failure
        case RunCancelled():
            return RunState.CANCELLED, Failure(type="Cancelled", message=ended.reason)
        case RunContinuedAsNew():
            return RunState.CONTINUED_AS_NEW, None
        case RunTerminated():
            return RunState.TERMINATED, Failure(type="Terminated", message=ended.reason)
        case RunReset():
            return RunState.TERMINATED, failure_of(ended)
        case _:
            return RunState.COMPLETED, None
