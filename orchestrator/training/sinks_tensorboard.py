"""Event files for TensorBoard: one folder for every branch, below that of its run.

A step that is trained again after a crash is written again; TensorBoard shows both where they
differ, which for the same orders they do not.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from orchestrator.training.errors import TrainingDependencyMissing
from orchestrator.training.sinks import Point

#: Each has a file and a thread of its own: a worker trains one branch at a time.
WRITERS_MAX = 8


class Writer(Protocol):
    """What is used of ``tensorboard.summary.Writer``."""

    def add_scalar(self, tag: str, data: float, step: int) -> None:
        """Note one value."""

    def flush(self) -> None:
        """Write what was noted to the file."""

    def close(self) -> None:
        """Flush, and close the file."""


class TensorBoardSink:
    """See `sinks.Sink`."""

    name = "tensorboard"

    def __init__(
        self, folder: str | Path, *, open_writer: Callable[[str], Writer] | None = None
    ) -> None:
        """Write below `folder`; `open_writer` opens one file's writer, TensorBoard's by default.

        Raises:
            TrainingDependencyMissing: tensorboard is not installed.
        """
        self._folder = Path(folder)
        self._open = open_writer or _tensorboard()
        self._writers: OrderedDict[tuple[str, str], Writer] = OrderedDict()

    def write(self, points: Sequence[Point]) -> None:
        """See `sinks.Sink`."""
        for point in points:
            writer = self._writer((point.run, point.branch))
            for name, value in point.values.items():
                writer.add_scalar(name, value, point.step)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """See `sinks.Sink`."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _writer(self, place: tuple[str, str]) -> Writer:
        if place not in self._writers:
            # Ids are other people's words: none of them leaves the folder.
            names = (quote(part, safe="").replace(".", "%2E") for part in place)
            self._writers[place] = self._open(str(self._folder.joinpath(*names)))
        self._writers.move_to_end(place)
        while len(self._writers) > WRITERS_MAX:
            self._writers.popitem(last=False)[1].close()
        return self._writers[place]


def _tensorboard() -> Callable[[str], Writer]:
    try:
        from tensorboard.summary import Writer as found
    except ImportError as error:
        raise TrainingDependencyMissing(
            "the TensorBoard sink", "tensorboard", "tensorboard"
        ) from error
    opened: Callable[[str], Writer] = found
    return opened
