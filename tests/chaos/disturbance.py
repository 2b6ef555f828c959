"""When a storm kept the engine from taking over: no server, or an orchestrator that was hit.

What is taken over within a bar in quiet weather takes, in a storm, that bar and the time in which
something else was the matter; so that is what takeovers are measured against.
"""

import math
import time
from collections.abc import Callable

from orchestrator.core.limits import CLAIM_TTL_MS, LEASE_TTL_MS

#: An orchestrator that was hit: its leases expire, and another one takes them at its next look.
LEASES_S = LEASE_TTL_MS / 1000 + 1.5
#: An orchestrator that comes when there was none starts for so long; nine seconds were seen on a
#: machine full of tests.
START_S = 10.0
#: A server that comes back: no claim counts as expired before its worker could renew it.
GRACE_S = CLAIM_TTL_MS / 1000 + 1.5


class Disturbances:
    """Spans of monotonic time, by what was the matter.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: Name, begin, end, and the earliest end.
        self._spans: list[tuple[str, float, float, float]] = []
        self._standstills: list[tuple[float, float]] = []

    def add_standstill(self, began: float, ended: float) -> None:
        """The machine stood still between these instants; any thread may say so."""
        self._standstills.append((began, ended))

    def begin(self, name: str, least_s: float = 0.0) -> None:
        """From now on `name` is away, which is felt for `least_s` at least."""
        now = self._clock()
        self._spans.append((name, now, math.inf, now + least_s))

    def end(self, name: str, aftermath_s: float = 0.0) -> None:
        """It is there again, or was replaced; which is felt after so many seconds."""
        end = self._clock() + aftermath_s
        self._spans = [
            (other, began, max(end, least) if other == name and math.isinf(ended) else ended, least)
            for other, began, ended, least in self._spans
        ]

    def seconds(self, since: float, until: float, *, but: str = "") -> float:
        """Return for how much of this time anything, `but` for one, was the matter."""
        named = [(began, ended) for name, began, ended, _ in self._spans if name != but]
        spans = sorted(
            (max(began, since), min(ended, until))
            for began, ended in (*named, *self._standstills)
            if began < until and ended > since
        )
        total, reached = 0.0, since
        for began, ended in spans:
            total += max(0.0, ended - max(began, reached))
            reached = max(reached, ended)
        return total
