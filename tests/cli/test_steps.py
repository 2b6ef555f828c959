"""What an operator types about one outstanding step."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.app import Orchestrator
from orchestrator.core import events as e
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind
from tests.cli.test_runs import posted
from tests.client.runs import Recorder

Type = Callable[..., Any]


@pytest.fixture
def order_42(orc: Orchestrator, recorder: Recorder) -> str:
    orc.get_workflow("order").start(120, id="order-42")
    recorder.started("order-42")
    return "order-42"


def test_pause_unpause_and_reset_are_sent_with_reason_and_name(
    typed: Type, order_42: str, store: MemoryStore
) -> None:
    for word in ("pause", "unpause", "reset"):
        done = typed("step", word, order_42, "3", "--reason", "bank is down", "--by", "ana")
        assert (done.code, done.out) == (0, f"order-42 step 3: {word}\n")
    assert posted(store, Kind.DECISION) == [
        {"step": 3, "decision": word, "reason": "bank is down", "by": "ana"}
        for word in ("pause", "unpause", "reset")
    ]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("pause", "order-43", "1"), 1, "no run has the id 'order-43'"),
        (("pause", "order-42", "1", "--run", "2"), 1, "order-42"),
    ],
)
def test_error_is_one_line_and_an_exit_code(
    typed: Type, order_42: str, words: tuple[str, ...], code: int, text: str
) -> None:
    done = typed("step", *words)
    assert (done.code, done.out) == (code, "")
    assert text in done.error


def test_show_says_that_a_step_is_paused(typed: Type, order_42: str, recorder: Recorder) -> None:
    recorder.record(
        order_42,
        e.StepScheduled(at_ms=1, step=1, task="shop.charge", args_digest=""),
        e.StepPaused(at_ms=2, step=1, attempt=1, reason="bank is down", by="ana"),
    )
    shown = typed("show", order_42).out
    assert "paused, attempt 1" in shown
    assert "bank is down" in shown
