"""Runs found, counted, described and told in batches, as one types it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.app import Orchestrator
from orchestrator.core import events as e
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind
from tests.cli.conftest import Typed
from tests.client.runs import Recorder

Type = Callable[..., Typed]


@pytest.fixture
def shop(orc: Orchestrator, recorder: Recorder) -> Orchestrator:
    """Five orders of two customers; the first one has ended."""
    for n in range(5):
        who = "ana" if n % 2 == 0 else "bo"
        order = orc.get_workflow("order").options(
            search_attributes={"customer": who, "total": n}, memo={"note": f"no {n}"}
        )
        order.start(n, id=f"order-{n}")
        recorder.started(f"order-{n}")
    recorder.completed("order-0", 0)
    return orc


def posted(store: MemoryStore, kind: Kind) -> list[tuple[str, dict[str, Any]]]:
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=99, block_ms=0)
    entries = [entry for found in taken.values() for entry in found if entry.kind is kind]
    return sorted((entry.workflow_id, entry.body) for entry in entries)


@pytest.mark.usefixtures("shop")
def test_list_takes_a_filter_and_goes_page_by_page(typed: Type) -> None:
    words = ("list", "--filter", "customer = 'ana' AND total < 9", "--limit", "2", "--json")
    first = typed(*words)
    assert len(first.data) == 2
    token = first.error.removeprefix("more: --page-token ")
    second = typed(*words, "--page-token", token)
    found = [run["workflow_id"] for run in [*first.data, *second.data]]
    assert sorted(found) == ["order-0", "order-2", "order-4"]
    assert second.result.stderr == ""
    assert first.data[0]["search_attributes"]["customer"] == "ana"
    assert len(typed("list", "--all", "--limit", "1", "--json").data) == 5
    assert "order-3" in typed("list", "--filter", "total = 3").out


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("command", ["list", "count"])
@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (("--filter", "status = 'failed'"), "attribute 'status'; is ExecutionStatus meant?"),
        (("--filter", "Status = 'failed' OR colour = 1"), "attribute 'colour'"),
        (("--filter", "WorkflwType = 'order'"), "'WorkflwType'; is WorkflowType meant?"),
        (("--type", "odrer"), "no run has the type 'odrer'; is order meant?"),
    ],
)
def test_nothing_found_by_a_name_that_no_run_has_is_said(
    typed: Type, command: str, words: tuple[str, ...], warning: str
) -> None:
    found = typed(command, *words)
    assert found.code == 0
    assert warning in found.result.stderr


@pytest.mark.usefixtures("shop")
def test_nothing_found_by_names_that_runs_have_is_an_answer(typed: Type) -> None:
    for words in (
        ("--filter", "customer = 'eve' AND ExecutionStatus = 'failed'"),
        ("--filter", "customer IS NULL AND colour IS NULL"),
        ("--type", "order", "--status", "failed"),
    ):
        assert typed("list", *words).result.stderr == ""


@pytest.mark.usefixtures("shop")
def test_count_counts_and_groups(typed: Type) -> None:
    assert typed("count").out == "5\n"
    assert typed("count", "--filter", "customer = 'bo'").out == "2\n"
    assert typed("count", "--group-by", "status", "--json").data == {
        "count": 5,
        "groups": {"running": 4, "completed": 1},
    }
    grouped = typed("count", "--group-by", "customer", "--open")
    assert grouped.out.split() == ["2", "bo", "2", "ana"] or grouped.out.split() == [
        *("2", "ana", "2", "bo")
    ]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("words", [("list",), ("count",), ("batch", "cancel", "--dry-run")])
def test_bad_filter_is_one_sentence_and_exit_code_two(typed: Type, words: tuple[str, ...]) -> None:
    done = typed(*words, "--filter", "customer = ana")
    assert done.code == 2
    assert "at character 12, near 'customer = ana': found 'ana', wanted a value" in done.error
    assert done.out == ""


def test_describe_and_show_tell_what_is_said_and_what_is_pending(
    typed: Type, orc: Orchestrator, recorder: Recorder
) -> None:
    order = orc.get_workflow("order").options(
        search_attributes={"customer": "ana"},
        memo={"note": "gift"},
        summary="an order",
        details="of Ana",
    )
    order.start(1, id="order-42")
    recorder.started("order-42")
    recorder.record(
        "order-42",
        e.StepScheduled(at_ms=1_100, step=1, task="charge", args_digest="d", summary="the money"),
        e.TimerStarted(
            at_ms=1_100, timer=1, duration_ms=60_000, due_at_ms=61_100, summary="patience"
        ),
        e.ChildScheduled(at_ms=1_100, child=1, workflow="ship", id="ship-1", args_digest="d"),
        e.PermitRequested(at_ms=1_100, permit=1, key="account-42", kind="permit"),
        current_details='"waits for money"',
    )
    for command in ("describe", "show"):
        out = typed(command, "order-42").out
        for text in (
            *("an order", "of Ana", "waits for money", "attribute customer", "memo note"),
            *("step 1", "scheduled, attempt 1", "the money", "timer 1", "patience"),
            *("child 1", "ship-1", "1970-01-01 00:01:01.100Z"),
            *("permit 1", "waiting", "account-42"),
        ):
            assert text in out, (command, text)
    data = typed("describe", "order-42", "--json").data
    assert data["run"]["search_attributes"] == {"customer": "ana"}
    assert data["run"]["memo"] == {"note": "gift"}
    assert data["run"]["current_details"] == "waits for money"
    assert [step["summary"] for step in data["pending"]["steps"]] == ["the money"]
    assert [timer["due_at"] for timer in data["pending"]["timers"]] == [
        "1970-01-01T00:01:01.100000+00:00"
    ]
    assert [child["workflow_id"] for child in data["pending"]["children"]] == ["ship-1"]
    assert [permit["state"] for permit in data["pending"]["permits"]] == ["waiting"]


@pytest.mark.usefixtures("shop")
def test_batch_without_yes_only_says_which_runs_it_would_be(
    typed: Type, store: MemoryStore
) -> None:
    looked = typed("batch", "cancel", "--filter", "customer = 'ana'", "--dry-run")
    assert looked.out.splitlines()[0] == "2 open runs match"
    assert "order-4 run 1, running" in looked.out
    assert "order-0" not in looked.out
    refused = typed("batch", "cancel", "--filter", "customer = 'ana'")
    assert refused.code == 2
    assert "nothing was done; say --yes to cancel them" in refused.error
    assert "--filter says nothing" in typed("batch", "cancel", "--filter", " ", "--yes").error
    assert posted(store, Kind.CANCEL) == []


@pytest.mark.usefixtures("shop")
def test_batch_tells_every_run_that_matches_under_an_id_of_its_own(
    typed: Type, store: MemoryStore
) -> None:
    words = ("--filter", "customer = 'ana'", "--yes", "--rps", "1000", "--batch-id", "b1")
    done = typed("batch", "cancel", *words, "--reason", "closed account")
    assert done.out == "batch b1: 2 matched, 2 done, 0 failed\n"
    assert posted(store, Kind.CANCEL) == [
        (name, {"reason": "closed account", "request_id": f"batch:b1:cancel:{name}.1"})
        for name in ("order-2", "order-4")
    ]
    data = typed("batch", "signal", "note", '"hello"', *words, "--json").data
    assert data == {
        "batch_id": "b1",
        "matched": 2,
        "done": 2,
        "ended": 0,
        "failed": {},
        "interrupted": "",
    }
    assert [body["payload"] for _, body in posted(store, Kind.SIGNAL)] == ["hello", "hello"]
    typed("batch", "terminate", *words)
    assert [name for name, _ in posted(store, Kind.TERMINATE)] == ["order-2", "order-4"]


@pytest.mark.usefixtures("shop")
def test_batch_says_which_runs_did_not_take_it_and_why(typed: Type) -> None:
    words = ("--filter", "total > 2", "--yes", "--rps", "1000", "--batch-id", "b1")
    done = typed("batch", "signal", "approve", "5", *words)
    assert done.code == 1
    assert done.out == "batch b1: 2 matched, 0 done, 2 failed\n"
    assert "order-3 run 1: signal 'approve' does not validate" in done.result.stderr


@pytest.mark.usefixtures("shop")
def test_reindex_finds_again_what_was_lost(typed: Type, store: MemoryStore) -> None:
    before = typed("list", "--json").data
    for part in store._parts:
        part.indexes.clear()
    assert typed("count").out == "0\n"
    assert typed("reindex").out == "5 runs indexed anew\n"
    found = typed("list", "--json").data
    # These histories were made up without attributes, and the history is what counts.
    assert [run["workflow_id"] for run in found] == [run["workflow_id"] for run in before]
    assert typed("count", "--filter", "ExecutionStatus = 'completed'").out == "1\n"


def test_start_says_what_the_run_is_found_by(typed: Type, orc: Orchestrator) -> None:
    said = ["customer=ana", "total=5", "vip=true", 'tags=["a", "b"]', "day=2026-01-01"]
    said += ["due=2026-01-01T12:00:00+01:00", 'code="7"', "note=a=b"]
    words = [word for each in said for word in ("--search-attribute", each)]
    done = typed(
        *("start", "order", "--input", "5", "--id", "order-42", *words),
        *("--memo", "lines=[1, 2]", "--summary", "an order", "--details", "of Ana"),
    )
    assert done.code == 0, done.result.stderr
    run = orc.run("order-42").describe()
    assert dict(run.search_attributes) == {
        "customer": "ana",
        "total": 5,
        "vip": True,
        "tags": ["a", "b"],
        "day": "2026-01-01",
        "due": datetime(2026, 1, 1, 11, tzinfo=UTC),
        "code": "7",
        "note": "a=b",
    }
    assert (dict(run.memo), run.summary, run.details) == ({"lines": [1, 2]}, "an order", "of Ana")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--search-attribute", "customer"), "--search-attribute 'customer': NAME=VALUE is wanted"),
        (("--search-attribute", "a b=1"), "search attribute 'a b': a name begins with a letter"),
        (("--search-attribute", "x=null", "--memo", "a=b"), "--memo a: not JSON"),
        (("--search-attribute", 'x={"a": 1}'), "'x': found a dict; wanted is a text"),
        (("--summary", "x" * 401), "summary of a run: 401 bytes"),
    ],
)
def test_start_that_says_what_cannot_be_is_refused(
    typed: Type, store: MemoryStore, words: tuple[str, ...], reason: str
) -> None:
    done = typed("start", "order", "--input", "5", "--id", "order-42", *words)
    assert done.code == 2
    assert reason in done.error
    assert store.find_row("order-42") is None
