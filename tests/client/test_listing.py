"""Runs are listed and counted as a plain filter over all of them would do it."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.app import Orchestrator
from orchestrator.blobs import DirectoryBlobs
from orchestrator.client import listing
from orchestrator.client.connection import Connection
from orchestrator.client.listing import Where, filter_of
from orchestrator.client.port import Bridged, in_place, pause_in_place, run_in_place
from orchestrator.client.session import Session
from orchestrator.client.workflow import Workflow
from orchestrator.core.errors import InvalidFilter, InvalidPayload, PayloadTooLarge, UsageError
from orchestrator.core.search_attributes import encode_attributes
from orchestrator.core.values import first_head, next_head
from orchestrator.embedded import EmbeddedServer
from orchestrator.payloads import PydanticCodec
from orchestrator.store.clocks import ManualClock
from orchestrator.store.connect import connect
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Commit, CommitResult, RunKey, StoredEvent
from orchestrator.store.redis import RedisStore
from tests.client.conftest import order
from tests.client.runs import Recorder
from tests.servers import emptied, valkey_server

__all__ = ["valkey_server"]

Store = MemoryStore | RedisStore
LONG_MS = 600_000


@dataclass
class Known:
    """A run as the model knows it."""

    workflow_id: str
    run: int
    type: str
    status: str
    attributes: dict[str, Any]
    started_at_ms: int = 0
    closed_at_ms: int | None = None

    @property
    def name(self) -> str:
        return f"{self.workflow_id}.{self.run}"

    @property
    def started_at(self) -> datetime:
        return datetime.fromtimestamp(self.started_at_ms / 1000, tz=UTC)


@dataclass
class Model:
    """A store with runs, and a plain list of the same runs."""

    store: Store
    session: Session
    runs: list[Known] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def add(self, workflow_id: str, kind: str, status: str, attributes: dict[str, Any]) -> None:
        """Start a run, and let it come to `status`; what was open of the id ends before."""
        for known in self.runs:
            if known.workflow_id == workflow_id and known.closed_at_ms is None:
                self.move(known, "terminated")
        body: Any = {"workflow": kind, "search_attributes": encode_attributes(attributes)}
        started = self.store.start(workflow_id, request_id=f"r{next(self._numbers)}", body=body)
        (row,) = self.store.read_rows([(workflow_id, started.run)])
        assert row is not None
        known = Known(workflow_id, started.run, kind, "pending", attributes)
        known.started_at_ms = int(row["started_at_ms"])
        self.runs.append(known)
        if status != "pending":
            self.move(known, status)

    def move(self, known: Known, status: str) -> None:
        """Commit a status."""
        key = RunKey(workflow_id=known.workflow_id, run=known.run)
        history = self.store.read_history(key)
        head = history[-1].head if history else ""
        fields = {"status": status}
        if status in ("completed", "terminated"):
            known.closed_at_ms = known.started_at_ms + 5
            fields["closed_at_ms"] = str(known.closed_at_ms)
        event = StoredEvent(
            seq=len(history) + 1,
            data=b"{}",
            head=next_head(head or first_head(key.workflow_id, key.run), b"{}"),
        )
        commit = Commit(
            key=key,
            expected_seq=len(history),
            expected_head=head,
            events=[event],
            fields=fields,
            closed_at_ms=known.closed_at_ms,
        )
        assert self.store.commit([("token", commit)]) == [CommitResult.COMMITTED]
        known.status = status

    def wanted(self, predicate: Callable[[Known], bool]) -> list[str]:
        """Return the names of the runs it takes, newest first."""
        found = [known for known in self.runs if predicate(known)]
        found.sort(key=lambda known: (known.started_at_ms, known.name), reverse=True)
        return [known.name for known in found]

    def listed(self, text: str, limit: int = 1_000, **where: Any) -> list[str]:
        """Return the names of the runs of all pages."""
        wanted, token, found = filter_of(text, cast("Where", where)), "", []
        while True:
            work = listing.list_page(self.session, wanted, limit=limit, page_token=token)
            page = run_in_place(work)
            assert len(page) <= limit
            found += [f"{run.workflow_id}.{run.run}" for run in page]
            token = page.next_page_token
            if not token:
                return found

    def counted(self, text: str, **where: Any) -> int:
        return run_in_place(listing.count(self.session, filter_of(text, cast("Where", where))))


def model_over(store: Store) -> Model:
    for partition in range(store.partitions):
        assert store.grant_lease(partition, "one", "token", ttl_ms=LONG_MS)
    session = Session(
        store=Bridged(store, in_place),
        pause=pause_in_place,
        codec=PydanticCodec(),
        registry={},
        blobs=DirectoryBlobs(Path("unused")),
    )
    return Model(store, session)


# --- a filter, and the same in plain Python ----------------------------------------------------

Both = tuple[str, Callable[[Known], bool]]

DAY = datetime(2026, 1, 1, tzinfo=UTC)
WHO = ["ana", "anton", "bo", ["ana", "bo"], [], 5, True, "2026-01-01"]
N = [0, 1, 1.0, 2.5, -1, "1", True, 2**60]
DUE = [DAY, DAY + timedelta(days=1), "2026-01-01"]
STATUSES = ["pending", "running", "blocked", "completed"]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def number_atom(sign: str, bound: float) -> Both:
    def test(known: Known) -> bool:
        value: Any = known.attributes.get("n")
        if not is_number(value):
            return sign == "!=" and value is not None
        holds: dict[str, bool] = {
            "=": value == bound,
            "!=": value != bound,
            "<": value < bound,
            "<=": value <= bound,
            ">": value > bound,
            ">=": value >= bound,
        }
        return holds[sign]

    return f"n {sign} {bound}", test


def texts_of(value: Any) -> list[str]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def who_atom(kind: str, text: str) -> Both:
    def has(known: Known) -> bool:
        return text in texts_of(known.attributes.get("who"))

    def begins(known: Known) -> bool:
        return any(one.startswith(text) for one in texts_of(known.attributes.get("who")))

    def is_there(known: Known) -> bool:
        return "who" in known.attributes

    return {
        "=": (f"who = '{text}'", has),
        "!=": (f"who != '{text}'", lambda known: is_there(known) and not has(known)),
        "IN": (f"who IN ('{text}', 'x')", has),
        "NOT IN": (f"who NOT IN ('{text}')", lambda known: is_there(known) and not has(known)),
        "STARTS_WITH": (f"who STARTS_WITH '{text}'", begins),
        "EXISTS": ("EXISTS who", is_there),
        "NULL": ("who IS NULL", lambda known: not is_there(known)),
    }[kind]


def due_atom(sign: str) -> Both:
    def test(known: Known) -> bool:
        value: Any = known.attributes.get("due")
        if isinstance(value, str):
            return {"=": value == "2026-01-01", ">=": value >= "2026-01-01", "<": False}[sign]
        if value is None:
            return False
        found: bool = {"=": value == DAY, ">=": value >= DAY, "<": value < DAY}[sign]
        return found

    return f"due {sign} '2026-01-01'", test


ATOMS = st.one_of(
    st.builds(
        number_atom,
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.sampled_from([-1, 0, 1, 2.5, 2]),
    ),
    st.builds(
        who_atom,
        st.sampled_from(["=", "!=", "IN", "NOT IN", "STARTS_WITH", "EXISTS", "NULL"]),
        st.sampled_from(["ana", "an", "bo"]),
    ),
    st.builds(due_atom, st.sampled_from(["=", ">=", "<"])),
    st.sampled_from(["order", "ship"]).map(
        lambda kind: (f"WorkflowType = '{kind}'", lambda known: known.type == kind)
    ),
    st.sampled_from(STATUSES).map(
        lambda status: (f"ExecutionStatus = '{status}'", lambda known: known.status == status)
    ),
    st.just(("CloseTime IS NULL", lambda known: known.closed_at_ms is None)),
    st.just(("Run > 1", lambda known: known.run > 1)),
)
FILTERS: st.SearchStrategy[Both] = st.recursive(
    ATOMS,
    lambda inner: st.tuples(st.sampled_from(["AND", "OR"]), inner, inner).map(
        lambda both: (
            f"({both[1][0]}) {both[0]} ({both[2][0]})",
            (lambda known: both[1][1](known) and both[2][1](known))
            if both[0] == "AND"
            else (lambda known: both[1][1](known) or both[2][1](known)),
        )
    ),
    max_leaves=4,
)
RUNS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b.1", "c", "d", "e"]),
        st.sampled_from(["order", "ship"]),
        st.sampled_from(STATUSES),
        st.fixed_dictionaries(
            {},
            optional={
                "who": st.sampled_from(WHO),
                "n": st.sampled_from(N),
                "due": st.sampled_from(DUE),
            },
        ),
    ),
    max_size=12,
)


def compare(model: Model, both: Both, limit: int) -> None:
    text, predicate = both
    wanted = model.wanted(predicate)
    assert model.listed(text, limit) == wanted, text
    assert model.counted(text) == len(wanted), text
    only_open = model.wanted(lambda known: predicate(known) and known.closed_at_ms is None)
    assert model.listed(text, limit, closed=False) == only_open, text


@settings(max_examples=150, deadline=None)
@given(runs=RUNS, both=FILTERS, limit=st.integers(1, 5), gaps=st.integers(0, 2))
def test_memory_lists_what_a_plain_filter_takes(
    runs: list[Any], both: Both, limit: int, gaps: int
) -> None:
    clock = ManualClock()
    model = model_over(MemoryStore(3, clock))
    for run in runs:
        model.add(*run)
        clock.advance(gaps)
    compare(model, both, limit)


def test_server_lists_what_a_plain_filter_takes(valkey_server: EmbeddedServer) -> None:
    prefixes = itertools.count()
    with connect(emptied(valkey_server)) as client:

        @settings(
            max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(runs=RUNS, both=FILTERS, limit=st.integers(1, 5))
        def check(runs: list[Any], both: Both, limit: int) -> None:
            store = RedisStore(client, prefix=f"t{next(prefixes)}", partitions=3, blocking=client)
            model = model_over(store)
            for run in runs:
                model.add(*run)
            compare(model, both, limit)

        check()


# --- through the app's face --------------------------------------------------------------------


def seconds_before(at: datetime, count: float) -> datetime:
    return at - timedelta(seconds=count)


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("listed", broker="memory://", set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def model() -> Model:
    clock = ManualClock()
    made = model_over(MemoryStore(3, clock))
    for n in range(10):
        kind, status = ("order", "running") if n % 2 else ("ship", "completed")
        made.add(f"w-{n}", kind, status, {"n": n, "who": "ana" if n < 5 else "bo"})
        clock.advance(1_000)
    return made


def test_keywords_and_filter_have_to_hold_together(model: Model) -> None:
    assert model.listed("n > 2", type="order") == ["w-9.1", "w-7.1", "w-5.1", "w-3.1"]
    assert model.listed("", status="completed", attributes={"who": "ana"}) == [
        *("w-4.1", "w-2.1", "w-0.1")
    ]
    assert model.listed("", attributes={"n": [], "who": "ana"}) == []
    assert model.listed("", open=False, closed=False) == []


def test_time_bounds_take_the_first_instant_and_leave_the_last(model: Model) -> None:
    at = model.runs[4].started_at
    assert model.listed("", started_after=at, started_before=at + timedelta(seconds=2)) == [
        *("w-5.1", "w-4.1")
    ]
    assert model.listed("", closed_before=at, started_after=seconds_before(at, 2)) == ["w-2.1"]
    assert model.listed("", closed_after=at) == ["w-8.1", "w-6.1", "w-4.1"]


def test_runs_are_counted_by_status_type_and_attribute(model: Model) -> None:
    def by(name: str, text: str = "") -> dict[str, int]:
        return run_in_place(listing.count_by(model.session, filter_of(text, {}), name))

    assert by("status") == {"running": 5, "completed": 5}
    assert by("status", "n > 7") == {"running": 1, "completed": 1}
    assert by("type", "n > 6") == {"order": 2, "ship": 1}
    assert by("who") == {"ana": 5, "bo": 5}
    assert by("nothing", "n < 2") == {"": 2}


def test_page_token_of_another_filter_is_refused(model: Model) -> None:
    def page(text: str, token: str = "") -> listing.RunPage:
        work = listing.list_page(model.session, filter_of(text, {}), limit=2, page_token=token)
        return run_in_place(work)

    token = page("n > 1").next_page_token
    assert [run.workflow_id for run in page("n > 1", token)] == ["w-7", "w-6"]
    with pytest.raises(InvalidFilter, match="the page token belongs to another filter"):
        page("n > 2", token)
    for bad in ("x", "!!", "bnVsbA", token[:-3]):
        with pytest.raises(InvalidFilter, match="no page token"):
            page("n > 1", bad)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"kind": "order"}, "no run has kind to list by; there are open, closed, type, status"),
        ({"status": "runing"}, "no status is 'runing'; there are pending"),
        ({"started_after": datetime(2026, 1, 1)}, "wanted is an aware datetime"),  # noqa: DTZ001
        ({"attributes": {"a b": 1}}, "search attribute 'a b'"),
    ],
)
def test_keyword_that_says_nothing_is_refused(where: Any, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        filter_of("", where)
    assert reason in str(refused.value)


def test_run_that_changes_before_it_is_read_is_shown_as_it_is_or_not_at_all(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = model.store.read_rows

    def late(runs: Any) -> Any:
        for known in model.runs:
            if known.name == "w-9.1" and known.status == "running":
                model.move(known, "completed")
        return real(runs)

    with monkeypatch.context() as patch:
        patch.setattr(model.store, "read_rows", late)
        assert model.listed("ExecutionStatus = 'running'") == ["w-7.1", "w-5.1", "w-3.1", "w-1.1"]


def test_limit_is_a_number_from_one_on(model: Model) -> None:
    with pytest.raises(UsageError, match="limit 0: a number from 1 on is wanted"):
        run_in_place(listing.list_page(model.session, filter_of("", {}), limit=0))


def test_start_carries_what_the_run_is_found_by_and_what_people_read(
    order_workflow: Workflow[Any, Any], connection: Connection, recorder: Recorder
) -> None:
    bound = order_workflow.options(
        search_attributes={"customer": "ana", "due": DAY},
        memo={"lines": [1, 2], "none": None},
        summary="an order",
        details="of Ana",
    )
    handle = bound.start(5, id="order-42")
    asyncio.run(bound.aio.start(6, id="order-43"))
    session = connection.sessions.blocking()
    wanted = filter_of("customer = 'ana' AND due = '2026-01-01'", {})
    page = run_in_place(listing.list_page(session, wanted, limit=9))
    assert {run.workflow_id for run in page} == {"order-42", "order-43"}
    run = handle.describe()
    assert dict(run.search_attributes) == {"customer": "ana", "due": DAY}
    assert dict(run.memo) == {"lines": [1, 2]}
    assert (run.summary, run.details) == ("an order", "of Ana")
    assert run.as_json()["search_attributes"] == {
        "customer": "ana",
        "due": "2026-01-01T00:00:00+00:00",
    }
    plain = order_workflow.start(7, id="order-44").describe()
    assert not plain.search_attributes
    assert not plain.summary


@pytest.mark.parametrize(
    ("settings_given", "error", "reason"),
    [
        ({"search_attributes": {"a b": 1}}, UsageError, "search attribute 'a b'"),
        ({"memo": {"x": object()}}, InvalidPayload, "memo does not validate"),
        ({"memo": {"x": "a" * 70_000}}, PayloadTooLarge, "memo: 70008 bytes"),
        ({"summary": "x" * 401}, PayloadTooLarge, "summary of a run: 401 bytes"),
        ({"details": 5}, UsageError, "details of a run is a text"),
        ({"colour": "red"}, UsageError, "a start has no setting colour; there are search_attr"),
    ],
)
def test_start_with_a_setting_that_cannot_be_sends_nothing(
    order_workflow: Workflow[Any, Any],
    store: MemoryStore,
    settings_given: Any,
    error: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(error) as refused:
        order_workflow.options(**settings_given).start(5, id="order-42")
    assert reason in str(refused.value)
    assert store.find_row("order-42") is None


def test_app_lists_counts_and_walks_on_both_faces(app: Celery) -> None:
    orc = Orchestrator(app, store=MemoryStore())
    shop = orc.workflow(order)
    for n in range(7):
        shop.options(search_attributes={"n": n}).start(n, id=f"order-{n}")

    async def main() -> list[object]:
        page = await orc.aio.list("n > 4")
        return [
            {run.workflow_id for run in page},
            {run.workflow_id async for run in orc.aio.iterate("n > 4")},
            await orc.aio.count("n > 4", type="order"),
            await orc.aio.count_by("type", "n > 4"),
        ]

    both = {"order-5", "order-6"}
    assert asyncio.run(main()) == [both, both, 2, {"order": 2}]
    first = orc.list(limit=5)
    rest = orc.list(limit=5, page_token=first.next_page_token)
    assert (len(first), len(rest), rest.next_page_token) == (5, 2, "")
    assert [*first, *rest] == list(orc.iterate())
    assert list(first[-2:]) == [first[3], first[4]]
    assert (repr(first), repr(rest)) == ("<5 runs, more follow>", "<2 runs>")
    assert rest == list(rest)
    assert orc.count() == 7
    assert orc.count_by("n", "n < 2") == {"0": 1, "1": 1}
    assert orc.batch("n > 4", rps=1_000).cancel("x").done == 2
