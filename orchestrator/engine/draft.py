"""A commit in the making: events with their chain, and what they mean for timers and steps.

D1  Every event passes through `record`, which numbers it, chains it and tells the ledger; so the
    draft, the ledger and the history cannot tell different stories.
D2  What an event means for the store follows from the event and the ledger alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.core import events as e
from orchestrator.core.deadlines import deadline_of
from orchestrator.core.ledger import Ledger, StepEntry
from orchestrator.core.limits import EVENT_BYTES_MAX, RESEND_AFTER_MS, RESEND_AFTER_MS_MAX
from orchestrator.core.values import first_head, next_head
from orchestrator.engine.ports import Outgoing
from orchestrator.store.ports import (
    AttemptKey,
    Commit,
    Letter,
    Message,
    NextRun,
    RunKey,
    StepRow,
    StoredEvent,
    TimerKey,
    TimerKind,
)

#: Events that tell how an attempt ended.
_OF_ATTEMPTS = (e.StepCompleted, e.StepFailed, e.StepAttemptFailed)


class EventTooLarge(Exception):
    """An event beyond its bound, which senders are kept from by bounds of their own: our bug."""

    def __init__(self, name: str, found_bytes: int) -> None:
        super().__init__(name, found_bytes)
        self.name = name
        self.found_bytes = found_bytes

    def __str__(self) -> str:
        return f"{self.name} takes {self.found_bytes} bytes, at most {EVENT_BYTES_MAX} fit"


def idempotency_key(orderer: str, step: int) -> str:
    """Return the key that every attempt at a step carries, also after Redis lost its tail.

    `orderer` is the run that ordered the step, "<id>.<run>".
    """
    return f"{orderer}.{step}"


@dataclass(slots=True)
class Draft:
    """Collects one commit for one run."""

    key: RunKey
    ledger: Ledger
    head: str
    expected_seq: int = field(init=False)
    expected_head: str = field(init=False)
    events: list[StoredEvent] = field(default_factory=list)
    #: The same as they were recorded, before they were sealed.
    recorded: list[e.Event] = field(default_factory=list)
    #: What the ledger said of steps before `recorded` told of an attempt's end.
    steps_before: dict[int, StepEntry] = field(default_factory=dict)
    inbox_ids: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    steps_sent: dict[int, StepRow] = field(default_factory=dict)
    steps_paused: set[int] = field(default_factory=set)
    steps_resting: list[int] = field(default_factory=list)
    steps_settled: list[AttemptKey] = field(default_factory=list)
    steps_cancelled: list[int] = field(default_factory=list)
    given_up: list[AttemptKey] = field(default_factory=list)
    unposted: list[AttemptKey] = field(default_factory=list)
    unclaimed: list[AttemptKey] = field(default_factory=list)
    timers_set: dict[TimerKey, int] = field(default_factory=dict)
    timers_removed: set[TimerKey] = field(default_factory=set)
    local_sent: list[tuple[Outgoing, str]] = field(default_factory=list)
    local_cancelled: list[AttemptKey] = field(default_factory=list)
    blocked: bool | None = None
    closed_at_ms: int | None = None
    next_run: NextRun | None = None
    #: What an event's bytes become before they are chained and stored.
    seal: Callable[[RunKey, bytes], bytes] = lambda _key, data: data

    def __post_init__(self) -> None:
        self.expected_seq = self.ledger.seq
        self.expected_head = self.head if self.ledger.seq else ""
        if not self.head:
            self.head = first_head(self.key.workflow_id, self.key.run)

    def record(self, event: e.Event) -> None:
        """Append `event` to the draft (D1).

        Raises:
            EventTooLarge: Nothing was recorded.
        """
        data = e.encode(event)
        if len(data) > EVENT_BYTES_MAX:
            raise EventTooLarge(type(event).__name__, len(data))
        self.append(event, data)

    def append(self, event: e.Event, data: bytes) -> None:
        """Append `event` under the bytes that `events.encode` gave it (D1)."""
        data = self.seal(self.key, data)
        if isinstance(event, _OF_ATTEMPTS) and event.step in self.ledger.steps:
            self.steps_before.setdefault(event.step, self.ledger.steps[event.step])
        self.ledger.apply(event)
        self.head = next_head(self.head, data)
        self.events.append(StoredEvent(seq=self.ledger.seq, data=data, head=self.head))
        self.recorded.append(event)

    # --- timers ----------------------------------------------------------------------------------

    def timer(self, kind: TimerKind, number: int, attempt: int = 0) -> TimerKey:
        """Return the name of one of the run's timers."""
        return TimerKey(
            kind=kind,
            workflow_id=self.key.workflow_id,
            run=self.key.run,
            number=number,
            attempt=attempt,
        )

    @staticmethod
    def timer_of(key: RunKey, kind: TimerKind, number: int) -> TimerKey:
        """Return the name of a timer of a run, this one or another of its partition."""
        return TimerKey(kind=kind, workflow_id=key.workflow_id, run=key.run, number=number)

    def set_timer(self, timer: TimerKey, due_at_ms: int) -> None:
        """Set a timer, also one that this draft removed before."""
        self.timers_removed.discard(timer)
        self.timers_set[timer] = due_at_ms

    def remove_timer(self, timer: TimerKey) -> None:
        """Remove a timer, whether it is set or not."""
        self.timers_set.pop(timer, None)
        self.timers_removed.add(timer)

    def attempt_key(self, step: int, attempt: int) -> AttemptKey:
        """Return the name of one of the run's attempts."""
        return AttemptKey(
            workflow_id=self.key.workflow_id, run=self.key.run, step=step, attempt=attempt
        )

    # --- steps -----------------------------------------------------------------------------------

    def send(self, entry: StepEntry, *, now_ms: int, local_token: str = "") -> None:
        """Put the step's current attempt on its way: its row and its timers."""
        step, options = entry.scheduled.step, entry.options
        self.steps_paused.discard(step)
        self.steps_sent[step] = StepRow(
            step=step,
            attempt=entry.attempt,
            start_to_close_ms=options.start_to_close_ms,
            heartbeat_ms=options.heartbeat_ms,
            local=local_token,
        )
        if local_token:
            return
        self.arm_resend(entry, now_ms=now_ms)
        if options.schedule_to_start_ms:
            due = now_ms + options.schedule_to_start_ms
            self.set_timer(self.timer(TimerKind.SCHEDULE_TO_START, step, entry.attempt), due)

    def hold(self, entry: StepEntry) -> None:
        """Take the current attempt back if nobody has claimed it (`Commit.steps_paused`)."""
        step, attempt = entry.scheduled.step, entry.attempt
        self.steps_paused.add(step)
        self.remove_timer(self.timer(TimerKind.UNCLAIMED, step, attempt))
        if entry.options.schedule_to_start_ms:
            self.remove_timer(self.timer(TimerKind.SCHEDULE_TO_START, step, attempt))

    def arm_resend(self, entry: StepEntry, *, now_ms: int) -> None:
        """Set the timer that sends the attempt's message again; each time twice as far."""
        wait_ms = min(RESEND_AFTER_MS_MAX, RESEND_AFTER_MS << min(entry.resends, 16))
        timer = self.timer(TimerKind.UNCLAIMED, entry.scheduled.step, entry.attempt)
        self.set_timer(timer, now_ms + wait_ms)

    def stop_attempt(self, entry: StepEntry) -> None:
        """Remove what the current attempt left in the timer set."""
        step, attempt = entry.scheduled.step, entry.attempt
        self.remove_timer(self.timer(TimerKind.UNCLAIMED, step, attempt))
        if entry.options.schedule_to_start_ms:
            self.remove_timer(self.timer(TimerKind.SCHEDULE_TO_START, step, attempt))
        if entry.options.start_to_close_ms:
            self.remove_timer(self.timer(TimerKind.START_TO_CLOSE, step, attempt))
        if entry.options.heartbeat_ms:
            self.remove_timer(self.timer(TimerKind.HEARTBEAT, step, attempt))
        if attempt > 1:
            self.remove_timer(self.timer(TimerKind.RETRY, step, attempt))

    def settle(self, entry: StepEntry) -> None:
        """Remove everything the store holds of a step."""
        step = entry.scheduled.step
        self.stop_attempt(entry)
        if entry.options.schedule_to_close_ms:
            self.remove_timer(self.timer(TimerKind.SCHEDULE_TO_CLOSE, step))
        self._take_back(step)
        self.steps_settled.append(self.attempt_key(step, entry.attempt))

    def rest(self, entry: StepEntry) -> None:
        """Leave the step without a current attempt: it waits for a back-off or for a person."""
        self.stop_attempt(entry)
        self._take_back(entry.scheduled.step)
        self.steps_resting.append(entry.scheduled.step)

    def _take_back(self, step: int) -> None:
        """Undo `send` within its commit: a worker finds no row, and nothing runs here."""
        self.steps_sent.pop(step, None)
        self.local_sent = [sent for sent in self.local_sent if sent[0].key.step != step]

    def close(self, at_ms: int) -> None:
        """End the run, before its ending is appended: nothing of it stays outstanding."""
        for entry in self.ledger.steps.values():
            self.settle(entry)
            if entry.options.local:
                self.local_cancelled.append(self.attempt_key(entry.scheduled.step, entry.attempt))
        for number in self.ledger.timers:
            self.remove_timer(self.timer(TimerKind.SLEEP, number))
        if self.ledger.started is not None and deadline_of(self.ledger.started) is not None:
            self.remove_timer(self.timer(TimerKind.RUN_TIMEOUT, 0))
        if self.ledger.started is not None and self.ledger.started.continued_from:
            # Older orchestrators have left it behind where mail began the run before it was due.
            self.remove_timer(self.timer(TimerKind.START, 0))
        self.closed_at_ms = at_ms

    def commit(self) -> Commit:
        """Return the commit."""
        return Commit(
            key=self.key,
            expected_seq=self.expected_seq,
            expected_head=self.expected_head,
            events=self.events,
            inbox_ids=self.inbox_ids,
            fields=self.fields,
            steps_sent=list(self.steps_sent.values()),
            steps_paused=sorted(self.steps_paused),
            steps_resting=self.steps_resting,
            steps_settled=self.steps_settled,
            steps_cancelled=self.steps_cancelled,
            given_up=self.given_up,
            unposted=self.unposted,
            unclaimed=self.unclaimed,
            timers_set=self.timers_set,
            timers_removed=list(self.timers_removed),
            messages=self.messages,
            letters=self.letters,
            blocked=self.blocked,
            closed_at_ms=self.closed_at_ms,
            next_run=self.next_run,
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit; inbox entries and timers may still have to go."""
        return not (
            self.events
            or self.timers_set
            or ((self.timers_removed or self.given_up) and self._is_of_open_run)
            or self.fields
            or self.letters
        )

    @property
    def _is_of_open_run(self) -> bool:
        # The row of a run that has ended, or whose history is gone, may be that of a later run.
        return self.ledger.started is not None and not self.ledger.is_closed
