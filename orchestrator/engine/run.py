"""One run in memory: its ledger and its execution, kept in step with its history.

R1  A run in memory is a cache of its history: whenever a commit of it is refused or unknown, it is
    dropped, and built again from the log.
R2  One input, one activation: an input is recorded, applied, and the commands that come out follow
    it in the same commit.
R3  An activation that cannot be carried out records its input and blocks the run; further inputs
    are recorded without activation, and their commands follow once fitting code is there.
R4  Nothing that arrived vanishes: it becomes an event, or a note that says why it changed nothing.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from orchestrator.core import events as e
from orchestrator.core.errors import (
    ActivationFailed,
    NondeterminismError,
    PayloadTooLarge,
    StoreUnavailable,
)
from orchestrator.core.execution import Execution
from orchestrator.core.limits import PAYLOAD_BYTES_MAX
from orchestrator.core.replay import Replayed, replay
from orchestrator.core.run_info import RunInfo
from orchestrator.core.run_retry import goes_on
from orchestrator.core.values import Json, canonical
from orchestrator.engine.attempts import Attempts
from orchestrator.engine.chains import (
    continue_run,
    follows,
    going_over,
    retry_run,
    with_attempts,
)
from orchestrator.engine.children import Children
from orchestrator.engine.deadlines import ending_of_blocked, take_deadline
from orchestrator.engine.draft import Draft
from orchestrator.engine.endings import fields_of_end, outcome_of
from orchestrator.engine.externals import Externals
from orchestrator.engine.lengths import Lengths, may_keep_mail
from orchestrator.engine.mail import Mail, Malformed
from orchestrator.engine.observing import Committed
from orchestrator.engine.permits import RunPermits
from orchestrator.engine.questions import Questions
from orchestrator.engine.references import as_recorded, with_values
from orchestrator.engine.resets import Resets
from orchestrator.engine.schedule_answers import times_computed
from orchestrator.engine.turn import Tools, Turn
from orchestrator.engine.undelivered import Undelivered, is_of_another_run, turned_away
from orchestrator.engine.visible import fields_of
from orchestrator.store.ports import (
    AttemptKey,
    InboxEntry,
    Kind,
    RunKey,
    TimerKey,
    TimerKind,
)

logger = logging.getLogger("orchestrator.engine")


class Poke:
    """Asks a blocked run to try again with the code that is there now."""


Arrival = InboxEntry | TimerKey | AttemptKey | Poke


class UnfitEntry(Exception):
    """An inbox entry that no run can take: whoever wrote it is none of our clients and workers."""

    def __init__(self, entry: InboxEntry, reason: str) -> None:
        super().__init__(entry, reason)
        self.entry = entry
        self.reason = reason


class LiveRun:
    """A run in memory (R1).  One thread uses it.

    Args:
        key: Which run.
        partition: Where it lies.
        tools: Of the orchestrator.
        meanwhile: Called between the activations of a replay: all of them together may take longer
            than a lease lasts.

    Attributes:
        questions: Its queries and their answers, for the owner to hand out.
        undelivered: What came after the run's end and must not vanish, for the owner to settle.
        was_cut_short: Whether arrivals were left where they lie, to be read again.
        is_chain_over: Whether no run goes on for it: its chain has ended, and another began.
        is_to_try_again: Whether it is parked and was given room: drop it, and poke it.
    """

    def __init__(
        self,
        key: RunKey,
        partition: int,
        tools: Tools,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.key = key
        self.partition = partition
        self.undelivered: list[Undelivered] = []
        self.was_cut_short = False
        self.is_chain_over = False
        self.is_to_try_again = False
        self._tools = tools
        self._meanwhile = meanwhile
        self._turn = Turn(key, tools)
        self._lengths = Lengths(self._turn)
        self._externals = Externals(self._turn)
        self._mail = Mail(self._turn, self._externals)
        self._attempts = Attempts(self._turn)
        self._children = Children(self._turn)
        self._permits = RunPermits(self._turn)
        self._resets = Resets(self._turn, self._mail, self._attempts)
        self.questions = Questions(self._turn, lambda: self._execution)
        self._execution: Execution | None = None
        self._published: bytes | None = None
        self._status = ""
        self._handlers: Mapping[Kind, Callable[[Mapping[str, Json]], None]] = {
            Kind.START: self._start,
            Kind.SIGNAL: self._mail.signal,
            Kind.CANCEL: self._mail.cancel,
            Kind.TERMINATE: self._mail.terminate,
            Kind.OUTCOME: self._attempts.outcome,
            Kind.LATE_OUTCOME: self._attempts.late_outcome,
            Kind.DECISION: self._attempts.decide,
            Kind.CHILD: self._children.take_end,
            Kind.UPDATE: self._mail.update,
            Kind.WATCH: self._externals.watch,
            Kind.EXTERNAL: self._externals.take_answer,
            Kind.PERMIT: self._permits.take_grant,
            Kind.RESET: self._reset,
        }

    @property
    def draft(self) -> Draft:
        """What the next commit of the run will be."""
        return self._turn.draft

    @property
    def status(self) -> str:
        """The run's status for people."""
        return self._turn.ledger.status

    @property
    def committing(self) -> Committed:
        """What its draft makes history, for whoever measures."""
        draft, started = self._turn.draft, self._turn.ledger.started
        return Committed(
            workflow=started.workflow if started else "",
            started_at_ms=started.at_ms if started else 0,
            events=draft.recorded,
            steps=draft.steps_before,
        )

    @property
    def has_begun(self) -> bool:
        """Whether its history has begun."""
        return self._turn.ledger.started is not None

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return self._turn.ledger.is_closed

    @property
    def is_continued(self) -> bool:
        """Whether the run has ended, and the next one of its id goes on."""
        return goes_on(self._turn.ledger.ending)

    @property
    def has_kept_mail(self) -> bool:
        """Whether the inbox is to be read again for it once it has ended."""
        return self.was_cut_short or may_keep_mail(self._turn.ledger)

    def close(self) -> None:
        """Leave memory: coroutines are closed and order nothing."""
        if self._execution is not None:
            self._execution.close()
            self._log_complaints(self._execution)
            self._execution = None

    # --- from the log ----------------------------------------------------------------------------

    def load(self, history: Sequence[e.Event], head: str) -> None:
        """Take over the run from its whole history.

        A mismatch between history and code blocks the run (R3), and a blocked run whose code fits
        now moves again; either stands in the draft.

        Raises:
            StoreUnavailable: A blob of the history cannot be read, or `meanwhile` says so.
        """
        turn = self._turn
        for event in history:
            turn.ledger.apply(event)
        turn.begin(head)
        turn.at_ms = max(self._tools.now_ms(), turn.ledger.at_ms)
        self._status = turn.ledger.status
        if not history:
            return
        replayed = self._resume(history)
        if replayed is None or turn.ledger.is_closed:
            return
        if turn.ledger.blocked:
            self._try_again(replayed)
        else:
            self._published = self._encoded_state()

    def _resume(self, history: Sequence[e.Event]) -> Replayed | None:
        """Bring the code to where the history ends; None where the run is blocked instead."""
        began = time.perf_counter()
        try:
            replayed = self._replay(history)
        except NondeterminismError as error:
            self._block_loaded(
                ActivationFailed(
                    "nondeterminism",
                    str(error),
                    where=error.where,
                    recorded=error.recorded,
                    issued=error.issued,
                )
            )
            return None
        except ActivationFailed as error:
            self._block_loaded(error)
            return None
        self._tools.observer.replayed(self._turn.started.workflow, time.perf_counter() - began)
        self._execution = replayed.execution
        # What replay complains of was logged when it happened.
        replayed.execution.take_complaints()
        self.questions.is_spoiled = replayed.execution.is_spoiled
        return replayed

    def _replay(self, history: Sequence[e.Event]) -> Replayed:
        definition = self._turn.definition
        if definition is None:
            raise self._turn.unknown_workflow()
        events = [with_values(event, self._tools.blobs) for event in history]
        key = self.key
        subject, watch, meanwhile = str(key), self._tools.watch, self._meanwhile

        def activate(apply: Callable[[], list[e.Command]]) -> list[e.Command]:
            meanwhile()
            return watch(subject, apply)

        return replay(definition, key.workflow_id, key.run, events, activate=activate)

    # --- what arrives ----------------------------------------------------------------------------

    def take(self, arrivals: Sequence[Arrival], *, now_ms: int) -> None:
        """Work through what arrived, in order; what follows from it stands in the draft."""
        turn = self._turn
        turn.at_ms = max(now_ms, turn.ledger.at_ms)
        for arrival in arrivals:
            if self.questions.is_spoiled:
                self.was_cut_short = True
                break
            match arrival:
                case InboxEntry():
                    self._take_or_refuse(arrival)
                case TimerKey(kind=TimerKind.START):
                    turn.draft.remove_timer(arrival)
                case TimerKey(kind=TimerKind.RUN_TIMEOUT):
                    take_deadline(turn, arrival)
                case TimerKey(kind=TimerKind.SLEEP):
                    self._take_sleep(arrival)
                case TimerKey():
                    self._attempts.take_timer(arrival)
                case AttemptKey():
                    self._attempts.take_expired_claim(arrival)
                case Poke():
                    pass  # Loading the run has already tried again.
            self._activate()
        self._note_status()
        self.questions.answer_all()

    def committed(self) -> None:
        """The draft is history; begin the next one."""
        self._turn.begin(self._turn.draft.head)

    def _take_or_refuse(self, entry: InboxEntry) -> None:
        try:
            self._take_entry(entry)
        except (StoreUnavailable, MemoryError):
            raise  # It says nothing of the entry.
        except Exception as error:
            if not entry.id or (entry.kind is Kind.START and not isinstance(error, Malformed)):
                raise  # What has no id lies nowhere; and without its start a run would never be.
            raise UnfitEntry(entry, f"{type(error).__name__} in the run's mail") from error

    def _take_entry(self, entry: InboxEntry) -> None:
        if not self.is_closed and self._lengths.keeps_out(entry.kind):
            return  # It stays in the inbox: see `has_kept_mail`.
        if entry.id:
            self._turn.draft.inbox_ids.append(entry.id)
        if entry.kind is Kind.QUERY:
            self.questions.take(entry.body)
        elif is_of_another_run(entry, self.key.run):
            self.undelivered += turned_away(entry, self._turn, self._externals)
        elif self.is_closed or (entry.kind is not Kind.START and not self._turn.ledger.started):
            # Nothing follows an end, and the sender raced with it; nor precedes a start.
            if self.is_continued and follows(entry.kind) and not self.is_chain_over:
                self._turn.draft.inbox_ids.remove(entry.id)
                self.was_cut_short = True
                return
            self.undelivered += turned_away(entry, self._turn, self._externals)
        else:
            self._handlers[entry.kind](entry.body)

    def _start(self, body: Mapping[str, Json]) -> None:
        if "origin" not in body or self._turn.ledger.started:
            self._mail.start(body)
            return
        copied = self._resets.begin(body)
        if not copied:
            return
        replayed = self._resume(copied)
        try:
            if replayed is not None and self._turn.ledger.blocked:
                self._try_again(replayed)
            elif replayed is not None:
                self._issue([])  # What it has published is the new run's as well.
        except ActivationFailed as error:
            self._block(error)
        self._activate()
        self._resets.arm()

    def _reset(self, body: Mapping[str, Json]) -> None:
        ending = self._resets.take(body)
        if ending is not None:
            self._end(ending, e.encode(ending))

    def _take_sleep(self, timer: TimerKey) -> None:
        turn = self._turn
        turn.draft.remove_timer(timer)
        if timer.number in turn.ledger.timers:
            turn.inputs.append(e.TimerFired(at_ms=turn.at_ms, timer=timer.number))

    # --- activations -----------------------------------------------------------------------------

    def _activate(self) -> None:
        """Record the waiting inputs, each followed by the commands it leads to (R2)."""
        turn = self._turn
        while turn.inputs and not self.is_closed:
            event = turn.inputs.popleft()
            turn.draft.record(event)
            if turn.ledger.blocked:
                self._end_if_told()
                self.is_to_try_again |= (
                    turn.ledger.blocked.kind == "limit" and turn.ledger.is_asked_to_stop
                )
            else:
                self._apply(event)
        turn.inputs.clear()

    def _apply(self, event: e.Input) -> None:
        try:
            if self._execution is None:
                self._execution = self._new_execution(event)
            self._execution.seq = self._turn.ledger.seq
            apply, whole = self._execution.apply, with_values(event, self._tools.blobs)
            began = time.perf_counter()
            commands = self._tools.watch(str(self.key), lambda: apply(whole))
            self._tools.observer.activated(self._turn.started.workflow, time.perf_counter() - began)
            self._log_complaints(self._execution)
            self.questions.is_spoiled = self._execution.is_spoiled
            self._issue(commands)
        except ActivationFailed as error:
            self._block(error)

    def _log_complaints(self, execution: Execution) -> None:
        for complaint in execution.take_complaints():
            logger.warning("%s: %s", self.key, complaint)

    def _new_execution(self, event: e.Input) -> Execution:
        assert isinstance(event, e.RunStarted), "an execution begins with the first event"
        definition, started = self._turn.definition, event
        if definition is None:
            raise self._turn.unknown_workflow()
        return Execution(definition, RunInfo.of(self.key.workflow_id, self.key.run, started))

    def _issue(self, commands: Sequence[e.Command]) -> None:
        """Record commands, and what each means for the store; all of them, or none.

        Raises:
            ActivationFailed: One of them is beyond a bound.
        """
        turn = self._turn
        commands = with_attempts(turn, commands)
        recorded, published, over = self._prepared(commands)
        for asked, (command, data) in zip(commands, recorded, strict=True):
            if isinstance(asked, e.RunContinuedAsNew):
                continue_run(turn, asked, over)
            elif isinstance(asked, e.RunFailed) and asked.retry_at_ms:
                retry_run(turn, asked, over)
            if isinstance(command, e.ENDINGS):
                self._end(command, data)
                continue
            self._permits.send(command)
            turn.draft.append(command, data)
            if isinstance(asked, e.ChildScheduled):
                # Its start carries the input, which the event may only refer to.
                self._children.schedule(asked)
            else:
                self._tell_store(command)
        if published is not None and published != self._published:
            self._published = published
            turn.draft.fields["state"] = published.decode()

    def _prepared(
        self, commands: Sequence[e.Command]
    ) -> tuple[list[tuple[e.Command, bytes]], bytes | None, list[e.Input]]:
        """Return what commands are recorded as, the state published, and what goes over.

        Raises:
            ActivationFailed: One of them is beyond a bound.
        """
        assert self._execution is not None
        self._lengths.check(commands)
        recorded = [as_recorded(command, self._tools.blobs) for command in commands]
        published = self._encoded_state()
        is_continued = any(goes_on(one) for one in commands)
        over = going_over(self._turn, self._execution) if is_continued else []
        return recorded, published, over

    def _tell_store(self, command: e.Command) -> None:
        draft = self._turn.draft
        match command:
            case e.StepScheduled():
                self._attempts.schedule(self._turn.ledger.steps[command.step])
            case e.StepCancelRequested():
                self._attempts.cancel(command.step)
            case e.ChildCancelRequested():
                self._children.cancel(command)
            case e.ScheduleTimesRequested():
                self._turn.inputs.append(times_computed(command, self._turn.at_ms))
            case e.TimerStarted():
                draft.set_timer(draft.timer(TimerKind.SLEEP, command.timer), command.due_at_ms)
            case e.TimerCancelled():
                draft.remove_timer(draft.timer(TimerKind.SLEEP, command.timer))
            case _:
                draft.fields.update(fields_of(command, self._turn.ledger))
                self._externals.send(command)  # The others mean nothing to the store.

    def _end(self, ending: e.Event, data: bytes) -> None:
        draft, at_ms = self._turn.draft, self._turn.at_ms
        # What is outstanding is known only until the ledger takes the ending.
        self._children.leave(ending)
        self._permits.leave()
        draft.close(at_ms)
        draft.append(ending, data)
        if isinstance(ending, e.RunContinuedAsNew):
            draft.fields["closed_at_ms"] = str(at_ms)
            return  # Parent and watchers are told of the chain's end.
        result, failure = outcome_of(ending)
        draft.fields |= fields_of_end(at_ms, result, failure)
        if goes_on(ending):
            draft.fields["retried"] = "1"
            return
        self._externals.tell_watchers(ending)
        self._children.tell_parent(self.status, result=result, failure=failure)

    # --- blocked runs ----------------------------------------------------------------------------

    def _block(self, error: ActivationFailed) -> None:
        """Park the run: its history stays, its commands wait for fitting code (R3)."""
        self.close()
        turn = self._turn
        logger.error("%s is blocked: %s", self.key, error)
        turn.draft.record(
            e.RunBlocked(
                at_ms=turn.at_ms,
                kind=error.kind,
                message=error.message,
                recorded=error.recorded,
                issued=error.issued,
                where=error.where,
                traceback=error.traceback,
                fingerprint=turn.definition.fingerprint if turn.definition else "",
            )
        )
        turn.draft.blocked = True
        self._end_if_told()

    def _block_loaded(self, error: ActivationFailed) -> None:
        """Block a run that was loaded, unless its history already says exactly that."""
        known = self._turn.ledger.blocked
        said = (error.kind, error.message, error.recorded, error.issued)
        if self.is_closed:
            return
        if known and said == (known.kind, known.message, known.recorded, known.issued):
            return
        self._block(error)

    def _try_again(self, replayed: Replayed) -> None:
        """Move a blocked run whose code fits now, unless a bound still holds it."""
        try:
            self._prepared(with_attempts(self._turn, replayed.pending))
        except ActivationFailed as error:
            self.close()
            self._block_loaded(error)
        else:
            self._unblock(replayed)

    def _unblock(self, replayed: Replayed) -> None:
        turn = self._turn
        logger.warning("%s moves again", self.key)
        fingerprint = turn.definition.fingerprint if turn.definition else ""
        turn.draft.record(e.RunUnblocked(at_ms=turn.at_ms, fingerprint=fingerprint))
        turn.draft.blocked = False
        try:
            self._issue(replayed.pending)
        except ActivationFailed as error:
            self._block(error)
        self._activate()

    def _end_if_told(self) -> None:
        ending = ending_of_blocked(self._turn)
        if ending is not None:
            self._end(ending, e.encode(ending))

    # --- what others may read --------------------------------------------------------------------

    def _encoded_state(self) -> bytes | None:
        assert self._execution is not None
        state = self._execution.published_state()
        if state is None:
            return None
        data = canonical(state)
        if len(data) > PAYLOAD_BYTES_MAX:
            too_large = PayloadTooLarge("published state", len(data), PAYLOAD_BYTES_MAX)
            raise ActivationFailed("limit", str(too_large))
        return data

    def _note_status(self) -> None:
        self._lengths.warn()
        draft, ledger = self._turn.draft, self._turn.ledger
        if not draft.events or ledger.status == self._status:
            return
        self._status = draft.fields["status"] = ledger.status
        blocked = ledger.blocked if ledger.status == "blocked" else None
        draft.fields["blocked"] = f"{blocked.kind}: {blocked.message}" if blocked else ""
