"""How one step is to be carried out: queue, retries, time-outs.

Options are recorded with the step, so that a run keeps the ones it was given; changing them in
code does not block a run that replays, but for `cancellation`, `concurrency_key` and `rate_limit`,
which decide what the run orders.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, get_args

from orchestrator.core.errors import UsageError
from orchestrator.core.limits import SUMMARY_BYTES_MAX
from orchestrator.core.rates import Rate, checked_key, checked_permits
from orchestrator.core.retry import Retry
from orchestrator.core.search_attributes import checked_text
from orchestrator.core.values import Json

#: What a cancelled wait does to its step: asks it to stop and goes on at once; asks, and waits for
#: its end; or leaves it alone.
Cancellation = Literal["try", "wait", "abandon"]
CANCELLATIONS: tuple[str, ...] = get_args(Cancellation)


def _ms(interval: timedelta | None) -> int:
    return 0 if interval is None else max(1, round(interval.total_seconds() * 1000))


def _interval(ms: Json) -> timedelta | None:
    return timedelta(milliseconds=ms) if isinstance(ms, int) and ms else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """Settings of one step.

    Args:
        queue: Celery queue; None for the one the task is routed to.
        priority: As the broker understands it; None for its default.
        retry: See `Retry`.
        schedule_to_start: Longest wait in the queue of one attempt; its end is final.
        start_to_close: Longest run of one attempt.
        schedule_to_close: Longest time for the step in all; its end is final.
        heartbeat: Longest silence between two heartbeats of one attempt.
        local: Run inside the orchestrator, for what takes milliseconds.
        cancellation: What becomes of the step when whoever waits for it is cancelled: "try" asks
            it to stop and does not wait, "wait" asks and waits for its end, "abandon" lets it go
            on for as long as the run is open.  Unlike the others it decides what a run orders:
            other code for open runs changes their commands.
        concurrency_key: The step is ordered once the run holds a permit of this key, which it gives
            back when the step has settled; see `workflow.semaphore`.  Not recorded with the step:
            the permit has events of its own, which are part of what a run orders.
        concurrency_limit: How many may hold one at a time; 1 unless given.
        rate_limit: The step is ordered once this rate lets it; see `workflow.rate_limit`.
        until_done: Never given up: after its last attempt the step is parked, for a person.
        summary: One line for people; recorded beside the options.

    Raises:
        UsageError, PayloadTooLarge: The summary is no text, or beyond its bound; a key or a limit
            that cannot be.
    """

    queue: str | None = None
    priority: int | None = None
    retry: Retry = field(default_factory=Retry)
    schedule_to_start: timedelta | None = None
    start_to_close: timedelta | None = None
    schedule_to_close: timedelta | None = None
    heartbeat: timedelta | None = None
    local: bool = False
    cancellation: Cancellation = "try"
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    rate_limit: Rate | None = None
    until_done: bool = False
    summary: str = ""

    def __post_init__(self) -> None:
        checked_text("summary of a step", self.summary, SUMMARY_BYTES_MAX)
        if self.concurrency_key is not None:
            checked_key(self.concurrency_key)
        if self.concurrency_limit is not None:
            checked_permits(self.concurrency_limit)
            if self.concurrency_key is None:
                raise UsageError("concurrency_limit= limits a key: give concurrency_key= as well")

    @property
    def schedule_to_start_ms(self) -> int:
        """Milliseconds; 0 for none."""
        return _ms(self.schedule_to_start)

    @property
    def start_to_close_ms(self) -> int:
        """Milliseconds; 0 for none."""
        return _ms(self.start_to_close)

    @property
    def schedule_to_close_ms(self) -> int:
        """Milliseconds; 0 for none."""
        return _ms(self.schedule_to_close)

    @property
    def heartbeat_ms(self) -> int:
        """Milliseconds; 0 for none."""
        return _ms(self.heartbeat)

    def as_json(self) -> dict[str, Json]:
        """Return what differs from the defaults, as a JSON object."""
        data: dict[str, Json] = {}
        if self.queue is not None:
            data["queue"] = self.queue
        if self.priority is not None:
            data["priority"] = self.priority
        if self.retry != _DEFAULT_RETRY:
            data["retry"] = self.retry.as_json()
        for name in ("schedule_to_start", "start_to_close", "schedule_to_close", "heartbeat"):
            if getattr(self, name) is not None:
                data[f"{name}_ms"] = _ms(getattr(self, name))
        if self.local:
            data["local"] = True
        if self.cancellation != "try":
            data["cancellation"] = self.cancellation
        if self.until_done:
            data["until_done"] = True
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> "StepOptions":
        """Return the options that `as_json` wrote."""
        retry = data.get("retry")
        return cls(
            queue=data.get("queue"),  # type: ignore[arg-type]
            priority=data.get("priority"),  # type: ignore[arg-type]
            retry=Retry.from_json(retry) if isinstance(retry, dict) else _DEFAULT_RETRY,
            schedule_to_start=_interval(data.get("schedule_to_start_ms")),
            start_to_close=_interval(data.get("start_to_close_ms")),
            schedule_to_close=_interval(data.get("schedule_to_close_ms")),
            heartbeat=_interval(data.get("heartbeat_ms")),
            local=bool(data.get("local")),
            cancellation=data.get("cancellation", "try"),  # type: ignore[arg-type]
            until_done=bool(data.get("until_done")),
        )


_DEFAULT_RETRY = Retry()
