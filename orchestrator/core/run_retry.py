"""Whether a run that failed is followed by another attempt, as the next run of its id.

RR1  It is where its start gave a retry policy, the failure is not final by it, attempts are left,
     and the next one would begin before the chain's deadline.  A run that was asked to stop, that
     ended otherwise, whose `execution_timeout` is over, or that timed out while it was blocked,
     is not attempted again.
RR2  The decision stands in the `RunFailed` event: from then on the run has failed, and its chain
     goes on.  Whoever waits for the end of the run waits for the end of the chain.
RR3  Each attempt has the first one's input.  Signals that nobody has taken go over to it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.core import events as e
from orchestrator.core.ledger import Ledger
from orchestrator.core.retry import Retry, retry_delay_ms
from orchestrator.core.values import Json


def with_next_attempt(
    ending: e.RunFailed, ledger: Ledger, *, at_ms: int, jitter: float
) -> e.RunFailed:
    """Return the ending of a run, with the instant of the next attempt if there is one (RR1).

    Args:
        ending: As the workflow came to it.
        ledger: Of the run.
        at_ms: Now.
        jitter: In [0, 1).
    """
    started = ledger.started
    if started is None or not started.retry or ledger.is_asked_to_stop:
        return ending
    wait_ms = retry_delay_ms(
        Retry.from_json(started.retry), ending.failure, attempt=started.attempt + 1, jitter=jitter
    )
    until_ms = started.execution_deadline_at_ms
    if wait_ms is None or (until_ms and at_ms + wait_ms >= until_ms):
        return ending
    return replace(ending, retry_at_ms=at_ms + wait_ms)


def goes_on(ending: e.Event | None) -> bool:
    """Return whether the next run of the id goes on for the one that ended so."""
    match ending:
        case e.RunContinuedAsNew() | e.RunReset():
            return True
        case e.RunFailed():
            return ending.retry_at_ms > 0
        case _:
            return False


def attempt_in(body: Mapping[str, Json]) -> dict[str, Any]:
    """Return the fields of `RunStarted` that a START's body asks for: retry, attempt."""
    retry, attempt = body.get("retry"), body.get("attempt")
    found: dict[str, Any] = {}
    if isinstance(retry, dict):
        found["retry"] = retry
    if isinstance(attempt, int):
        found["attempt"] = attempt
    return found
