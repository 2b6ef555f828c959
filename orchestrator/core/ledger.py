"""What a history says is outstanding: the fold over its events.

The engine decides from the ledger alone (which attempt is current, which timer is set), so that
any owner that reads the same history decides the same.

L1  The ledger is a function of the events; nothing else changes it.
L2  A step is in `steps` from its `StepScheduled` until it is settled; a timer in `timers` from
    its start until it fired or was cancelled; a child in `children` until it has ended.
L3  What arrives for something that is not outstanding is not the ledger's business: the caller asks
    first, and refuses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.core import events as e
from orchestrator.core.deadlines import moved
from orchestrator.core.ids import SCHEDULE_TYPE
from orchestrator.core.last_ends import LastEnds
from orchestrator.core.options import StepOptions
from orchestrator.core.search_attributes import merged
from orchestrator.core.states import (
    RUN_TERMINAL,
    RunFact,
    RunState,
    StepFact,
    StepState,
    next_run_state,
    next_step_state,
)
from orchestrator.core.values import Json


@dataclass(slots=True)
class StepEntry:
    """An outstanding step, as far as the history tells.

    `state` is SCHEDULED while an attempt is on its way or running (only the store knows which),
    BACKOFF between two attempts, PARKED while a person is asked.  `has_maybe_run` is True once an
    attempt ended in a way that leaves its effect open.  While it `is_paused` no attempt is sent.
    `attempts_forgiven` are those that the retry policy no longer counts.  From
    `scheduled_at_ms`, moved by the time for which a history stood still (DL3), its
    `schedule_to_close` counts.
    """

    scheduled: e.StepScheduled
    options: StepOptions
    scheduled_at_ms: int
    attempt: int = 1
    state: StepState = StepState.SCHEDULED
    has_maybe_run: bool = False
    resends: int = 0
    is_cancel_requested: bool = False
    is_paused: bool = False
    attempts_forgiven: int = 0

    @property
    def attempt_counted(self) -> int:
        """The current attempt as the retry policy counts it, from 1."""
        return self.attempt - self.attempts_forgiven


@dataclass(slots=True)
class ChildEntry:
    """A child that has not ended, as far as the history tells."""

    scheduled: e.ChildScheduled
    is_cancel_requested: bool = False
    run: int = 0  #: 0 until it has said so


@dataclass(slots=True)
class PermitEntry:
    """A permit that the run waits for, or holds; a slot of a rate until it is given."""

    requested: e.PermitRequested
    is_granted: bool = False


def _move_step(entry: StepEntry, fact: StepFact) -> None:
    state = next_step_state(entry.state, fact)
    assert state is not None, f"{fact.value} is not possible in state {entry.state.value}"
    entry.state = state


@dataclass(slots=True)
class Ledger:
    """The state of one run, from its history."""

    seq: int = 0
    at_ms: int = 0
    state: RunState = RunState.PENDING
    started: e.RunStarted | None = None
    ending: e.Event | None = None
    steps: dict[int, StepEntry] = field(default_factory=dict)
    timers: dict[int, int] = field(default_factory=dict)
    children: dict[int, ChildEntry] = field(default_factory=dict)
    #: Ids of signals, oldest first: a dict for its order.
    signal_ids: dict[str, None] = field(default_factory=dict)
    #: Digests of ids of signals and updates that earlier runs of the chain have taken.
    seen: set[str] = field(default_factory=set)
    #: Ids of updates, oldest first.
    update_ids: dict[str, None] = field(default_factory=dict)
    #: Updates that were received and have no outcome yet, oldest first.
    updates: dict[str, e.UpdateReceived] = field(default_factory=dict)
    #: What was asked of other runs and is not answered yet.
    externals: dict[int, e.Event] = field(default_factory=dict)
    #: What the run has to give back; and the slots of rates that it waits for.
    permits: dict[int, PermitEntry] = field(default_factory=dict)
    #: Who is told of this run's end, beside its parent.
    watchers: list[dict[str, Json]] = field(default_factory=list)
    request_ids: set[str] = field(default_factory=set)
    is_cancel_requested: bool = False
    is_terminate_requested: bool = False
    timed_out: e.RunTimedOut | None = None
    blocked: e.RunBlocked | None = None
    compensating: set[int] = field(default_factory=set)
    parked: set[int] = field(default_factory=set)
    #: Steps that a saga would have to undo if it failed now, by saga.
    undoable: dict[int, set[int]] = field(default_factory=dict)
    search_attributes: dict[str, Json] = field(default_factory=dict)
    memo: dict[str, Json] = field(default_factory=dict)
    current_details: str = ""
    #: Number of the last step that was ordered.
    last_step: int = 0
    #: Where the history was copied: the last step of each copied part, and the run that ordered it.
    copied: list[tuple[int, str]] = field(default_factory=list)
    #: What the next run is told: of a schedule, or of this id.
    last_ends: LastEnds = field(default_factory=LastEnds)

    @property
    def has_obligations(self) -> bool:
        """Whether a saga is open that has something to undo."""
        return any(self.undoable.values())

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether the run was cancelled or terminated, and goes on at most to unwind."""
        return self.is_cancel_requested or self.is_terminate_requested

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended: nothing follows in its history."""
        return self.state in RUN_TERMINAL

    @property
    def status(self) -> str:
        """The run's status for people: its state, or "blocked" while it rests."""
        return "blocked" if self.blocked and not self.is_closed else self.state.value

    @property
    def _is_schedule(self) -> bool:
        return self.started is not None and self.started.workflow == SCHEDULE_TYPE

    def knows(self, body: Mapping[str, Json]) -> bool:
        """Return whether a message of this id has its event: a signal, an update, a request."""
        known = {
            "signal_id": self.signal_ids,
            "update_id": self.update_ids,
            "request_id": self.request_ids,
        }
        found = ((body.get(name), ids) for name, ids in known.items())
        return any(isinstance(one, str) and bool(one) and one in ids for one, ids in found)

    def orderer_of(self, step: int) -> str | None:
        """Return the run that ordered a step, "<id>.<run>"; None where it is this one."""
        return next((run for last, run in self.copied if step <= last), None)

    def _move(self, fact: RunFact) -> None:
        self.state = next_run_state(self.state, fact)

    def apply(self, event: e.Event) -> None:  # noqa: C901, PLR0915 - one case per event
        """Take the next event of the history into account (L1)."""
        self.seq += 1
        self.at_ms = max(self.at_ms, event.at_ms)
        match event:
            case e.RunStarted():
                self.started = event
                self.seen.update(event.seen)
                self.watchers.extend(event.watchers)
                self.search_attributes, self.memo = event.search_attributes, event.memo
                self.last_ends = LastEnds.of(event)
                self._move(RunFact.STARTED)
            case e.StepScheduled():
                options = StepOptions.from_json(event.options)
                self.steps[event.step] = StepEntry(event, options, event.at_ms)
                self.last_step = event.step
                if event.undo and event.saga is not None:
                    self.undoable.setdefault(event.saga, set()).add(event.step)
            case e.StepCompleted():
                self.steps.pop(event.step, None)
            case e.StepFailed():
                self.steps.pop(event.step, None)
                if not event.may_have_run:
                    for steps in self.undoable.values():
                        steps.discard(event.step)
            case e.StepCancelRequested():
                if event.step in self.steps:
                    self.steps[event.step].is_cancel_requested = True
            case e.StepAttemptFailed():
                entry = self.steps[event.step]
                _move_step(entry, StepFact.FAIL)
                entry.attempt = event.attempt + 1
                entry.resends = 0
                entry.has_maybe_run |= event.may_have_run
            case e.StepRetried():
                _move_step(self.steps[event.step], StepFact.RETRY)
            case e.StepResent():
                self.steps[event.step].resends = event.resend
            case e.StepParked():
                _move_step(self.steps[event.step], StepFact.PARK)
                self.parked.add(event.step)
                self._move(RunFact.STEP_PARKED)
            case e.StepUnparked():
                entry = self.steps[event.step]
                _move_step(entry, StepFact.RETRY)
                entry.attempt = event.attempt
                entry.resends = 0
                self.parked.discard(event.step)
                if not self.parked:
                    self._move(RunFact.STEP_UNPARKED)
            case e.StepPaused() | e.StepUnpaused():
                self.steps[event.step].is_paused = isinstance(event, e.StepPaused)
            case e.StepReset():
                self.steps[event.step].attempts_forgiven = event.attempt - 1
            case e.ChildScheduled():
                self.children[event.child] = ChildEntry(event)
            case e.ChildCancelRequested():
                if event.child in self.children:
                    self.children[event.child].is_cancel_requested = True
                if event.external:
                    self.externals[event.external] = event
            case e.ChildStarted():
                self.children[event.child].run = event.run
            case e.ChildCompleted() | e.ChildFailed():
                child = self.children.pop(event.child, None)
                if child is not None and child.scheduled.scheduled:
                    self.last_ends = self.last_ends.after(event)
            case e.TimerStarted():
                self.timers[event.timer] = event.due_at_ms
            case e.TimerFired() | e.TimerCancelled():
                self.timers.pop(event.timer, None)
            case e.SignalReceived() | e.SignalRejected():
                self.signal_ids[event.signal_id] = None
            case e.UpdateReceived():
                self.update_ids[event.update_id] = None
                self.updates[event.update_id] = event
            case e.UpdateRejected() | e.UpdateCompleted() | e.UpdateFailed():
                self.updates.pop(event.update_id, None)
            case e.ExternalSignalSent() | e.ExternalCancelSent() | e.ExternalResultAwaited():
                self.externals[event.external] = event
            case e.ExternalCompleted() | e.ExternalFailed():
                asked = self.externals.pop(event.external, None)
                # So a schedule awaits the runs that were open when it went on as new.
                if isinstance(asked, e.ExternalResultAwaited) and self._is_schedule:
                    self.last_ends = self.last_ends.after(event)
            case e.PermitRequested():
                self.permits[event.permit] = PermitEntry(event)
            case e.PermitGranted():
                self._grant(event)
            case e.PermitReleased():
                self.permits.pop(event.permit, None)
            case e.WatcherAdded():
                self.watchers.append(event.watcher)
            case e.CancelRequested():
                self.is_cancel_requested = True
                self.request_ids.add(event.request_id)
            case e.TerminateRequested():
                self.is_terminate_requested = True
                self.request_ids.add(event.request_id)
            case e.RunTimedOut():
                self.timed_out = event
            case e.CompensationStarted():
                self.compensating.add(event.saga)
                self._move(RunFact.COMPENSATION_STARTED)
            case e.CompensationCompleted():
                self.compensating.discard(event.saga)
                self.undoable.pop(event.saga, None)
                if not self.compensating:
                    self._move(RunFact.COMPENSATION_COMPLETED)
            case e.RunBlocked():
                self.blocked = event
            case e.RunUnblocked():
                self.blocked = None
            case e.RunCompleted():
                self._close(RunFact.COMPLETED, event)
            case e.RunFailed():
                self._close(RunFact.FAILED, event)
            case e.RunCancelled():
                self._close(RunFact.CANCELLED, event)
            case e.RunTerminated():
                self._close(RunFact.TERMINATED, event)
            case e.RunContinuedAsNew():
                self._close(RunFact.CONTINUED_AS_NEW, event)
            case e.RunReset():
                self._close(RunFact.RESET, event)
            case e.HistoryCopied():
                self._begin_anew(event)
            case e.SagaCommitted():
                self.undoable.pop(event.saga, None)
            case e.SearchAttributesUpserted():
                self.search_attributes = merged(self.search_attributes, event.attributes)
            case e.MemoUpserted():
                self.memo = merged(self.memo, event.memo)
            case e.CurrentDetailsSet():
                self.current_details = event.details
            case e.ScheduleTimesRequested() | e.ScheduleTimesComputed():
                pass  # Asked and answered in one commit.
            case (
                e.GeneratorOpened()
                | e.GeneratorDrawn()
                | e.PatchMarked()
                | e.SideEffectRecorded()
                | e.SignalRefused()
                | e.OutcomeRefused()
                | e.RequestRejected()
            ):
                pass  # Facts for people; nothing is outstanding because of them.
            case e.UpdateAccepted():
                pass  # It is in `updates` from its arrival to its outcome.
            case _:
                raise AssertionError(f"the ledger does not know {type(event).__name__}")

    def _begin_anew(self, event: e.HistoryCopied) -> None:
        """From here on the history is this run's own; see `core.resetting`."""
        assert self.started is not None, "what is copied begins with RunStarted"
        self.started = replace(
            moved(self.started, event.stood_still_ms),
            continued_from=event.continued_from,
            first_run=event.first_run,
            seen=event.seen,
            watchers=event.watchers,
            parent=event.parent,
        )
        for entry in self.steps.values():
            entry.scheduled_at_ms += event.stood_still_ms
        self.seen, self.watchers = set(event.seen), [*event.watchers]
        self.request_ids.add(event.request_id)
        self.copied.append((self.last_step, f"{event.id}.{event.run}"))

    def _grant(self, event: e.PermitGranted) -> None:
        entry = self.permits.get(event.permit)
        if entry is None:
            return
        entry.is_granted = True
        if entry.requested.kind == "rate":
            del self.permits[event.permit]

    def _close(self, fact: RunFact, event: e.Event) -> None:
        self._move(fact)
        self.ending = event
        self.steps.clear()
        self.timers.clear()
        self.children.clear()
        self.permits.clear()
