"""A schedule: a run of an internal workflow, which starts other runs at its instants.

SC1  It is a run like any other: what it decided is in its history, and a takeover decides the same.
SC2  Its instants are computed by the engine and recorded (see `ScheduleTimesComputed`); its own
     code only compares them with the clock.
SC3  A start is a child's: ordered once, in the commit that notes the instant, under an id that
     follows from the instant.  A trigger takes the next millisecond that no run has which is open
     or waits.  A run is left alone when its schedule ends.
SC4  An instant leads to a start, waits in the buffer, or is counted: as missed (older than the
     catch-up window), as skipped (another run is open) or as dropped (the buffer is full).
SC5  Before its history grows long it goes on as new, between two requests for instants: what it
     counts, what waits and which of its runs are open goes over, and those are awaited as any run
     awaits another.
SC6  A run that it starts is told how the runs before it ended: see `core.last_ends`.  Its code has
     no part in that; the engine hands on what the ledger says.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

from orchestrator.core.child_call import continue_as_new
from orchestrator.core.children import Child, ChildOrder
from orchestrator.core.context import current, now, publish, wait_condition
from orchestrator.core.errors import ExternalWorkflowError
from orchestrator.core.events import ChildFailed
from orchestrator.core.execution import Execution
from orchestrator.core.external_handle import external
from orchestrator.core.flags import TOLD_APART
from orchestrator.core.ids import SCHEDULE_TYPE as SCHEDULE_TYPE
from orchestrator.core.limits import HISTORY_EVENTS_SUGGESTED, SCHEDULE_BUFFER_MAX
from orchestrator.core.signals import on_signal

#: What the ids of schedules begin with, and the signal that carries their commands.
SCHEDULE_PREFIX = "orc-schedule:"
SCHEDULE_SIGNAL = "command"
OVERLAPS = ("skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all")
_RECENT_MAX = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - one spelling on every Python


def stamp(at_ms: int) -> str:
    """Return an instant as it stands in the id of the run that it starts."""
    text = (_EPOCH + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{at_ms % 1000:03d}Z" if at_ms % 1000 else f"{text}Z"


async def schedule(
    schedule_id: str, config: dict[str, Any], carried: dict[str, Any] | None = None
) -> None:
    """Run schedule `schedule_id` until it is deleted; `config` is `client.schedule_spec`'s JSON.

    `carried` is what the run before leaves to this one (SC5).
    """
    await _Scheduler(current("schedule"), schedule_id, config, carried or {}).run()


class _Scheduler:
    def __init__(
        self,
        execution: Execution,
        schedule_id: str,
        config: dict[str, Any],
        carried: dict[str, Any],
    ) -> None:
        self._execution = execution
        self._id = schedule_id
        self._config = dict(config)
        self._cursor_ms: int = carried.get("cursor_ms", self._now_ms)
        #: Runs that are open, by id; None for those that a run before this one has started.
        self._open: dict[str, Child | None] = dict.fromkeys(carried.get("open", []))
        self._buffer: list[list[Any]] = list(carried.get("buffer", []))
        self._backfills: list[dict[str, Any]] = []
        self._is_changed = False
        self._is_deleted = False
        self._tasks: set[asyncio.Task[None]] = set()
        names = ("actions", "missed", "skipped", "dropped", "refused")
        self._counts: dict[str, int] = carried.get("counts") or dict.fromkeys(names, 0)
        recent = list(carried.get("recent", []))
        self._state: dict[str, Any] = publish(
            {"schedule": self._config, "recent": recent, "next": [], "problem": "", **self._counts}
        )
        self._show()

    @property
    def _now_ms(self) -> int:
        return (now() - _EPOCH) // timedelta(milliseconds=1)

    async def run(self) -> None:
        on_signal(SCHEDULE_SIGNAL)(self._take)
        for run_id in list(self._open):
            self._spawn(self._follow_elsewhere(run_id))
        while not self._is_deleted:
            if self._execution.seq >= HISTORY_EVENTS_SUGGESTED and not self._backfills:
                self._go_on()
            self._is_changed = False
            await self._backfill()
            times = [] if self._is_resting else await self._ask(self._config["spec"])
            for nominal_ms, due_ms in times:
                self._state["next"] = [at for at, _ in times if at >= nominal_ms]
                if not await self._until(due_ms):
                    break
                self._cursor_ms = nominal_ms
                self._take_instant(nominal_ms, due_ms)
            else:
                self._state["next"] = []
                if not times:
                    await wait_condition(lambda: self._is_changed)

    def _go_on(self) -> NoReturn:
        """Go on as new (SC5)."""
        carried = {
            "cursor_ms": self._cursor_ms,
            "open": list(self._open),
            "buffer": self._buffer,
            "counts": self._counts,
            "recent": self._state["recent"],
        }
        continue_as_new(self._id, self._config, carried)

    @property
    def _is_resting(self) -> bool:
        return bool(self._config["paused"]) or self._config.get("remaining") == 0

    async def _ask(self, spec: dict[str, Any]) -> list[list[int]]:
        window_ms = int(self._config["catchup_window_ms"])
        missed_until_ms = self._now_ms - window_ms - 1 - int(spec.get("jitter_ms") or 0)
        answer = await self._execution.ask_times(self._id, spec, self._cursor_ms, missed_until_ms)
        self._cursor_ms = max(self._cursor_ms, missed_until_ms)
        self._counts["missed"] += answer.missed
        self._state["problem"] = answer.problem
        self._show()
        return answer.times

    async def _until(self, due_ms: int) -> bool:
        """Wait for an instant; return False where a command came first."""
        left_ms = due_ms - self._now_ms
        if left_ms > 0 and not self._is_changed:
            # The time-out is what is waited for: the instant has come.
            with suppress(TimeoutError):
                await wait_condition(lambda: self._is_changed, left_ms / 1000)
        return not self._is_changed

    def _take_instant(self, nominal_ms: int, due_ms: int) -> None:
        if self._now_ms - due_ms > int(self._config["catchup_window_ms"]):
            self._counts["missed"] += 1
        elif self._config.get("remaining") is None:
            self._act(nominal_ms, self._config["overlap"])
        elif self._config["remaining"] > 0:
            self._config["remaining"] -= 1
            self._act(nominal_ms, self._config["overlap"])
            self._is_changed = self._config["remaining"] == 0
        self._show()

    async def _backfill(self) -> None:
        """Take the instants of the ranges that were asked for, oldest request first."""
        while self._backfills and not self._is_deleted:
            asked = self._backfills[0]
            spec = {**self._config["spec"], "jitter_ms": 0}
            spec["start_at_ms"] = spec["end_at_ms"] = None
            after_ms = asked["start_at_ms"] - 1
            while after_ms is not None and not self._is_deleted:
                answer = await self._execution.ask_times(self._id, spec, after_ms, 0)
                inside = [at for at, _ in answer.times if at <= asked["end_at_ms"]]
                for at in inside:
                    self._act(at, asked.get("overlap") or self._config["overlap"])
                after_ms = inside[-1] if inside and len(inside) == len(answer.times) else None
            self._backfills.pop(0)
            self._show()

    # --- starts ----------------------------------------------------------------------------------

    def _act(self, at_ms: int, overlap: str) -> None:
        """Start a run for an instant, or do what `overlap` says while another one is open (SC4)."""
        if overlap == "allow_all" or not (self._open or self._buffer):
            self._start(at_ms)
        elif overlap == "skip" or (overlap == "buffer_one" and self._buffer):
            self._counts["skipped"] += 1
        elif overlap in ("cancel_other", "terminate_other"):
            self._counts["skipped"] += len(self._buffer)
            self._buffer = [[at_ms, overlap]]
            for run_id, child in self._open.items():
                if child is None:
                    # Only a parent may terminate; whoever is not its parent may ask it to stop.
                    self._spawn(self._ask_to_stop(run_id, overlap))
                else:
                    self._execution.cancel_child(child, terminate=overlap == "terminate_other")
        elif len(self._buffer) >= SCHEDULE_BUFFER_MAX:
            self._counts["dropped"] += 1
        else:
            self._buffer.append([at_ms, overlap])

    def _id_at(self, at_ms: int) -> str:
        return f"{self._config['action'].get('id') or self._id}-{stamp(at_ms)}"

    @property
    def _is_telling_apart(self) -> bool:
        return TOLD_APART in self._execution.flags

    def _trigger_ms(self) -> int:
        """Return the instant of a trigger (SC3)."""
        at_ms, waiting = self._now_ms, {at for at, _ in self._buffer}
        while self._is_telling_apart and (at_ms in waiting or self._id_at(at_ms) in self._open):
            at_ms += 1
        return at_ms

    def _start(self, at_ms: int) -> None:
        action = self._config["action"]
        order = ChildOrder(
            workflow=action["workflow"],
            id=self._id_at(at_ms),
            args=action.get("args") or [],
            kwargs=action.get("kwargs") or {},
            parent_close_policy="abandon",
            scheduled={"schedule": self._id, "at_ms": at_ms},
        )
        child = self._execution.order_child(order, self._id)
        if not (self._is_telling_apart and child.id in self._open):
            self._open[child.id] = child  # Else it is refused, and the one before is open.
        self._counts["actions"] += 1
        recent = [*self._state["recent"], {"id": child.id, "at_ms": at_ms, "status": "running"}]
        self._state["recent"] = recent[-_RECENT_MAX:]
        self._spawn(self._follow(child))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, child: Child) -> None:
        await asyncio.shield(child.future)
        failed = isinstance(child.outcome, ChildFailed)
        status = child.outcome.kind if failed else "completed"  # type: ignore[union-attr]
        self._ended(child.id, status, child)

    async def _ask_to_stop(self, run_id: str, overlap: str) -> None:
        # One that has ended meanwhile needs no asking.
        with suppress(ExternalWorkflowError):
            await external(run_id).cancel(f"schedule {self._id}: {overlap}")

    async def _follow_elsewhere(self, run_id: str) -> None:
        try:
            await external(run_id).result()
        except ExternalWorkflowError as error:
            self._ended(run_id, error.status)
        else:
            self._ended(run_id, "completed")

    def _ended(self, run_id: str, status: str, child: Child | None = None) -> None:
        recent = self._state["recent"]
        ended = [one for one in recent if one["id"] == run_id and one["status"] == "running"]
        if not self._is_telling_apart:
            self._open.pop(run_id, None)
        else:
            if self._open.get(run_id) is child:
                self._open.pop(run_id, None)
            ended = ended[-1:] if status == "refused" else ended[:1]
        for each in ended:
            each["status"] = status
        if status == "refused":
            self._counts["refused"] += 1
        if status == "failed" and self._config["pause_on_failure"]:
            self._pause(f"paused as {run_id} failed")
        while self._buffer and not self._open:
            self._start(self._buffer.pop(0)[0])
        self._show()

    # --- commands --------------------------------------------------------------------------------

    def _take(self, command: Any) -> None:
        """Carry out a command; its shape was checked on arrival."""
        self._is_changed = True
        match command["do"]:
            case "pause":
                self._pause(command["note"])
            case "unpause":
                if self._is_resting:
                    self._cursor_ms = self._now_ms
                self._config.update(paused=False, note=command["note"])
            case "trigger":
                self._act(self._trigger_ms(), command["overlap"] or self._config["overlap"])
            case "backfill":
                self._backfills.append(command)
            case "update":
                if self._is_resting:
                    self._cursor_ms = self._now_ms
                self._config = dict(command["schedule"])
            case "delete":
                self._is_deleted = True
            case other:
                raise AssertionError(f"command {other!r} was let in")
        self._show()

    def _pause(self, note: str) -> None:
        self._is_changed = True
        self._config.update(paused=True, note=note)

    def _show(self) -> None:
        """Bring the published state up to date."""
        self._state.update(
            self._counts,
            schedule=self._config,
            running=list(self._open),
            buffered=len(self._buffer),
        )
