"""Calls about the indexes of runs; see `index_ports`."""

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.core.errors import ConfigurationError
from orchestrator.core.search_attributes import index_of_status
from orchestrator.core.states import CLOSED_STATUSES
from orchestrator.store.calls import Argument, Call, Flow, ask, ask_all, command, run_script, text
from orchestrator.store.index_ports import PAGE_FIELDS, IndexPage, Place, Window, run_of
from orchestrator.store.keys import Keys
from orchestrator.store.rows import STATUSES, indexes_in

_PAGE = "page_runs"
#: Places read of each index at least.
_SHARE_MIN = 20
_STATUS = index_of_status("")


def page_runs(keys: Keys, indexes: Sequence[str], window: Window) -> Flow[IndexPage]:
    """See `RunIndex.page_runs`."""
    yield from _check_indexed(keys)
    # A run may leave one index for another while these are read.  Those of statuses are read twice,
    # so that one that goes back to an index already read is not missed.
    again = [index for index in indexes if len(indexes) > 1 and index.startswith(_STATUS)]
    names = [keys.index(p, index) for p in range(keys.partitions) for index in (*indexes, *again)]
    # Each has its share of the page, doubled as no share is even; whichever is cut short bounds it.
    share = min(window.count, max(_SHARE_MIN, 2 * window.count // len(names)))
    ranges = [each for name in names for each in _ranges(name, window, share)]
    replies = yield from ask_all([call for call, _ in ranges])
    found: set[Place] = set()
    horizon: Place | None = None
    for (_, is_bounded), flat in zip(ranges, replies, strict=True):
        places = _places(flat)
        if is_bounded and len(places) > share:
            # What is beyond the last one of it, this index has not told yet.
            horizon = places[-1] if horizon is None else max(horizon, places[-1])
        elif not is_bounded:
            places = [each for each in places if window.after is not None and each < window.after]
        found.update(places)
    known = sorted((p for p in found if horizon is None or p >= horizon), reverse=True)
    page = known[: window.count]
    is_last = horizon is None and len(page) == len(known)
    rows = yield from _page_rows(keys, page)
    return IndexPage(rows=rows, after=None if is_last else page[-1])


def _check_indexed(keys: Keys) -> Flow[None]:
    if keys.is_indexed:
        return
    found = yield from ask(command(_PAGE, "HGET", keys.meta, "indexed"))
    if found is None:
        raise ConfigurationError(
            f"indexes of namespace {keys.prefix!r}",
            "runs of an earlier version, which are in none",
            "index them once: celery -A … workflow reindex",
        )


def mark_indexed(keys: Keys) -> Flow[None]:
    """See `RunIndex.mark_indexed`."""
    yield from ask(command("mark_indexed", "HSETNX", keys.meta, "indexed", 1))


def _ranges(name: str, window: Window, share: int) -> list[tuple[Call, bool]]:
    """Return the calls that read one index, and whether each may be cut short.

    One more is read than its share, so that one that ends there is not taken for cut short.
    """
    newest: Argument = "+inf" if window.newest_ms is None else window.newest_ms
    oldest: Argument = "-inf" if window.oldest_ms is None else window.oldest_ms
    limit = ("LIMIT", 0, share + 1, "WITHSCORES")
    if window.after is None:
        return [(command(_PAGE, "ZRANGE", name, newest, oldest, "BYSCORE", "REV", *limit), True)]
    at_ms = window.after[0]
    ties = command(_PAGE, "ZRANGE", name, at_ms, at_ms, "BYSCORE", "REV", "WITHSCORES")
    older = command(_PAGE, "ZRANGE", name, f"({at_ms}", oldest, "BYSCORE", "REV", *limit)
    return [(ties, False), (older, True)]


def _places(flat: Sequence[bytes]) -> list[Place]:
    return [
        (int(float(score)), text(member))
        for member, score in zip(flat[::2], flat[1::2], strict=True)
    ]


def _page_rows(keys: Keys, places: Sequence[Place]) -> Flow[list[tuple[Place, dict[str, str]]]]:
    runs = [run_of(member) for _, member in places]
    calls = [
        command(_PAGE, "HMGET", keys.row(workflow_id), *PAGE_FIELDS) for workflow_id, _ in runs
    ]
    rows = [_fields(values) for values in (yield from ask_all(calls))]
    replaced = [n for n, row in enumerate(rows) if row.get("run") != str(runs[n][1])]
    calls = [command(_PAGE, "HMGET", keys.past(*runs[n]), *PAGE_FIELDS) for n in replaced]
    for n, values in zip(replaced, (yield from ask_all(calls)), strict=True):
        rows[n] = _fields(values)
    return [
        (place, {**row, "workflow_id": workflow_id})
        for place, (workflow_id, _), row in zip(places, runs, rows, strict=True)
        if row
    ]


def _fields(values: Iterable[bytes | None]) -> dict[str, str]:
    return {
        name: text(value)
        for name, value in zip(PAGE_FIELDS, values, strict=True)
        if value is not None
    }


def index_sizes(keys: Keys, indexes: Sequence[str]) -> Flow[list[int]]:
    """See `RunIndex.index_sizes`."""
    yield from _check_indexed(keys)
    calls = [
        command("index_sizes", "ZCARD", keys.index(partition, index))
        for index in indexes
        for partition in range(keys.partitions)
    ]
    sizes = yield from ask_all(calls)
    count = keys.partitions
    return [sum(sizes[n * count : (n + 1) * count]) for n in range(len(indexes))]


def read_rows(keys: Keys, runs: Sequence[tuple[str, int]]) -> Flow[list[dict[str, str] | None]]:
    """See `RunIndex.read_rows`."""
    name = "read_rows"
    calls = [command(name, "HGETALL", keys.row(workflow_id)) for workflow_id, _ in runs]
    found: list[dict[bytes, bytes]] = yield from ask_all(calls)
    replaced = [n for n, row in enumerate(found) if row.get(b"run") != b"%d" % runs[n][1]]
    calls = [command(name, "HGETALL", keys.past(*runs[n])) for n in replaced]
    for n, row in zip(replaced, (yield from ask_all(calls)), strict=True):
        found[n] = row
    return [
        {text(part): text(value) for part, value in row.items()} if row else None for row in found
    ]


def list_all_runs(keys: Keys, partition: int) -> Flow[list[tuple[str, int]]]:
    """See `RunIndex.list_all_runs`."""
    # A run is in one of these two, from its start on: they decide who may start and who is sent.
    name = "list_all_runs"
    closed = yield from ask(command(name, "ZRANGE", keys.closed(partition), 0, -1))
    opened = yield from ask(command(name, "ZRANGE", keys.open(partition), 0, -1))
    ids = [text(workflow_id) for workflow_id in opened]
    calls = [command(name, "HGET", keys.row(workflow_id), "run") for workflow_id in ids]
    numbers = yield from ask_all(calls)
    found = {run_of(text(member)) for member in closed}
    found |= {(each, int(run)) for each, run in zip(ids, numbers, strict=True) if run is not None}
    return sorted(found)


def reindex_run(keys: Keys, workflow_id: str, run: int, row: Mapping[str, str]) -> Flow[bool]:
    """See `RunIndex.reindex_run`."""
    names = [
        keys.row(workflow_id),
        keys.past(workflow_id, run),
        keys.index(keys.of_workflow(workflow_id), ""),
    ]
    fields = {**row, "indexes": indexes_in(row.get("attributes", "{}"))}
    flat = [part for pair in fields.items() for part in pair]
    is_open = int(row["status"] not in CLOSED_STATUSES)
    about: list[Argument] = [workflow_id, run, row["seq"], is_open]
    arguments = [*about, len(STATUSES), *STATUSES, *flat]
    reply = yield from ask(run_script("reindex_run", "reindex_run", names, arguments))
    return bool(reply)
