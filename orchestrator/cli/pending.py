"""What an open run waits for, and what whoever looks may do about it: words, and facts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from orchestrator.cli.scanning import Scan
from orchestrator.cli.surroundings import Surroundings
from orchestrator.cli.tables import failure_text, moment
from orchestrator.client.summary import RunSummary, instant
from orchestrator.core import events as e
from orchestrator.core.ledger import StepEntry
from orchestrator.core.states import StepState
from orchestrator.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """One thing that is outstanding.

    Args:
        kind: In the plural, such as "steps".
        name: Such as "step 3".
        state: In a word or two.
        at: Since when, or when it is due.
        what: Its own names.
        why: What it waits for, in a line or more; "" where the state says it.
        data: The same for programs.
        is_waited_for: Whether the run may wait for it; a permit that it holds it does not.
    """

    kind: str
    name: str
    state: str
    at: datetime
    what: str
    why: str = ""
    data: dict[str, Json]
    is_waited_for: bool = True


def pending_of(scan: Scan, around: Surroundings) -> Iterator[Pending]:
    """Yield what is outstanding, by kind, each in the order of its numbers."""
    for number, entry in sorted(scan.ledger.steps.items()):
        yield _step(number, entry, scan, around)
    yield from _children(scan)
    yield from _timers(scan)
    yield from _permits(scan)
    for number, asked in sorted(scan.ledger.externals.items()):
        yield _external(number, asked)
    yield from _updates(scan)


def hints_of(run: RunSummary, scan: Scan, around: Surroundings) -> list[str]:
    """Return what else explains that an open run does not go on."""
    if run.is_closed:
        return []
    hints = []
    if around.unread:
        hints.append(f"claims and orchestrators could not be read: {around.unread}")
    if around.alive == 0:
        since = "lately"
        if around.silent_ms is not None:
            since = f"for {around.silent_ms // 1000} s"
        hints.append(f"no orchestrator has reported {since}; start `celery -A APP orchestrator`")
    is_moving = scan.ledger.started is not None and not run.blocked
    if is_moving and not any(each.is_waited_for for each in pending_of(scan, around)):
        hints.append(
            f"nothing is pending: it waits in its code, for a signal or a condition; "
            f"`workflow query {run.workflow_id} stack` says where"
        )
    return hints


def _step(number: int, entry: StepEntry, scan: Scan, around: Surroundings) -> Pending:
    row = around.rows.get(number, {})
    queue = around.queues.get(number, "")
    claim, worker = _claim(entry, row)
    failed = scan.failures.get(number)
    is_running = claim == "running" and _state_of(entry) == StepState.SCHEDULED.value
    data: dict[str, Json] = {
        "step": number,
        "task": entry.scheduled.task,
        "summary": entry.scheduled.summary,
        "state": _state_of(entry),
        "attempt": entry.attempt,
        "scheduled_at": instant(entry.scheduled_at_ms).isoformat(),
        "queue": queue,
        "resends": entry.resends,
        "claim": claim,
    }
    at = instant(entry.scheduled_at_ms)
    if worker:
        data["worker"] = worker
    if claim in ("running", "left") and row.get("heartbeat_at_ms"):
        data["heartbeat_at"] = instant(int(row["heartbeat_at_ms"])).isoformat()
    if failed is not None:
        data["last_failure"] = failed.failure.as_json()
    if isinstance(failed, e.StepAttemptFailed) and entry.state is StepState.BACKOFF:
        at = instant(failed.retry_at_ms)
        data["retry_at"] = at.isoformat()
    if entry.is_paused and number in scan.pauses:
        data["pause"] = {"reason": scan.pauses[number].reason, "by": scan.pauses[number].by}
    return Pending(
        kind="steps",
        name=f"step {number}",
        state=f"{'running' if is_running else _state_of(entry)}, attempt {entry.attempt}",
        at=at,
        what=f"{entry.scheduled.task}  {entry.scheduled.summary}".rstrip(),
        why="\n".join(_why_of_step(number, entry, scan, around)),
        data=data,
    )


def _why_of_step(number: int, entry: StepEntry, scan: Scan, around: Surroundings) -> Iterator[str]:
    failed, pause = scan.failures.get(number), scan.pauses.get(number)
    if entry.is_paused and pause is not None:
        reason = f": {pause.reason}" if pause.reason else ""
        yield f"paused by {pause.by or 'somebody'}{reason}"
    if entry.state is StepState.SCHEDULED:
        yield from _why_of_attempt(number, entry, around)
    elif isinstance(failed, e.StepAttemptFailed) and not entry.is_paused:
        yield f"attempt {entry.attempt} goes out at {moment(instant(failed.retry_at_ms))}"
    if failed is not None:
        yield f"attempt {failed.attempt} failed: {failure_text(failed.failure)}"
    if entry.state is StepState.PARKED:
        decide = f"workflow resolve {around.key.workflow_id} {number} retry|skip|done"
        yield f"waits for a person: `{decide}`"


def _why_of_attempt(number: int, entry: StepEntry, around: Surroundings) -> Iterator[str]:
    claim, worker = _claim(entry, around.rows.get(number, {}))
    queue = around.queues.get(number, "")
    beat_ms = around.rows.get(number, {}).get("heartbeat_at_ms")
    if claim == "running":
        beat = f", last heartbeat {moment(instant(int(beat_ms)))}" if beat_ms else ""
        yield f"running on {worker}{beat}"
    elif claim == "left":
        yield "left to its token: ends with `workflow step complete|fail TOKEN`"
    elif claim == "posted":
        yield "its outcome has arrived, and waits for an orchestrator"
    elif claim == "none":
        again = f", sent again {_times(entry.resends)}" if entry.resends else ""
        yield f"not claimed{again}: is a worker on queue {queue or 'of its task'}?"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _state_of(step: StepEntry) -> str:
    """Return a step's state for people; a paused one may have an attempt that goes on."""
    if step.is_cancel_requested:
        return "cancelling"
    return "paused" if step.is_paused else step.state.value


