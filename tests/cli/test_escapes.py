"""What others wrote into a run does nothing to the terminal of who looks at it (W1)."""

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.app import Orchestrator
from orchestrator.cli.errors import EXIT_NO, Refusal
from orchestrator.cli.shown import json_page, shown, shown_page
from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.schedule import SCHEDULE_PREFIX
from orchestrator.core.values import Json
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind
from tests.cli.test_runs import posted
from tests.client.runs import Recorder

Type = Callable[..., Any]

#: Fills the clipboard; overwrites the line above; starts a sequence in one character; turns round.
EVIL = "\x1b]52;c;aGk=\x07\x1b[1A\x1b[2Kchain 9 events, verified \x9b31m \u202egnp.exe"


def hidden_in(text: str) -> list[str]:
    """Return the characters that a terminal would not show but obey."""
    categories = {"Cc", "Cf", "Cs"}
    return [each for each in text if each != "\n" and unicodedata.category(each) in categories]


@pytest.fixture
def order_42(orc: Orchestrator, store: MemoryStore, recorder: Recorder) -> str:
    """A run with something evil wherever somebody else may write."""
    text = json.dumps(EVIL)
    body: dict[str, Any] = {"workflow": f"order{EVIL}", "args": [], "kwargs": {}}
    store.start("order-42", request_id="r", body=body)
    started = e.RunStarted(at_ms=1, workflow=EVIL, version=f"v{EVIL}", seed="00")
    failure = Failure(type=EVIL, message=EVIL, cause=Failure(type=EVIL, message=EVIL))
    recorder.record(
        "order-42",
        started,
        e.SignalReceived(at_ms=2, signal=EVIL, signal_id=EVIL, payload={"a": EVIL}),
        e.SignalReceived(at_ms=2, signal="note", signal_id="s", payload=EVIL),
        e.CancelRequested(at_ms=2, reason=EVIL, request_id="q"),
        e.PatchMarked(at_ms=2, patch=EVIL, activation=1),
        e.StepScheduled(at_ms=2, step=1, task=EVIL, args_digest="d", summary=EVIL),
        e.StepAttemptFailed(
            at_ms=3, step=1, attempt=1, kind="failed", failure=failure, retry_at_ms=9
        ),
        e.TimerStarted(at_ms=2, timer=1, duration_ms=6, due_at_ms=9, summary=EVIL),
        e.ChildScheduled(at_ms=2, child=1, workflow=EVIL, id=EVIL, args_digest="d"),
        e.PermitRequested(at_ms=2, permit=1, key=EVIL, kind="permit"),
        e.UpdateReceived(at_ms=2, update=EVIL, update_id=EVIL, args=[]),
        e.RunBlocked(at_ms=4, kind="bug", message=EVIL, recorded=EVIL, issued=EVIL, traceback=EVIL),
        status="blocked",
        blocked=EVIL,
        version=EVIL,
        state=text,
        summary=text,
        details=text,
        current_details=text,
        memo=json.dumps({EVIL: EVIL}),
        failure=json.dumps(failure.as_json()),
    )
    return "order-42"


@pytest.mark.parametrize(
    "words",
    [
        *(("show", "order-42"), ("describe", "order-42"), ("list",), ("drain",)),
        *(("count", "--group-by", "type"), ("replay", "--open", "--jobs", "1")),
        ("reset", "order-42", "--event-id", "2", "--dry-run"),
        ("batch", "cancel", "--filter", "WorkflowId = 'order-42'", "--dry-run"),
        ("batch", "signal", "x", "--filter", "WorkflowId = 'order-42'", "--yes"),
        *(("show", "order-42", "--json"), ("describe", "order-42", "--json"), ("list", "--json")),
        *(("drain", "--json"), ("permits", EVIL), ("show", EVIL)),
    ],
    ids=lambda words: " ".join(words[:1] + words[2:])[:30].encode("ascii", "replace").decode(),
)
def test_nothing_that_a_command_prints_is_obeyed_by_a_terminal(
    typed: Type, order_42: str, words: tuple[str, ...]
) -> None:
    done = typed(*words)
    assert done.code in (0, 1, 2)
    assert hidden_in(done.result.stdout) == []
    assert hidden_in(done.result.stderr) == []


def test_a_schedule_s_note_is_shown_as_it_is(
    typed: Type, store: MemoryStore, recorder: Recorder
) -> None:
    words = ("schedule", "create", "nightly", "order", "--input", "1", "--cron", "0 2 * * *")
    assert typed(*words, "--note", f"[red]{EVIL}").code == 0
    (body,) = posted(store, Kind.START)
    state = json.dumps({"schedule": body["args"][1]})
    recorder.record(f"{SCHEDULE_PREFIX}nightly", status="running", state=state)
    listed = typed("schedule", "list").result.stdout
    assert r"[red]\x1b]52" in listed
    assert hidden_in(listed) == []
    assert hidden_in(typed("schedule", "show", "nightly").result.stdout) == []


def test_json_that_is_escaped_is_the_same_json() -> None:
    value: Json = {EVIL: [f"{EVIL}\ud800", 1, None], "plain": "Grüße\n\t\U000e0041"}
    text = json_page(value)
    assert json.loads(text) == value
    assert hidden_in(text) == []
    assert "Grüße" in text


def test_text_that_is_harmless_is_left_alone() -> None:
    assert shown("Grüße, 世界 → 1") == "Grüße, 世界 → 1"
    assert shown("a\nb\x1b\ud800") == r"a\nb\x1b\ud800"
    assert shown_page("one\r\n\ttwo\x1b") == "one\n    two\\x1b"


def test_a_refusal_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    Refusal(f"no run {EVIL}", EXIT_NO).show()
    said = capsys.readouterr().err
    assert hidden_in(said) == []
    assert r"\x1b]52;c;" in said
