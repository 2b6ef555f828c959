"""Finding runs: what the store keeps beside each run so that listings need not look at all.

I1  Every run, from its start on, is in the indexes ``all``, ``open`` (until it ends),
``type:<its type>``, ``status:<its status>`` and those of its attributes
(`core.search_attributes`), and in no other; whatever changes its row changes them in the same
act.
I2  An index orders its runs by their start, those of one millisecond by their names; so a page
that begins after a place is the same page, however many runs have started since that
millisecond.
I3  The row of a run is kept after another run of its id has begun.
I4  A run may be indexed anew from its history at any time: nothing happens where the history
has grown meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

#: Fields of a row that a page shows; `ClientStore.read_rows` has them all.
PAGE_FIELDS = (
    "run",
    "type",
    "status",
    "version",
    "started_at_ms",
    "closed_at_ms",
    "seq",
    "attributes",
)

#: A place in an index: the run's start, and its name.
Place = tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which part of an index: up to `count` runs after a place, newest first.

    `newest_ms` and `oldest_ms` bound the start, both inclusive; None for no bound.
    """

    count: int
    after: Place | None = None
    newest_ms: int | None = None
    oldest_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexPage:
    """A part of an index: rows, newest first, each with the place it stands at.

    `after` is where the next page begins; None where nothing is left.  A page may be short with
    more to come.
    """

    rows: Sequence[tuple[Place, dict[str, str]]]
    after: Place | None


class RunIndex(Protocol):
    """The part of the client's store that finds runs."""

    def page_runs(self, indexes: Sequence[str], window: Window) -> IndexPage:
        """Return runs that are in any of `indexes`: ``PAGE_FIELDS`` and ``workflow_id``.

        Raises:
            ConfigurationError: An earlier version made the namespace, and its runs have not been
                indexed since; so does `index_sizes`.
        """
        ...

    def index_sizes(self, indexes: Sequence[str]) -> list[int]:
        """Return how many runs are in each index."""
        ...

    def read_rows(self, runs: Sequence[tuple[str, int]]) -> list[dict[str, str] | None]:
        """Return the rows of runs, as `find_row`, also of those that another run replaced."""
        ...

    def list_all_runs(self, partition: int) -> list[tuple[str, int]]:
        """Return every run of a partition, whatever the indexes say."""
        ...

    def reindex_run(self, workflow_id: str, run: int, row: Mapping[str, str]) -> bool:
        """Make a run's row say what `row` says, and its indexes what the row says (I4).

        `row` has ``seq``, the last event it was made from; return False, having changed nothing,
        where the row has another one by now.
        """
        ...

    def mark_indexed(self) -> None:
        """Take note that every run of the namespace has been indexed."""
        ...


def run_of(member: str) -> tuple[str, int]:
    """Return id and run number of what `place_of` names."""
    workflow_id, _, run = member.rpartition(".")
    return workflow_id, int(run)


def place_of(started_at_ms: str | int, workflow_id: str, run: str | int) -> Place:
    """Return where a run stands in every index."""
    return int(started_at_ms), f"{workflow_id}.{run}"
