"""The calls of the store in memory that find runs; see `index_ports`."""

import threading
from collections.abc import Mapping, Sequence

from orchestrator.store import memory_index
from orchestrator.store.index_ports import IndexPage, Window
from orchestrator.store.memory_partition import Partition


class MemoryRunIndex:
    """See `RunIndex`; the part of `memory.MemoryStore` that reads and repairs indexes."""

    _parts: list[Partition]
    _changed: threading.Condition

    def _of(self, workflow_id: str) -> Partition:
        raise NotImplementedError

    def page_runs(self, indexes: Sequence[str], window: Window) -> IndexPage:
        """See `RunIndex.page_runs`."""
        with self._changed:
            return memory_index.page(self._parts, indexes, window)

    def index_sizes(self, indexes: Sequence[str]) -> list[int]:
        """See `RunIndex.index_sizes`."""
        with self._changed:
            return [sum(len(p.indexes.get(i, ())) for p in self._parts) for i in indexes]

    def read_rows(self, runs: Sequence[tuple[str, int]]) -> list[dict[str, str] | None]:
        """See `RunIndex.read_rows`."""
        with self._changed:
            rows = [memory_index.find_row(self._of(name), name, run) for name, run in runs]
            return [None if row is None else dict(row) for row in rows]

    def list_all_runs(self, partition: int) -> list[tuple[str, int]]:
        """See `RunIndex.list_all_runs`."""
        with self._changed:
            return memory_index.all_runs(self._parts[partition])

    def reindex_run(self, workflow_id: str, run: int, row: Mapping[str, str]) -> bool:
        """See `RunIndex.reindex_run`."""
        with self._changed:
            return memory_index.reindex(self._of(workflow_id), workflow_id, run, row)

    def mark_indexed(self) -> None:
        """See `RunIndex.mark_indexed`: in memory they always are."""