def _claim(entry: StepEntry, row: Mapping[str, str]) -> tuple[str, str]:
    """Return who has the current attempt, in a word, and the worker of one that runs.

    "none", "running", "left" to a token, "posted"; "" where the row does not say, or no attempt is
    out.  The token itself is a secret: of it only the worker's name is told.
    """
    if entry.state is not StepState.SCHEDULED or row.get("attempt") != str(entry.attempt):
        return "", ""
    match row.get("state"):
        case "scheduled":
            return "none", ""
        case "claimed" | "cancelling" if row.get("external"):
            return "left", ""
        case "claimed" | "cancelling":
            name = row.get("claim", "").rpartition("/")[0]
            return "running", "the orchestrator" if entry.options.local else name
        case "posted":
            return "posted", ""
        case _:
            return "", ""


def _children(scan: Scan) -> Iterator[Pending]:
    for number, entry in sorted(scan.ledger.children.items()):
        order, state = entry.scheduled, "cancelling" if entry.is_cancel_requested else "running"
        yield Pending(
            kind="children",
            name=f"child {number}",
            state=state,
            at=instant(order.at_ms),
            what=f"{order.workflow}  {order.id}",
            data={
                "child": number,
                "workflow": order.workflow,
                "workflow_id": order.id,
                "state": state,
            },
        )


def _timers(scan: Scan) -> Iterator[Pending]:
    for number, due_at_ms in sorted(scan.ledger.timers.items()):
        summary, due = scan.timer_summaries.get(number, ""), instant(due_at_ms)
        yield Pending(
            kind="timers",
            name=f"timer {number}",
            state="waiting",
            at=due,
            what=summary,
            data={"timer": number, "summary": summary, "due_at": due.isoformat()},
        )


def _permits(scan: Scan) -> Iterator[Pending]:
    for number, entry in sorted(scan.ledger.permits.items()):
        asked, state = entry.requested, "held" if entry.is_granted else "waiting"
        yield Pending(
            kind="permits",
            name=f"permit {number}",
            state=state,
            at=instant(asked.at_ms),
            what=f"{asked.kind} {asked.key}",
            data={
                "permit": number,
                "key": asked.key,
                "kind": asked.kind,
                "state": state,
                "since": instant(asked.at_ms).isoformat(),
            },
            is_waited_for=not entry.is_granted,
        )


def _external(number: int, asked: e.Event) -> Pending:
    match asked:
        case e.ExternalResultAwaited():
            kind, workflow_id, run = "result", asked.id, asked.run
            what = f"the end of run {workflow_id}"
        case e.ExternalSignalSent():
            kind, workflow_id, run = "signal", asked.id, asked.run
            what = f"signal {asked.signal} to run {workflow_id}"
        case e.ExternalCancelSent():
            kind, workflow_id, run = "cancel", asked.id, asked.run
            what = f"run {workflow_id} is asked to stop"
        case e.ChildCancelRequested():
            kind, workflow_id, run = "cancel", "", 0
            what = f"child {asked.child} is asked to stop"
        case _:
            raise AssertionError(f"{type(asked).__name__} asks nothing of another run")
    data: dict[str, Json] = {
        "external": number,
        "kind": kind,
        "workflow_id": workflow_id,
        "run": run,
        "since": instant(asked.at_ms).isoformat(),
    }
    at = instant(asked.at_ms)
    name, state = f"external {number}", "waiting" if kind == "result" else "on its way"
    return Pending(kind="externals", name=name, state=state, at=at, what=what, data=data)


def _updates(scan: Scan) -> Iterator[Pending]:
    for update_id, received in scan.ledger.updates.items():
        at = instant(received.at_ms)
        yield Pending(
            kind="updates",
            name=f"update {received.update}",
            state="no answer yet",
            at=at,
            what=update_id,
            data={"update": received.update, "update_id": update_id, "since": at.isoformat()},
        )
