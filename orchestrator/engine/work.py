"""What one cycle of an owner has found to do, by run and in order.

It is a share of what there is: arrivals that come meanwhile wait until the cycle is through.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from orchestrator.engine.run import Arrival
from orchestrator.store.ports import AttemptKey, RunKey, TimerKey


@dataclass(slots=True)
class Work:
    """What one cycle found."""

    arrivals: dict[RunKey, list[Arrival]] = field(default_factory=dict)
    #: The latest instant that the store itself named: no timer is recorded before it was due.
    seen_ms: int = 0

    def add(self, key: RunKey, arrival: Arrival) -> None:
        """Add what arrived for a run, behind what is there of it."""
        self.arrivals.setdefault(key, []).append(arrival)

    def add_due(
        self,
        timers: Sequence[TimerKey],
        claims: Sequence[AttemptKey],
        *,
        count: int,
        resting: Container[RunKey],
    ) -> bool:
        """Add a partition's due timers and expired claims; return whether there is more to do.

        Args:
            timers: All of them, or at least `count`.
            claims: All of them, or at least `count`.
            count: So many of each, at most, are added.
            resting: Runs that are left out, and not counted: nothing can be done for them now.
        """
        is_cut = max(len(timers), len(claims)) >= count
        timers = [timer for timer in timers if timer.run_key not in resting]
        claims = [claim for claim in claims if claim.run_key not in resting]
        for timer in timers[:count]:
            self.add(timer.run_key, timer)
        for claim in claims[:count]:
            self.add(claim.run_key, claim)
        return is_cut and bool(timers or claims)
