"""Runs found by a filter: pages, all of them, and how many.

LI1  Newest first by start; a later run of an id and an earlier one are two.
LI2  A page's token names the last run looked at, so that the pages of a listing show every run that
     was there at its beginning once, however many start or end meanwhile.  A run that changes in
     between is shown as its page finds it.
"""

import base64
import binascii
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypedDict, overload

from orchestrator.client.filter_text import parse_filter
from orchestrator.client.filters import EVERY_RUN, All, Comparison, Filter, Plan, matches, plans
from orchestrator.client.port import run_in_place
from orchestrator.client.session import Session
from orchestrator.client.summary import RunSummary, instant_in, summary_of
from orchestrator.core.errors import InvalidFilter, UsageError
from orchestrator.core.limits import LIST_PAGE_MAX
from orchestrator.core.search_attributes import (
    Scalar,
    SearchValue,
    attributes_as_json,
    decode_attributes,
    encode_attributes,
    index_of_status,
)
from orchestrator.core.values import Json, digest, loads
from orchestrator.store.index_ports import Place, Window
from orchestrator.store.rows import STATUSES

#: Rows a listing returns unless told otherwise.
LIST_LIMIT = 100


class Where(TypedDict, total=False):
    """Which runs, in Python; all that is given has to hold, beside the filter.

    open, closed: False leaves these out.  type, status: of the run; None for any.
    started_after, started_before, closed_after, closed_before: aware instants; the first of each
    pair is inclusive.  attributes: search attributes and their values; a list takes any of them.
    """

    open: bool
    closed: bool
    type: str | None
    status: str | None
    started_after: datetime | None
    started_before: datetime | None
    closed_after: datetime | None
    closed_before: datetime | None
    attributes: Mapping[str, SearchValue] | None


class RunPage(Sequence[RunSummary]):
    """Runs, newest first.  `next_page_token` asks for those that follow; "" where none do."""

    def __init__(self, runs: Sequence[RunSummary], next_page_token: str = "") -> None:
        self._runs = tuple(runs)
        self.next_page_token = next_page_token

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, place: int) -> RunSummary: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[RunSummary]: ...

    def __getitem__(self, place: int | slice) -> RunSummary | Sequence[RunSummary]:
        return self._runs[place]

    def __iter__(self) -> Iterator[RunSummary]:
        return iter(self._runs)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        more = ", more follow" if self.next_page_token else ""
        return f"<{len(self)} runs{more}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A run that a filter takes, as far as its index page tells."""

    workflow_id: str
    run: int
    status: str


def filter_of(text: str, where: Where) -> Filter:
    """Return the filter that both say.

    Raises:
        InvalidFilter: The text is none.
        UsageError: A keyword that there is not, or a value that cannot be.
    """
    unknown = where.keys() - Where.__annotations__.keys()
    if unknown:
        known = ", ".join(Where.__annotations__)
        raise UsageError(f"no run has {', '.join(sorted(unknown))} to list by; there are {known}")
    if not isinstance(text, str):
        raise UsageError(f"a filter is a text, found {type(text).__name__}")
    parts = [parse_filter(text), *_parts_of(where)]
    return All(tuple(part for part in parts if part != EVERY_RUN))


def _parts_of(where: Where) -> Iterator[Filter]:
    if not where.get("open", True):
        yield Comparison(name="CloseTime", operator="IS NULL", is_negated=True)
    if not where.get("closed", True):
        yield Comparison(name="CloseTime", operator="IS NULL")
    if (kind := where.get("type")) is not None:
        yield Comparison(name="WorkflowType", operator="=", values=(kind,))
    if (status := where.get("status")) is not None:
        if status not in STATUSES:
            raise UsageError(f"no status is {status!r}; there are {', '.join(STATUSES)}")
        yield Comparison(name="ExecutionStatus", operator="=", values=(status,))
    for name, system in (("started", "StartTime"), ("closed", "CloseTime")):
        for suffix, operator in (("after", ">="), ("before", "<")):
            at = where.get(f"{name}_{suffix}")
            if at is not None:
                yield Comparison(name=system, operator=operator, values=(_aware(name, at),))
    attributes = where.get("attributes") or {}
    encode_attributes(attributes)
    for name, value in attributes.items():
        is_one = isinstance(value, str | int | float | datetime)
        values: tuple[Scalar, ...] = (value,) if is_one else tuple(value)  # type: ignore[assignment, arg-type]
        yield Comparison(name=name, operator="IN", values=values)


