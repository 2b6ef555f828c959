"""The story of one seed, for people: virtual time, who, what.

Nothing is written down unless somebody reads it; telling never changes what happens.
"""

from tests.simulation.scheduler import Scheduler


class Story:
    """Lines in the order in which they happened.  `is_told` is False where nobody listens."""

    def __init__(self, scheduler: Scheduler, *, is_told: bool) -> None:
        self.lines: list[str] = []
        self.is_told = is_told
        self._scheduler = scheduler

    def tell(self, who: str, what: str) -> None:
        """Add a line."""
        if not self.is_told:
            return
        at_s = (self._scheduler.now_ms - self._scheduler.began_at_ms) / 1000
        inside = "  | " * max(0, self._scheduler.depth - 1)
        self.lines.append(f"{at_s:9.3f} s  {inside}{who:<9} {what}")

    def fault(self, who: str, what: str) -> None:
        """Add a line about a fault."""
        self.tell(who, f"** {what}")
