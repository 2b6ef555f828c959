"""Sinks for tests: one that keeps what it is given, one that hangs, one that raises."""

import threading
from collections.abc import Sequence

from orchestrator.core.values import Json
from orchestrator.training.sinks import Point


def record(
    step: int, *, run: str = "run-1", branch: str = "main", **metrics: float
) -> dict[str, Json]:
    """Return the record of one step."""
    values: dict[str, Json] = {**(metrics or {"loss": 1.0 / (step + 1)})}
    return {"run": run, "branch": branch, "step": step, "epoch": step // 10, "metrics": values}


class Keeping:
    """Keeps every point."""

    name = "keeping"

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.closed = 0

    @property
    def steps(self) -> list[int]:
        """The steps it was given, in order."""
        return [point.step for point in self.points]

    def write(self, points: Sequence[Point]) -> None:
        self.points.extend(points)

    def close(self) -> None:
        self.closed += 1


class Hanging(Keeping):
    """Hangs in `write` until let go; `entered` says that it does."""

    name = "hanging"

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def write(self, points: Sequence[Point]) -> None:
        self.entered.set()
        self.let_go.wait()
        super().write(points)


class Raising(Keeping):
    """Raises as often as it is told to."""

    name = "raising"

    def __init__(self, times: int, error: Exception | None = None) -> None:
        super().__init__()
        self.times = times
        self.error = error or ConnectionError("nobody there")
        self.tries = 0

    def write(self, points: Sequence[Point]) -> None:
        self.tries += 1
        if self.times > 0:
            self.times -= 1
            raise self.error
        super().write(points)


class ByHand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