def _aware(name: str, at: object) -> datetime:
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise UsageError(f"{name}_…: wanted is an aware datetime, as in datetime.now(UTC)")
    return at


async def list_page(
    session: Session, wanted: Filter, *, limit: int, page_token: str = ""
) -> RunPage:
    """Return up to `limit` runs, after those of the page that gave the token.

    Raises:
        InvalidFilter: A token that is none, or of another filter.
        UsageError: A limit that cannot be.
    """
    if not isinstance(limit, int) or limit < 1:
        raise UsageError(f"limit {limit!r}: a number from 1 on is wanted")
    after = _place_in(page_token, wanted) if page_token else None
    found: list[RunSummary] = []
    walk = _Walk(session, wanted, after, count=min(max(limit, LIST_LIMIT), LIST_PAGE_MAX))
    while len(found) < limit and not walk.is_over:
        places = await walk.step(limit - len(found))
        runs = [(row["workflow_id"], int(row["run"])) for row in places]
        rows = await session.resend(partial(session.store.read_rows, runs))
        for (workflow_id, _), row in zip(runs, rows, strict=True):
            # It may have changed since its index was read.
            if row is not None and matches(wanted, _reader(workflow_id, row)):
                found.append(summary_of(workflow_id, row))
    token = "" if walk.is_over or walk.after is None else _token_of(walk.after, wanted)
    return RunPage(found, token)


async def iterate(session: Session, wanted: Filter) -> AsyncIterator[RunSummary]:
    """Yield every run that `wanted` takes (LI2)."""
    token = ""
    while True:
        page = await list_page(session, wanted, limit=LIST_LIMIT, page_token=token)
        for run in page:
            yield run
        token = page.next_page_token
        if not token:
            return


def iterate_in_place(open_session: Callable[[], Session], wanted: Filter) -> Iterator[RunSummary]:
    """Yield the same to plain code; each page asks for the way to the store anew."""
    token = ""
    while True:
        page = run_in_place(list_page(open_session(), wanted, limit=LIST_LIMIT, page_token=token))
        yield from page
        token = page.next_page_token
        if not token:
            return


async def find(session: Session, wanted: Filter) -> list[Found]:
    """Return the names of all runs that `wanted` takes, newest first."""
    walk = _Walk(session, wanted, None, count=LIST_PAGE_MAX)
    found: list[Found] = []
    while not walk.is_over:
        found += [
            Found(workflow_id=row["workflow_id"], run=int(row["run"]), status=row["status"])
            for row in await walk.step(LIST_PAGE_MAX)
        ]
    return found


async def count(session: Session, wanted: Filter) -> int:
    """Return how many runs `wanted` takes; from the sizes of indexes where these suffice."""
    best, size = await _best_plan(session, wanted)
    if best.is_exact:
        return size
    return len(await find(session, wanted))


async def count_by(session: Session, wanted: Filter, name: str) -> dict[str, int]:
    """Return how many of the runs have each value of `name`, most first; "" stands for none.

    Raises:
        UsageError: Neither status nor type, nor the name of an attribute.
    """
    name = {"status": "ExecutionStatus", "type": "WorkflowType"}.get(name, name)
    if name == "ExecutionStatus" and wanted == EVERY_RUN:
        indexes = [index_of_status(status) for status in STATUSES]
        sizes = await session.resend(lambda: session.store.index_sizes(indexes))
        counted = Counter(dict(zip(STATUSES, sizes, strict=True)))
        return {status: size for status, size in counted.most_common() if size}
    walk = _Walk(session, wanted, None, count=LIST_PAGE_MAX)
    counted = Counter()
    while not walk.is_over:
        for row in await walk.step(LIST_PAGE_MAX):
            value = _reader(row["workflow_id"], row)(name)
            counted["" if value is None else _shown(name, value)] += 1
    return dict(counted.most_common())


