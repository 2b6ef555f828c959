"""What follows from an attempt that is over: the step is settled, tried again, or parked.

Pure: the entry, the outcome, an instant and a jitter in; events out.
"""

from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.ledger import StepEntry
from orchestrator.core.retry import is_final, retry_delay_ms
from orchestrator.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended.

    `kind` is "completed", "failed", "timed_out", "lost" or "cancelled".  `has_run` is False where
    it is certain that the body was never entered, True where it is certain that it ran to its end,
    None where nobody knows.  `is_terminal` rules out another attempt whatever the policy says.
    """

    kind: str
    result: Json = None
    failure: Failure | None = None
    has_run: bool | None = None
    is_terminal: bool = False


Following: TypeAlias = e.StepCompleted | e.StepFailed | e.StepAttemptFailed | e.StepParked


def follow(entry: StepEntry, outcome: Outcome, *, at_ms: int, jitter: float) -> Following:
    """Return the event that records what becomes of the step.

    `StepCompleted` and `StepFailed` settle it, `StepAttemptFailed` names the next attempt,
    `StepParked` leaves it to a person.
    """
    step, attempt = entry.scheduled.step, entry.attempt
    if outcome.kind == "completed":
        return e.StepCompleted(at_ms=at_ms, step=step, attempt=attempt, result=outcome.result)
    failure = outcome.failure or Failure(
        type="Unknown", message="the outcome came without a reason"
    )
    retry = entry.options.retry
    is_answer = outcome.kind == "failed" and is_final(retry, failure)
    # Only a body never entered, or its own definitive answer, rules an effect out.
    has_maybe_run = not is_answer if outcome.has_run is None else outcome.has_run
    wanted = not entry.is_cancel_requested
    counted = entry.attempt_counted + 1
    delay_ms = retry_delay_ms(retry, failure, attempt=counted, jitter=jitter)
    if outcome.is_terminal or (outcome.kind == "cancelled" and not entry.options.until_done):
        delay_ms = None
    if wanted and delay_ms is not None and _in_time(entry, at_ms + delay_ms):
        return e.StepAttemptFailed(
            at_ms=at_ms,
            step=step,
            attempt=attempt,
            kind=outcome.kind,
            failure=failure,
            retry_at_ms=at_ms + delay_ms,
            may_have_run=has_maybe_run,
        )
    if wanted and entry.options.until_done:
        return e.StepParked(
            at_ms=at_ms, step=step, attempt=attempt, kind=outcome.kind, failure=failure
        )
    return e.StepFailed(
        at_ms=at_ms,
        step=step,
        attempt=attempt,
        kind="cancelled" if entry.is_cancel_requested else outcome.kind,
        failure=failure,
        may_have_run=entry.has_maybe_run or has_maybe_run,
    )


def _in_time(entry: StepEntry, at_ms: int) -> bool:
    limit_ms = entry.options.schedule_to_close_ms
    return not limit_ms or at_ms < entry.scheduled_at_ms + limit_ms


def from_body(body: dict[str, Json]) -> Outcome:
    """Return the outcome in an inbox entry's body, as `WorkerStore.post_outcome` takes it.

    Raises:
        ValueError: Parts that do not fit.
    """
    kind = body.get("kind")
    if kind == "completed":
        return Outcome(kind="completed", result=body.get("result"))
    if kind not in ("failed", "timed_out", "lost", "cancelled"):
        raise ValueError(f"unknown kind of outcome {kind!r}")
    data = body.get("failure")
    if not isinstance(data, dict):
        raise ValueError(f"a {kind} outcome without a failure")
    try:
        failure = Failure.from_json(data).bounded()
    except TypeError as error:
        raise ValueError(f"a failure with parts that do not fit: {error}") from error
    ran = body.get("ran")
    return Outcome(kind=str(kind), failure=failure, has_run=ran if isinstance(ran, bool) else None)
