"""What people type about runs: tables for them, JSON for programs, one line where it fails."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app import Orchestrator
from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.values import canonical
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind
from tests.client.runs import Recorder

Type = Callable[..., Any]


def posted(store: MemoryStore, kind: Kind) -> list[dict[str, Any]]:
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=100, block_ms=0)
    return [entry.body for entries in taken.values() for entry in entries if entry.kind is kind]


@pytest.fixture
def order_42(orc: Orchestrator, recorder: Recorder) -> str:
    orc.get_workflow("order").start(120, id="order-42")
    recorder.started("order-42")
    return "order-42"


def test_start_prints_the_id_and_sends_the_input(typed: Type, store: MemoryStore) -> None:
    done = typed("start", "order", "--input", "120", "--input", '"gift"', "--id", "order-1")
    assert (done.code, done.out) == (0, "order-1\n")
    assert posted(store, Kind.START)[0]["args"] == [120, "gift"]


def test_start_takes_input_from_a_file_or_standard_input(
    typed: Type, store: MemoryStore, tmp_path: Path
) -> None:
    (tmp_path / "input.json").write_text("7")
    assert typed("start", "order", "--input", f"@{tmp_path}/input.json", "--id", "a").code == 0
    assert typed("start", "order", "--input", "-", "--id", "b", "--json", stdin="8").data == {
        "workflow_id": "b",
        "run": 1,
    }
    assert sorted(body["args"][0] for body in posted(store, Kind.START)) == [7, 8]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("start", "order", "--input", '{"a": 1'), 2, "--input: not JSON: Expecting ',' delim"),
        (("start", "order", "--input", '{"a": 1'), 2, 'column 8: {"a": 1 >>>'),
        (("start", "order", "--input", "NaN"), 2, "--input: not JSON: NaN"),
        (("start", "order", "--input", "@/nowhere"), 2, "cannot read /nowhere"),
        (("start", "order", "--input", '"x"'), 2, "input of order, argument 1"),
        (("start", "order"), 2, "missing a required argument: 'total'"),
        (("start", "odrer"), 2, "no workflow is named 'odrer' here; known: order"),
        (("start", "order", "--input", "1", "--id", "a b"), 2, "character 2"),
        (("start", "order", "--input", "1", "--id", "order-42"), 1, "order-42 is running as run 1"),
        (("show", "order-43"), 1, "no run has the id 'order-43'"),
        (("signal", "order-42", "aprove"), 2, "order takes: approve, note"),
        (("signal", "order-42", "approve", "{}"), 2, "approved: Field required"),
        (("signal", "order-42", "approve", "{"), 2, "not JSON"),
        (("signal", "order-43", "approve"), 1, "no run has the id"),
        (("query", "order-42", "stack", "--timeout", "0.01"), 1, "is an orchestrator running?"),
        (("query", "order-42", "stack", "--timeout", "nan"), 2, "timeout nan: a finite number"),
        (("update", "order-42", "add", "--timeout", "inf"), 2, "timeout inf: a finite number"),
        (("resolve", "order-42", "1", "skip"), 2, "needs a reason"),
    ],
)
def test_error_is_one_line_and_an_exit_code(
    typed: Type, order_42: str, words: tuple[str, ...], code: int, text: str
) -> None:
    done = typed(*words)
    assert done.code == code
    assert text in done.error
    assert done.out == ""


def test_list_shows_every_run_whole_also_in_a_pipe(
    typed: Type, orc: Orchestrator, order_42: str, recorder: Recorder
) -> None:
    long_id = "x" * 90
    orc.get_workflow("order").start(1, id=long_id)
    recorder.started(long_id)
    recorder.completed(long_id, 1)
    done = typed("list")
    assert long_id in done.out
    assert "running" in done.out
    assert [run["workflow_id"] for run in typed("list", "--open", "--json").data] == ["order-42"]
    assert [run["status"] for run in typed("list", "--closed", "--json").data] == ["completed"]
    assert typed("list", "--status", "failed", "--json").data == []
    assert typed("list", "--open", "--closed").code == 2


def test_show_tells_the_run_its_numbered_history_and_its_chain(
    typed: Type, order_42: str, recorder: Recorder
) -> None:
    recorder.record(
        "order-42",
        e.StepScheduled(at_ms=1_100, step=1, task="tasks.charge", args_digest="d", args=[5]),
        e.StepFailed(
            at_ms=1_200,
            step=1,
            attempt=3,
            kind="failed",
            failure=Failure(type="CardRefused", message="no funds"),
        ),
        state='{"status":"paying"}',
    )
    done = typed("show", "order-42")
    assert done.code == 0
    lines = done.out.splitlines()
    assert any(line.startswith("state") and '{"status": "paying"}' in line for line in lines)
    assert any("chain" in line and "3 events, verified" in line for line in lines)
    assert any(
        line.startswith("2 ") and "step=1 task=tasks.charge args=[5]" in line for line in lines
    )
    assert any("kind=failed failure=CardRefused: no funds" in line for line in lines)


def test_show_of_a_blocked_run_has_both_sides(
    typed: Type, order_42: str, recorder: Recorder
) -> None:
    recorder.record(
        "order-42",
        e.RunBlocked(
            at_ms=1_100,
            kind="nondeterminism",
            message="replay disagreed",
            recorded="StepScheduled(step=1, task='charge')",
            issued="StepScheduled(step=1, task='pay')",
            where="sagas/order.py:57",
        ),
        status="blocked",
        blocked="nondeterminism: replay disagreed",
    )
    out = typed("show", "order-42").out
    assert "nondeterminism: replay disagreed" in out
    assert "history has    StepScheduled(step=1, task='charge')" in out
    assert "code asks for  StepScheduled(step=1, task='pay')" in out
    assert "sagas/order.py:57" in out


def test_show_of_a_failed_run_has_its_failure(
    typed: Type, order_42: str, recorder: Recorder
) -> None:
    failure = Failure(
        type="OrderRejected", message="card", cause=Failure(type="CardRefused", message="funds")
    )
    event = e.RunFailed(at_ms=2_000, failure=failure)
    text = canonical(failure.as_json()).decode()
    recorder.record("order-42", event, status="failed", failure=text, closed_at_ms="2000")
    assert "OrderRejected: card (from CardRefused: funds)" in typed("show", "order-42").out
    shown = typed("show", "order-42", "--json").data
    assert shown["run"]["failure"]["cause"]["type"] == "CardRefused"
    assert [each["event"]["type"] for each in shown["history"]] == ["RunStarted", "RunFailed"]
    assert shown["verification"] == {
        "verified": True,
        "events": 2,
        "bad_seq": None,
        "reason": "",
    }


def test_touched_history_is_reported_and_is_an_error_for_scripts(
    typed: Type,
    order_42: str,
    recorder: Recorder,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder.completed("order-42", 1)
    assert typed("verify", "order-42").out == "order-42: 2 events, verified\n"
    real = store.read_history

    def touched(*args: Any, **kwargs: Any) -> Any:
        first, last = real(*args, **kwargs)
        return [first, replace(last, data=last.data.replace(b":1,", b":2,"))]

    monkeypatch.setattr(store, "read_history", touched)
    found = typed("verify", "order-42")
    assert found.code == 1
    assert "broken at event 2" in found.error
    assert typed("verify", "order-42", "--json").code == 1
    shown = typed("show", "order-42")
    assert shown.code == 1
    assert "BROKEN at event 2" in shown.out


def test_signal_cancel_terminate_and_resolve_are_sent(
    typed: Type, order_42: str, store: MemoryStore
) -> None:
    assert typed("signal", "order-42", "approve", '{"approved": true}').code == 0
    assert typed("signal", "order-42", "note", "--signal-id", "s-1", "--json").data == {
        "ok": True,
        "signal_id": "s-1",
    }
    assert typed("cancel", "order-42", "--reason", "called").code == 0
    assert typed("terminate", "order-42").code == 0
    words = ("--reason", "by hand", "--by", "ana", "--no-wait")
    sent = typed("resolve", "order-42", "3", "done", *words)
    said = "done sent; `workflow show order-42` tells what became of it"
    assert (sent.code, sent.out) == (0, f"order-42 step 3: {said}\n")
    assert [s["payload"] for s in posted(store, Kind.SIGNAL)] == [{"approved": True}, None]
    assert [c["reason"] for c in posted(store, Kind.CANCEL)] == ["called"]
    assert len(posted(store, Kind.TERMINATE)) == 1
    (decision,) = posted(store, Kind.DECISION)
    assert decision.pop("request_id")
    assert decision == {
        "step": 3,
        "decision": "done",
        "reason": "by hand",
        "by": "ana",
        "for_run": 1,
    }


def test_reseed_is_sent_with_its_seed_in_decimal_or_hex(
    typed: Type, order_42: str, store: MemoryStore
) -> None:
    done = typed("reseed", order_42, "--seed", "7")
    assert (done.code, done.out) == (0, "order-42 was asked to reseed its generators\n")
    line = ("reseed", order_42, "--seed", "0xc0ffee", "--generator", "noise", "--signal-id", "s-1")
    assert typed(*line, "--json").data == {"ok": True, "signal_id": "s-1"}
    assert [body["payload"] for body in posted(store, Kind.SIGNAL)] == [
        {"seed": 7},
        {"seed": 0xC0FFEE, "name": "noise"},
    ]
    refused = typed("reseed", order_42, "--seed=-1")
    assert (refused.code, "whole number from 0" in refused.error) == (2, True)
    assert typed("reseed", order_42, "--seed", "c0ffee").code == 2
    assert typed("reseed", order_42).code == 2
    assert typed("reseed", "nobody", "--seed", "1").code == 1


def test_markup_in_a_payload_is_shown_as_it_is(
    typed: Type, order_42: str, recorder: Recorder
) -> None:
    recorder.record(
        "order-42", e.SignalReceived(at_ms=1, signal="note", signal_id="s", payload="[red]x[/]")
    )
    assert "[red]x[/]" in typed("show", "order-42").out


def test_update_prints_the_answer_and_says_no_with_its_reason(
    typed: Type, order_42: str, recorder: Recorder, store: MemoryStore
) -> None:
    recorder.record(
        order_42,
        e.UpdateReceived(at_ms=1_000, update="add", update_id="u", args=[1]),
        e.UpdateAccepted(at_ms=1_000, update="add", update_id="u"),
        e.UpdateCompleted(at_ms=1_000, update_id="u", result={"total": 7}),
        e.UpdateReceived(at_ms=1_000, update="add", update_id="v", args=[-1]),
        e.UpdateRejected(at_ms=1_000, update="add", update_id="v", reason="too few"),
    )
    done = typed("update", order_42, "add", "1", '"two"', "--update-id", "u")
    assert (done.code, done.data) == (0, {"total": 7})
    assert posted(store, Kind.UPDATE)[0]["args"] == [1, "two"]
    refused = typed("update", order_42, "add", "-1", "--update-id", "v")
    assert refused.code != 0
    refused = typed("update", order_42, "add", "--update-id", "v")
    assert (refused.code, "rejects update 'add': too few" in refused.error) == (1, True)
    late = typed("update", order_42, "add", "--timeout", "0")
    assert (late.code, "is an orchestrator running?" in late.error) == (1, True)
    assert typed("update", "nobody", "add").code == 1


def test_signal_with_start_starts_a_run_or_signals_the_open_one(
    typed: Type, store: MemoryStore
) -> None:
    line = ("signal-with-start", "order", "order-7", "approve", '{"approved": true, "by": "ana"}')
    assert typed(*line, "--input", "120").out == "signal approve sent to order-7 run 1\n"
    assert typed(*line, "--json", "--input", "5").data == {"workflow_id": "order-7", "run": 1}
    assert [body["args"] for body in posted(store, Kind.START)] == [[120]]
    assert len(posted(store, Kind.SIGNAL)) == 2
    assert typed("signal-with-start", "ordre", "order-7", "approve").code == 2
