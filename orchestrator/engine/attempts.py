"""What outcomes, timers, expired claims and decisions make of a run's steps."""

import logging
from collections.abc import Mapping

from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.ledger import StepEntry
from orchestrator.core.names import reason_in
from orchestrator.core.states import StepState
from orchestrator.core.values import Json, loads
from orchestrator.engine import pausing
from orchestrator.engine.draft import idempotency_key
from orchestrator.engine.outcomes import Outcome, follow, from_body
from orchestrator.engine.ports import Outgoing
from orchestrator.engine.turn import Turn
from orchestrator.store.ports import AttemptKey, TimerKey, TimerKind

logger = logging.getLogger("orchestrator.engine")


class Attempts:
    """Looks after the outstanding steps of one run."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def decide(self, body: Mapping[str, Json]) -> None:
        """A person decides about a step: step, decision, reason, by, and for which run."""
        step, decision = body.get("step"), str(body.get("decision"))
        run, request_id = body.get("for_run", self._turn.key.run), str(body.get("request_id") or "")
        if run != self._turn.key.run:
            # The run went on meanwhile: the step of this number is another one here.
            ended = f"it is about step {step} of run {run}, which has ended"
            self._turn.reject("decision", ended, request_id)
            return
        if decision in pausing.DECISIONS:
            pausing.decide(self._turn, body, self._send)
            return
        reason, by = reason_in(body.get("reason")), reason_in(body.get("by"))
        entry = self._turn.ledger.steps.get(step) if isinstance(step, int) else None
        if entry is None or entry.state is not StepState.PARKED:
            self._turn.reject("decision", f"step {step} is not parked", request_id)
            return
        if decision not in ("retry", "skip", "done") or not (reason or decision == "retry"):
            wanted = f"{decision!r}: retry, or skip or done with a reason, is wanted"
            self._turn.reject("decision", wanted, request_id)
            return
        attempt = entry.attempt + (decision == "retry")
        number = entry.scheduled.step
        self._turn.draft.record(
            e.StepUnparked(
                at_ms=self._turn.at_ms,
                step=number,
                attempt=attempt,
                decision=decision,
                reason=reason,
                by=by,
            )
        )
        if decision == "retry":
            self._send(entry)
        else:
            self._turn.draft.settle(entry)
            self._turn.inputs.append(
                e.StepCompleted(at_ms=self._turn.at_ms, step=number, attempt=attempt, result=None)
            )

    def outcome(self, body: Mapping[str, Json]) -> None:
        """An attempt is over: step, attempt, and how, as `WorkerStore.post_outcome` takes it."""
        step, attempt = body.get("step"), body.get("attempt")
        if not isinstance(step, int) or not isinstance(attempt, int):
            self._turn.reject("outcome", "it names no step and attempt")
            return
        entry = self._turn.ledger.steps.get(step)
        if entry is None or entry.attempt != attempt or entry.state is not StepState.SCHEDULED:
            self._refuse_outcome(step, attempt, body)
            return
        try:
            outcome = from_body(dict(body))
        except ValueError as error:
            failure = Failure(type="UnreadableOutcome", message=str(error))
            outcome = Outcome(kind="failed", failure=failure)
        self._follow(entry, outcome)

    def late_outcome(self, body: Mapping[str, Json]) -> None:
        """An attempt that was given up is over after all: step, attempt, kind."""
        step, attempt = body.get("step"), body.get("attempt")
        if isinstance(step, int) and isinstance(attempt, int):
            self._refuse_outcome(step, attempt, body)
        else:
            self._turn.reject("outcome", "it names no step and attempt")

    def _refuse_outcome(self, step: int, attempt: int, body: Mapping[str, Json]) -> None:
        is_settled = step not in self._turn.ledger.steps
        reason = (
            "the step is no longer outstanding"
            if is_settled
            else "the attempt was already given up"
        )
        self._turn.draft.record(
            e.OutcomeRefused(
                at_ms=self._turn.at_ms,
                step=step,
                attempt=attempt,
                kind=str(body.get("kind")),
                reason=reason,
            )
        )

    def take_timer(self, timer: TimerKey) -> None:
        """A timer of a step is due; one that is not outstanding any more is removed."""
        self._turn.draft.remove_timer(timer)
        entry = self._turn.ledger.steps.get(timer.number)
        if entry is None:
            return
        if timer.kind is TimerKind.SCHEDULE_TO_CLOSE:
            self._time_out(entry, timer.kind)
        elif timer.attempt == entry.attempt:
            self._take_attempt_timer(entry, timer.kind)

    def _take_attempt_timer(self, entry: StepEntry, kind: TimerKind) -> None:
        step, attempt = entry.scheduled.step, entry.attempt
        if kind is TimerKind.RETRY:
            if entry.state is StepState.BACKOFF and not entry.is_paused:
                self._turn.draft.record(
                    e.StepRetried(at_ms=self._turn.at_ms, step=step, attempt=attempt)
                )
                self._send(entry)
        elif entry.state is not StepState.SCHEDULED:
            return
        elif entry.is_paused and kind in (TimerKind.UNCLAIMED, TimerKind.SCHEDULE_TO_START):
            return  # It was taken back, or is running; the commit that paused it removes the timer.
        elif kind is TimerKind.UNCLAIMED:
            resend = entry.resends + 1
            self._turn.draft.record(
                e.StepResent(at_ms=self._turn.at_ms, step=step, attempt=attempt, resend=resend)
            )
            self._turn.draft.messages.append(
                self._turn.tools.dispatcher.message(self._outgoing(entry))
            )
            self._turn.draft.arm_resend(entry, now_ms=self._turn.at_ms)
        else:
            self._time_out(entry, kind)

    def _time_out(self, entry: StepEntry, kind: TimerKind) -> None:
        """End the attempt by one of the four time-outs; two of them end the step."""
        if entry.state is StepState.PARKED:
            return  # A person is asked already; no clock takes that away.
        has_run = self._guard_time_out(entry, kind)
        limit_ms = {
            TimerKind.SCHEDULE_TO_START: entry.options.schedule_to_start_ms,
            TimerKind.START_TO_CLOSE: entry.options.start_to_close_ms,
            TimerKind.SCHEDULE_TO_CLOSE: entry.options.schedule_to_close_ms,
            TimerKind.HEARTBEAT: entry.options.heartbeat_ms,
        }[kind]
        failure = Failure(
            type=f"{kind.value}_timeout",
            message=f"not within {limit_ms} ms",
            details=self._last_details(entry) if has_run is None else None,
        )
        self._follow(
            entry,
            Outcome(
                kind="timed_out",
                failure=failure,
                has_run=has_run,
                is_terminal=kind in (TimerKind.SCHEDULE_TO_START, TimerKind.SCHEDULE_TO_CLOSE),
            ),
        )

    def _last_details(self, entry: StepEntry) -> Json:
        """Return what the step's last heartbeat left, or None.

        Raises:
            StoreUnavailable: The store alone knows it.
        """
        row = self._turn.tools.read_step(self._turn.key, entry.scheduled.step)
        return loads(row["details"]) if "details" in row else None

    def _guard_time_out(self, entry: StepEntry, kind: TimerKind) -> bool | None:
        """Let the commit check what the time-out presumes; return what is known of the body."""
        draft = self._turn.draft
        if entry.state is not StepState.SCHEDULED or entry.scheduled.step in draft.steps_sent:
            return False  # No attempt is out there; one that this very commit sends is taken back.
        key = draft.attempt_key(entry.scheduled.step, entry.attempt)
        if kind is TimerKind.SCHEDULE_TO_START:
            draft.unclaimed.append(key)
            return False
        draft.unposted.append(key)
        return None

    def take_expired_claim(self, key: AttemptKey) -> None:
        """The claim of an attempt was not renewed: its worker is taken for dead."""
        self._turn.draft.given_up.append(key)
        entry = None if self._turn.ledger.is_closed else self._turn.ledger.steps.get(key.step)
        if entry is None or entry.attempt != key.attempt or entry.state is not StepState.SCHEDULED:
            return
        failure = Failure(
            type="WorkerLost", message="the worker stopped renewing its claim: killed, or cut off"
        )
        self._follow(entry, Outcome(kind="lost", failure=failure))

    def _follow(self, entry: StepEntry, outcome: Outcome) -> None:
        event = follow(entry, outcome, at_ms=self._turn.at_ms, jitter=self._turn.tools.rng.random())
        match event:
            case e.StepAttemptFailed():
                self._turn.draft.rest(entry)
                self._turn.draft.record(event)
                timer = self._turn.draft.timer(TimerKind.RETRY, event.step, entry.attempt)
                if not entry.is_paused:
                    self._turn.draft.set_timer(timer, event.retry_at_ms)
            case e.StepParked():
                self._turn.draft.rest(entry)
                self._turn.draft.record(event)
                logger.error(
                    "%s: step %d %s gave up and waits for a decision (retry, skip or done): %s",
                    self._turn.key,
                    event.step,
                    entry.scheduled.task,
                    event.failure.type,
                )
            case _:
                self._turn.draft.settle(entry)
                self._turn.inputs.append(event)

    def _outgoing(self, entry: StepEntry) -> Outgoing:
        scheduled = entry.scheduled
        undone = scheduled.compensates
        own, orderer_of = str(self._turn.key), self._turn.ledger.orderer_of
        return Outgoing(
            key=self._turn.draft.attempt_key(scheduled.step, entry.attempt),
            task=scheduled.task,
            args=scheduled.args,
            kwargs=scheduled.kwargs,
            # A step that was copied keeps the key that it was ordered under (RT3).
            idempotency_key=idempotency_key(orderer_of(scheduled.step) or own, scheduled.step),
            compensates=idempotency_key(orderer_of(undone) or own, undone) if undone else "",
            workflow=self._turn.started.workflow,
            queue=entry.options.queue,
            priority=entry.options.priority,
            headers=self._turn.started.headers if scheduled.headers is None else scheduled.headers,
        )

    def _send(self, entry: StepEntry) -> None:
        outgoing = self._outgoing(entry)
        if entry.options.local:
            token = f"{self._turn.tools.owner_id}/{self._turn.tools.rng.getrandbits(64):016x}"
            self._turn.draft.send(entry, now_ms=self._turn.at_ms, local_token=token)
            self._turn.draft.local_sent.append((outgoing, token))
        else:
            self._turn.draft.send(entry, now_ms=self._turn.at_ms)
            self._turn.draft.messages.append(self._turn.tools.dispatcher.message(outgoing))

    def schedule(self, entry: StepEntry) -> None:
        """Put a step that was just recorded on its way."""
        self._send(entry)
        self._set_close(entry, self._turn.at_ms)

    def resume(self, entry: StepEntry) -> None:
        """Put a step that a copied history left outstanding on its way, as far as it still is."""
        draft = self._turn.draft
        if entry.state is StepState.SCHEDULED:
            self._send(entry)
        elif entry.state is StepState.BACKOFF:
            timer = draft.timer(TimerKind.RETRY, entry.scheduled.step, entry.attempt)
            draft.set_timer(timer, self._turn.at_ms)
        self._set_close(entry, entry.scheduled_at_ms)

    def _set_close(self, entry: StepEntry, since_ms: int) -> None:
        limit_ms = entry.options.schedule_to_close_ms
        if limit_ms:
            timer = self._turn.draft.timer(TimerKind.SCHEDULE_TO_CLOSE, entry.scheduled.step)
            self._turn.draft.set_timer(timer, since_ms + limit_ms)

    def cancel(self, step: int) -> None:
        """The workflow no longer wants a step; what becomes of it follows as an input."""
        entry = self._turn.ledger.steps.get(step)
        if entry is None:
            return  # Settled while the run was blocked.
        if entry.state is StepState.BACKOFF:
            failure = Failure(type="StepCancelled", message="cancelled between two attempts")
            self._follow(entry, Outcome(kind="cancelled", failure=failure, has_run=False))
        elif entry.state is StepState.SCHEDULED:
            self._turn.draft.steps_cancelled.append(step)
            if entry.options.local:
                self._turn.draft.local_cancelled.append(
                    self._turn.draft.attempt_key(step, entry.attempt)
                )
