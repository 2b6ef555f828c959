"""What a person does to one outstanding step: hold it back, let it go on, begin its attempts anew.

PA1  A pause sends nothing and stops nothing: an attempt that runs goes on and its outcome counts;
     one that nobody has claimed is taken back by the store, in the commit of the pause.
PA2  The history need not know which of the two it was: to unpause is to send the same attempt
     again, which the store refuses to whoever comes second (H6).
PA3  Numbers of attempts are never used twice.  A reset moves only where the retry policy begins to
     count.
"""

from collections.abc import Callable, Mapping

from orchestrator.core import events as e
from orchestrator.core.ledger import StepEntry
from orchestrator.core.names import reason_in
from orchestrator.core.states import StepState
from orchestrator.core.values import Json
from orchestrator.engine.turn import Turn
from orchestrator.store.ports import TimerKind

_EVENTS: dict[str, type[e.StepPaused | e.StepUnpaused | e.StepReset]] = {
    "pause": e.StepPaused,
    "unpause": e.StepUnpaused,
    "reset": e.StepReset,
}
DECISIONS = tuple(_EVENTS)

Send = Callable[[StepEntry], None]


def decide(turn: Turn, body: Mapping[str, Json], send: Send) -> None:
    """Carry out a decision: step, decision, reason, by; `send` puts an attempt on its way."""
    step, decision = body.get("step"), str(body.get("decision"))
    request_id = str(body.get("request_id") or "")
    entry = turn.ledger.steps.get(step) if isinstance(step, int) else None
    if entry is None:
        turn.reject("decision", f"{decision}: step {step} is not outstanding", request_id)
        return
    if entry.state is StepState.PARKED:
        reason = f"{decision}: step {step} is parked; retry, skip or done is wanted"
        turn.reject("decision", reason, request_id)
        return
    if entry.is_paused and decision == "pause":
        turn.reject("decision", f"step {step} is paused already", request_id)
        return
    if not entry.is_paused and decision == "unpause":
        turn.reject("decision", f"step {step} is not paused", request_id)
        return
    reason, by = reason_in(body.get("reason")), reason_in(body.get("by"))
    turn.draft.record(
        _EVENTS[decision](
            at_ms=turn.at_ms,
            step=entry.scheduled.step,
            attempt=entry.attempt,
            reason=reason,
            by=by,
        )
    )
    if decision == "pause":
        _hold(turn, entry)
    elif decision == "unpause" or (not entry.is_paused and entry.state is StepState.BACKOFF):
        _go_on(turn, entry, send)


def _hold(turn: Turn, entry: StepEntry) -> None:
    if entry.state is StepState.BACKOFF:
        turn.draft.remove_timer(
            turn.draft.timer(TimerKind.RETRY, entry.scheduled.step, entry.attempt)
        )
    else:
        turn.draft.hold(entry)


def _go_on(turn: Turn, entry: StepEntry, send: Send) -> None:
    """Send the current attempt now: the next one, or the one that was taken back."""
    step, attempt = entry.scheduled.step, entry.attempt
    if entry.state is StepState.BACKOFF:
        turn.draft.remove_timer(turn.draft.timer(TimerKind.RETRY, step, attempt))
        turn.draft.record(e.StepRetried(at_ms=turn.at_ms, step=step, attempt=attempt))
        send(entry)
    elif not entry.options.local:
        # A local attempt was claimed as it was sent, and never taken back.
        send(entry)
