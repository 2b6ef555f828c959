"""Clocks: the machine's, and one that tests turn by hand.

The store on Redis needs neither: its clock is the server's.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time, in milliseconds since the Unix epoch."""

    @property
    def now_ms(self) -> int:
        """The instant."""
        ...

    @property
    def is_manual(self) -> bool:
        """Whether time stands still until somebody moves it, so that waiting has no use."""
        ...


class SystemClock:
    """The machine's clock."""

    is_manual = False

    @property
    def now_ms(self) -> int:
        """The instant."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that moves only when told; starts at a round instant in 2025."""

    is_manual = True

    def __init__(self, now_ms: int = 1_750_000_000_000) -> None:
        self.now_ms = now_ms

    def advance(self, ms: int) -> None:
        """Move on by `ms`."""
        assert ms >= 0, "time does not run backwards"
        self.now_ms += ms
