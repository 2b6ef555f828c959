"""The timer of a run's deadline; see `core.deadlines`."""

from orchestrator.core import events as e
from orchestrator.core.deadlines import deadline_of, failure_of_timeout
from orchestrator.engine.turn import Turn
from orchestrator.store.ports import TimerKey, TimerKind


def set_deadline(turn: Turn, started: e.RunStarted) -> None:
    """Set the timer of a run that begins, if its time is bounded."""
    deadline = deadline_of(started)
    if deadline is not None:
        turn.draft.set_timer(turn.draft.timer(TimerKind.RUN_TIMEOUT, 0), deadline.at_ms)


def take_deadline(turn: Turn, timer: TimerKey) -> None:
    """The timer is due: the run's time is over."""
    turn.draft.remove_timer(timer)
    started = turn.ledger.started
    deadline = None if started is None else deadline_of(started)
    if deadline is None or turn.ledger.is_closed or turn.ledger.timed_out is not None:
        return
    turn.inputs.append(
        e.RunTimedOut(at_ms=turn.at_ms, kind=deadline.kind, due_at_ms=deadline.at_ms)
    )


def ending_of_blocked(turn: Turn) -> e.RunTerminated | e.RunFailed | None:
    """Return how a blocked run ends that was told to; None for one that was not, or cannot yet.

    With something to undo, it waits for fitting code: its compensations are ordered by that code,
    in its order.
    """
    ledger = turn.ledger
    if ledger.has_obligations:
        return None
    if ledger.is_terminate_requested:
        return e.RunTerminated(at_ms=turn.at_ms, reason="terminated while blocked")
    if ledger.timed_out is not None:
        return e.RunFailed(at_ms=turn.at_ms, failure=failure_of_timeout(ledger.timed_out))
    return None
