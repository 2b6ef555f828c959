"""The indexes of one partition in memory; see `index_ports`.  Nothing here locks."""

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.core.search_attributes import ALL_RUNS, OPEN_RUNS, index_of_status, index_of_type
from orchestrator.core.states import CLOSED_STATUSES
from orchestrator.core.values import loads
from orchestrator.store.index_ports import PAGE_FIELDS, IndexPage, Place, Window, place_of, run_of
from orchestrator.store.memory_partition import Partition
from orchestrator.store.ports import RunKey
from orchestrator.store.rows import indexes_in


def add(part: Partition, workflow_id: str, row: dict[str, str]) -> None:
    """Put a run into the indexes that its row says."""
    if "attributes" in row:
        row["indexes"] = indexes_in(row["attributes"])
    place = place_of(row["started_at_ms"], workflow_id, row["run"])
    for index in (*_indexes(row), *([OPEN_RUNS] if row["status"] not in CLOSED_STATUSES else [])):
        part.indexes.setdefault(index, set()).add(place)


def close(part: Partition, workflow_id: str, row: Mapping[str, str]) -> None:
    """Take a run out of the open ones."""
    place = place_of(row["started_at_ms"], workflow_id, row["run"])
    part.indexes.get(OPEN_RUNS, set()).discard(place)


def change(
    part: Partition, workflow_id: str, row: dict[str, str], fields: Mapping[str, str]
) -> None:
    """Set fields of a row, and let its indexes follow (I1)."""
    before = set(_indexes(row)) if fields.keys() & {"status", "attributes"} else None
    row.update(fields)
    if before is None:
        return
    if "attributes" in fields:
        row["indexes"] = indexes_in(row["attributes"])
    place = place_of(row["started_at_ms"], workflow_id, row["run"])
    after = set(_indexes(row))
    for index in before - after:
        part.indexes.get(index, set()).discard(place)
    for index in after - before:
        part.indexes.setdefault(index, set()).add(place)


def page(parts: Sequence[Partition], indexes: Sequence[str], window: Window) -> IndexPage:
    """See `RunIndex.page_runs`."""
    found = {
        place
        for part in parts
        for index in indexes
        for place in part.indexes.get(index, ())
        if _is_in(place, window)
    }
    places = sorted(found, reverse=True)
    taken = places[: window.count]
    rows = [
        (place, {**{n: row[n] for n in PAGE_FIELDS if n in row}, "workflow_id": workflow_id})
        for place in taken
        for workflow_id, run in [run_of(place[1])]
        for row in _rows(parts, workflow_id, run)
    ]
    return IndexPage(rows=rows, after=taken[-1] if len(taken) < len(places) else None)


def find_row(part: Partition, workflow_id: str, run: int) -> dict[str, str] | None:
    """Return the row of a run, replaced by another or not."""
    row = part.rows.get(workflow_id)
    if row is not None and row["run"] == str(run):
        return row
    return part.past.get(RunKey(workflow_id=workflow_id, run=run))


def all_runs(part: Partition) -> list[tuple[str, int]]:
    """See `RunIndex.list_all_runs`."""
    found = {(key.workflow_id, key.run) for key in part.closed}
    found |= {(workflow_id, int(part.rows[workflow_id]["run"])) for workflow_id in part.open}
    return sorted(found)


def reindex(part: Partition, workflow_id: str, run: int, row: Mapping[str, str]) -> bool:
    """See `RunIndex.reindex_run`."""
    found = find_row(part, workflow_id, run)
    if found is None:
        found = part.past[RunKey(workflow_id=workflow_id, run=run)] = {}
    elif found["seq"] != row["seq"]:
        return False
    member = f"{workflow_id}.{run}"
    for places in part.indexes.values():
        places -= {place for place in places if place[1] == member}
    found.update(row)
    found["indexes"] = indexes_in(row.get("attributes", "{}"))
    add(part, workflow_id, found)
    return True


def _indexes(row: Mapping[str, str]) -> Iterable[str]:
    of_attributes = loads(row.get("indexes", "[]"))
    assert isinstance(of_attributes, list)
    yield from map(str, of_attributes)
    yield ALL_RUNS
    yield index_of_type(row["type"])
    yield index_of_status(row["status"])


def _is_in(place: Place, window: Window) -> bool:
    at_ms = place[0]
    return (
        (window.after is None or place < window.after)
        and (window.newest_ms is None or at_ms <= window.newest_ms)
        and (window.oldest_ms is None or at_ms >= window.oldest_ms)
    )


def _rows(parts: Sequence[Partition], workflow_id: str, run: int) -> list[dict[str, str]]:
    found = (find_row(part, workflow_id, run) for part in parts)
    return [row for row in found if row is not None]
