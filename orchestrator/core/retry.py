"""When a failed attempt is followed by another one.

Pure: the engine draws the jitter and records the instant, so that history tells what was decided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.core.failure import Failure
from orchestrator.core.values import Json


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and after which waits, a step is attempted.

    Args:
        attempts: Executions in all, the first included; None for as many as it takes.
        initial: Upper bound of the wait before the second attempt; each further bound is `factor`
            times the last, up to `interval_max`.
        factor: At least 1.
        interval_max: No wait is longer.
        non_retryable: Names of exception classes (or declared types) that are final answers.

    Raises:
        ValueError: A number out of its range.
    """

    attempts: int | None = 5
    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    interval_max: timedelta = timedelta(seconds=100)
    non_retryable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"Retry.attempts is {self.attempts}; at least 1, or None for no end")
        if self.initial < timedelta(0) or self.interval_max < self.initial:
            raise ValueError("Retry: 0 <= initial <= interval_max is wanted")
        if self.factor < 1:
            raise ValueError(f"Retry.factor is {self.factor}; at least 1 is wanted")
        object.__setattr__(self, "non_retryable", tuple(self.non_retryable))

    def as_json(self) -> dict[str, Json]:
        """Return the policy as a JSON object; intervals in milliseconds."""
        return {
            "attempts": self.attempts,
            "initial_ms": round(self.initial.total_seconds() * 1000),
            "factor": self.factor,
            "interval_max_ms": round(self.interval_max.total_seconds() * 1000),
            "non_retryable": list(self.non_retryable),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> "Retry":
        """Return the policy that `as_json` wrote."""
        return cls(
            attempts=data["attempts"],  # type: ignore[arg-type]
            initial=timedelta(milliseconds=data["initial_ms"]),  # type: ignore[arg-type]
            factor=data["factor"],  # type: ignore[arg-type]
            interval_max=timedelta(milliseconds=data["interval_max_ms"]),  # type: ignore[arg-type]
            non_retryable=tuple(data["non_retryable"]),  # type: ignore[arg-type]
        )


#: A compensation, and a step after the point of no return: until it works.
RETRY_UNTIL_DONE = Retry(attempts=None, interval_max=timedelta(seconds=60))


def is_final(policy: Retry, failure: Failure) -> bool:
    """Return whether `failure` is a definitive answer of the step's body: no further attempt."""
    return failure.non_retryable or failure.type in policy.non_retryable


def retry_delay_ms(policy: Retry, failure: Failure, *, attempt: int, jitter: float) -> int | None:
    """Return the wait before `attempt`, or None when the step has had its last.

    "Full jitter": ``jitter * min(interval_max, initial * factor ** (attempt - 2))``, unless the
    failure itself names a delay.

    Args:
        policy: See `Retry`.
        failure: What ended the attempt before.
        attempt: The upcoming execution, counted from 1.  The first retry is 2.
        jitter: In [0, 1).  Drawn by the engine.

    Source:
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    assert attempt >= 2, "the first attempt does not wait"
    assert 0.0 <= jitter < 1.0
    if is_final(policy, failure):
        return None
    if policy.attempts is not None and attempt > policy.attempts:
        return None
    if failure.next_retry_delay_ms is not None:
        return failure.next_retry_delay_ms
    # The exponent is capped before the power: thousands of attempts would overflow a float.
    growth = policy.factor ** min(attempt - 2, 64)
    ceiling = min(policy.interval_max.total_seconds(), policy.initial.total_seconds() * growth)
    return int(jitter * ceiling * 1000)