def _shown(name: str, value: SearchValue) -> str:
    shown: Json = attributes_as_json({name: value})[name]
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)


class _Walk:
    """Goes through the runs of a filter, newest first, from one index page to the next."""

    def __init__(
        self, session: Session, wanted: Filter, after: Place | None, *, count: int
    ) -> None:
        self._session = session
        self._wanted = wanted
        self._plan: Plan | None = None
        self._waiting: deque[tuple[Place, dict[str, str]]] = deque()
        self._read_to: Place | None = after
        self._has_more = True
        self._count = count
        #: The last run that was looked at.
        self.after = after

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to look at."""
        return not self._has_more and not self._waiting

    async def step(self, limit: int) -> list[dict[str, str]]:
        """Return up to `limit` rows that the filter takes; perhaps none, with more to come."""
        if not self._waiting and self._has_more:
            await self._read()
        found: list[dict[str, str]] = []
        while self._waiting and len(found) < limit:
            self.after, row = self._waiting.popleft()
            if matches(self._wanted, _reader(row["workflow_id"], row)):
                found.append(row)
        return found

    async def _read(self) -> None:
        session = self._session
        if self._plan is None:
            self._plan, _ = await _best_plan(session, self._wanted)
        window = Window(
            count=self._count,
            after=self._read_to,
            newest_ms=self._plan.newest_ms,
            oldest_ms=self._plan.oldest_ms,
        )
        page = await session.resend(partial(session.store.page_runs, self._plan.indexes, window))
        self._waiting = deque(page.rows)
        self._read_to, self._has_more = page.after, page.after is not None


async def _best_plan(session: Session, wanted: Filter) -> tuple[Plan, int]:
    """Return the plan whose indexes hold the fewest runs, and how many they hold."""
    found = plans(wanted)
    names = list(dict.fromkeys(index for plan in found for index in plan.indexes))
    sizes = await session.resend(lambda: session.store.index_sizes(names))
    size_of = dict(zip(names, sizes, strict=True))
    sized = [(plan, sum(size_of[index] for index in plan.indexes)) for plan in found]
    return min(sized, key=lambda each: each[1])


def _reader(workflow_id: str, row: Mapping[str, str]) -> Callable[[str], SearchValue | None]:
    """Return what a filter sees of a row."""
    attributes: dict[str, SearchValue] | None = None

    def value_of(name: str) -> SearchValue | None:
        nonlocal attributes
        if name in _SYSTEM:
            return _SYSTEM[name](workflow_id, row)
        if attributes is None:
            data = loads(row.get("attributes", "{}"))
            assert isinstance(data, dict)
            attributes = decode_attributes(data)
        return attributes.get(name)

    return value_of


_SYSTEM: dict[str, Callable[[str, Mapping[str, str]], SearchValue | None]] = {
    "WorkflowId": lambda workflow_id, _: workflow_id,
    "WorkflowType": lambda _, row: row.get("type"),
    "WorkflowVersion": lambda _, row: row.get("version") or None,
    "Run": lambda _, row: int(row["run"]),
    "ExecutionStatus": lambda _, row: row["status"],
    "StartTime": lambda _, row: instant_in(row, "started_at_ms"),
    "CloseTime": lambda _, row: instant_in(row, "closed_at_ms"),
    "HistoryLength": lambda _, row: int(row.get("seq") or 0),
}


# --- tokens ------------------------------------------------------------------------------------


def _token_of(place: Place, wanted: Filter) -> str:
    at_ms, member = place
    data = json.dumps([at_ms, member, _digest_of(wanted)], ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _place_in(token: str, wanted: Filter) -> Place:
    try:
        data = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        at_ms, member, of_filter = data
        if not isinstance(at_ms, int) or not isinstance(member, str):
            raise TypeError
    except (ValueError, TypeError, binascii.Error):
        raise InvalidFilter(token, 1, "no page token; take it from the page before") from None
    if of_filter != _digest_of(wanted):
        raise InvalidFilter(token, 1, "the page token belongs to another filter") from None
    return at_ms, member


def _digest_of(wanted: Filter) -> str:
    return digest(repr(wanted))[:12]
