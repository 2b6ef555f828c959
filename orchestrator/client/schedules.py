"""Schedules for clients: made, looked at, and told what to do.

A schedule is a run of an internal workflow under ``orc-schedule:<id>``.  What it is told is a
signal, checked here and on arrival; it takes effect as soon as an orchestrator reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator

from orchestrator.client import listing, messages, reading
from orchestrator.client.handle import Sessions
from orchestrator.client.messages import Target
from orchestrator.client.port import run_in_place
from orchestrator.client.schedule_spec import Schedule, at_ms, checked_overlap, checked_stem
from orchestrator.client.session import Session
from orchestrator.client.summary import RunSummary, instant
from orchestrator.core.definition import Codec, WorkflowDefinition
from orchestrator.core.errors import RunClosed, UsageError
from orchestrator.core.interceptors import StartWorkflow
from orchestrator.core.schedule import SCHEDULE_PREFIX, SCHEDULE_SIGNAL, SCHEDULE_TYPE, schedule
from orchestrator.core.values import Json
from orchestrator.engine.schedule_times import fires
from orchestrator.payloads import encode_payload

#: Instants that `next` returns unless told otherwise, and at most.
NEXT_COUNT = 10
NEXT_COUNT_MAX = 1_000


def schedule_definition(codec: Codec) -> WorkflowDefinition:
    """Return the internal workflow that every app has."""
    return WorkflowDefinition(
        name=SCHEDULE_TYPE,
        function=schedule,
        codec=codec,
        decode_input=lambda args, kwargs: (tuple(args), dict(kwargs)),
        signals={SCHEDULE_SIGNAL: Annotated[dict[str, Any], AfterValidator(_checked_command)]},
    )


def _checked_command(command: dict[str, Any]) -> dict[str, Any]:
    """Return a command with all its parts; `ValueError` says what is wrong with it."""
    do, overlap = command.get("do"), command.get("overlap")
    try:
        if overlap is not None:
            checked_overlap(overlap)
        if do == "update":
            Schedule.from_json(command.get("schedule"))
    except UsageError as error:
        raise ValueError(str(error)) from error
    if do == "backfill":
        start, end = command.get("start_at_ms"), command.get("end_at_ms")
        if type(start) is not int or type(end) is not int or not 0 <= start <= end:
            raise ValueError(f"backfill from {start} to {end}: milliseconds in order are wanted")
    elif do not in ("pause", "unpause", "trigger", "update", "delete"):
        raise ValueError(f"a schedule does not know {do!r}")
    return {**command, "note": str(command.get("note") or ""), "overlap": overlap}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDescription:
    """A schedule at a glance.

    Args:
        id: Of the schedule.
        schedule: As it is now; None until an orchestrator has seen it.
        status: Of the run behind it; see `RunSummary`.
        next: The next instants that it has computed.
        recent: The last starts: id, at_ms, status.
        running: Ids of the runs that are open.
        buffered: Instants that wait for a run to end.
        counts: By name: actions, missed, skipped, dropped, refused.
        problem: Why its spec has no instants, or "".
    """

    id: str
    schedule: Schedule | None
    status: str
    next: Sequence[datetime] = ()
    recent: Sequence[dict[str, Any]] = ()
    running: Sequence[str] = ()
    buffered: int = 0
    counts: dict[str, int]
    problem: str = ""


def description_of(run: RunSummary) -> ScheduleDescription:
    """Return what the run of a schedule tells of it."""
    state: Any = run.state or {}
    counted = ("actions", "missed", "skipped", "dropped", "refused")
    return ScheduleDescription(
        id=run.workflow_id.removeprefix(SCHEDULE_PREFIX),
        schedule=Schedule.from_json(state["schedule"]) if state else None,
        status=run.status,
        next=[instant(at) for at in state.get("next", [])],
        recent=state.get("recent", []),
        running=state.get("running", []),
        buffered=state.get("buffered", 0),
        counts={name: state.get(name, 0) for name in counted},
        problem=state.get("problem", ""),
    )


async def create(session: Session, schedule_id: str, made: Schedule) -> None:
    """Open the schedule.

    Raises:
        InvalidPayload: The action's input does not validate.
        RunExists: A schedule of this id is there.
        StoreUnavailable: No answer; repeat it, and `RunExists` tells that it was made.
    """
    target, definition = _target(schedule_id), schedule_definition(session.codec)
    config = made.as_json(session.codec)
    encode_payload(f"schedule {schedule_id}", None, config, session.codec)
    call = StartWorkflow(
        workflow_id=target.workflow_id,
        workflow=definition.name,
        args=[schedule_id, config],
        kwargs={},
    )
    await messages.start(session, definition, call)


async def describe(session: Session, schedule_id: str) -> ScheduleDescription:
    """Return the schedule at a glance.

    Raises:
        RunNotFound, RunClosed: There is none, or it was deleted.
    """
    run = await reading.describe(session, _target(schedule_id))
    if run.is_closed:
        raise RunClosed(run.workflow_id, run.run, run.status)
    return description_of(run)


async def list_schedules(session: Session, limit: int) -> list[ScheduleDescription]:
    """Return up to `limit` schedules, newest first."""
    wanted = listing.filter_of("", {"closed": False, "type": SCHEDULE_TYPE})
    page = await listing.list_page(session, wanted, limit=limit)
    return [description_of(run) for run in page]


async def next_times(session: Session, schedule_id: str, count: int) -> list[datetime]:
    """Return the next instants of its spec, without jitter, whether it is paused or not.

    Raises:
        RunNotFound, RunClosed: There is none, or it was deleted.
        UsageError: A count that cannot be, or no orchestrator has seen the schedule yet.
    """
    if not 1 <= count <= NEXT_COUNT_MAX:
        raise UsageError(f"count is {count}; 1 to {NEXT_COUNT_MAX} is wanted")
    found = (await describe(session, schedule_id)).schedule
    if found is None:
        raise UsageError(f"no orchestrator has seen schedule {schedule_id} yet; ask again")
    now_ms = await session.store.now_ms()
    spec: dict[str, Any] = found.spec.as_json()
    return [instant(fire.nominal_ms) for fire in fires(schedule_id, spec, now_ms, count)]


async def tell(session: Session, schedule_id: str, do: str, **parts: Json) -> None:
    """Send a command.

    Raises:
        RunNotFound, RunClosed: There is no such schedule, or it was deleted.
        InvalidPayload, UsageError: A command that cannot be.
        StoreUnavailable: No answer.
    """
    overlap = parts.get("overlap")
    if overlap is not None:
        checked_overlap(overlap)
    payload = {"do": do, **parts}
    target = _target(schedule_id, schedule_definition(session.codec))
    await messages.signal(session, target, SCHEDULE_SIGNAL, payload, None)


def _target(schedule_id: str, definition: WorkflowDefinition | None = None) -> Target:
    workflow_id = f"{SCHEDULE_PREFIX}{checked_stem(schedule_id)}"
    return Target(workflow_id=workflow_id, definition=definition)


def _range(start_at: datetime, end_at: datetime) -> dict[str, Json]:
    if start_at.tzinfo is None or end_at.tzinfo is None or start_at > end_at:
        raise UsageError(f"backfill from {start_at} to {end_at}: aware and in order is wanted")
    return {"start_at_ms": at_ms(start_at), "end_at_ms": at_ms(end_at)}


class AsyncScheduleHandle:
    """A schedule, for code on an event loop; see `ScheduleHandle`."""

    def __init__(self, sessions: Sessions, id: str) -> None:
        self._sessions = sessions
        self.id = id

    async def create(self, schedule: Schedule) -> None:
        """See `create`."""
        await create(self._session, self.id, schedule)

    async def describe(self) -> ScheduleDescription:
        """See `describe`."""
        return await describe(self._session, self.id)

    async def next(self, count: int = NEXT_COUNT) -> list[datetime]:
        """See `next_times`."""
        return await next_times(self._session, self.id, count)

    async def pause(self, note: str = "") -> None:
        """Let it rest; runs that are open go on."""
        await tell(self._session, self.id, "pause", note=note)

    async def unpause(self, note: str = "") -> None:
        """Let it act again, from now on: instants of the pause are not made up for."""
        await tell(self._session, self.id, "unpause", note=note)

    async def trigger(self, overlap: str | None = None) -> None:
        """Act once, now."""
        await tell(self._session, self.id, "trigger", overlap=overlap)

    async def backfill(
        self, start_at: datetime, end_at: datetime, overlap: str | None = None
    ) -> None:
        """Act upon every instant from `start_at` to `end_at`, as if it were due now."""
        parts = _range(start_at, end_at)
        await tell(self._session, self.id, "backfill", overlap=overlap, **parts)

    async def update(self, schedule: Schedule) -> None:
        """Put `schedule` in the place of what it was."""
        session = self._session
        await tell(session, self.id, "update", schedule=schedule.as_json(session.codec))

    async def delete(self) -> None:
        """End it; runs that are open go on."""
        await tell(self._session, self.id, "delete")

    @property
    def _session(self) -> Session:
        return self._sessions.on_running_loop()


class ScheduleHandle:
    """A schedule, for plain code.  Reaches nothing until it is asked."""

    def __init__(self, sessions: Sessions, id: str) -> None:
        self._sessions = sessions
        self.id = id
        # One set of words: what the other handle does, where calls block instead of suspend.
        self._same = AsyncScheduleHandle(Sessions(sessions.blocking, sessions.blocking), id)

    @property
    def aio(self) -> AsyncScheduleHandle:
        """The same schedule for code on an event loop."""
        return AsyncScheduleHandle(self._sessions, self.id)

    def create(self, schedule: Schedule) -> None:
        """See `create`."""
        run_in_place(self._same.create(schedule))

    def describe(self) -> ScheduleDescription:
        """See `describe`."""
        return run_in_place(self._same.describe())

    def next(self, count: int = NEXT_COUNT) -> list[datetime]:
        """See `next_times`."""
        return run_in_place(self._same.next(count))

    def pause(self, note: str = "") -> None:
        """See `AsyncScheduleHandle.pause`."""
        run_in_place(self._same.pause(note))

    def unpause(self, note: str = "") -> None:
        """See `AsyncScheduleHandle.unpause`."""
        run_in_place(self._same.unpause(note))

    def trigger(self, overlap: str | None = None) -> None:
        """See `AsyncScheduleHandle.trigger`."""
        run_in_place(self._same.trigger(overlap))

    def backfill(self, start_at: datetime, end_at: datetime, overlap: str | None = None) -> None:
        """See `AsyncScheduleHandle.backfill`."""
        run_in_place(self._same.backfill(start_at, end_at, overlap))

    def update(self, schedule: Schedule) -> None:
        """See `AsyncScheduleHandle.update`."""
        run_in_place(self._same.update(schedule))

    def delete(self) -> None:
        """See `AsyncScheduleHandle.delete`."""
        run_in_place(self._same.delete())
