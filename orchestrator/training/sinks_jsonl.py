"""A file with one JSON object a line, for people, plots and anything that reads lines.

J1  Lines are appended whole, in one write, by whoever trains: a worker that was killed leaves at
    most a torn last line, and the next one begins on a line of its own.
J2  JSON has no NaN: a value that is not finite is written as text ("nan", "inf", "-inf").
J3  A file has a bound.  One that has reached it is renamed, once, with ``.1`` behind its name.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator.core.values import Json
from orchestrator.training.sinks import Point

#: A year of a step a second, with three metrics.
FILE_BYTES_MAX = 4 * 2**30


class JsonlSink:
    """See `sinks.Sink`.  Keeps no file open between two writes."""

    name = "jsonl"

    def __init__(self, path: str | Path, *, bytes_max: int = FILE_BYTES_MAX) -> None:
        self._path = Path(path)
        self._bytes_max = bytes_max

    def write(self, points: Sequence[Point]) -> None:
        """See `sinks.Sink`."""
        data = "".join(f"{_line(point)}\n" for point in points).encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                data = b"\n" + data
            written = os.write(file, data)
        finally:
            os.close(file)
        if written < len(data):
            raise OSError(f"{self._path}: {written} of {len(data)} bytes written; is it full?")
        if size + written >= self._bytes_max:
            self._path.replace(f"{self._path}.1")

    def close(self) -> None:
        """See `sinks.Sink`."""


def read_points(path: str | Path, *, run: str, branch: str | None = None) -> list[Point]:
    """Return a run's points, by branch and step; the last one written of each counts.

    Lines that are no points, as a killed writer leaves them, are passed over.
    """
    found: dict[tuple[str, int], Point] = {}
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            point = _point(line)
            if point is not None and point.run == run and branch in (None, point.branch):
                found[point.branch, point.step] = point
    return [found[place] for place in sorted(found)]


def _line(point: Point) -> str:
    fields: dict[str, Json] = {
        "run": point.run,
        "branch": point.branch,
        "epoch": point.epoch,
        "step": point.step,
        "metrics": {
            name: value if math.isfinite(value) else str(value)
            for name, value in point.values.items()
        },
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _point(line: str) -> Point | None:
    try:
        fields = json.loads(line)
        values = {name: float(value) for name, value in fields["metrics"].items()}
        return Point(
            run=str(fields["run"]),
            branch=str(fields["branch"]),
            step=int(fields["step"]),
            epoch=int(fields["epoch"]),
            values=values,
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
