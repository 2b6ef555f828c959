"""What an operator types about one outstanding step."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.app import Orchestrator
from orchestrator.core import events as e
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import AttemptKey, Kind
from orchestrator.store.step_tokens import encode_token
from tests.cli.test_runs import posted
from tests.client.runs import Recorder
from tests.store.world import LONG_MS, World

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
        words = ("--reason", "bank is down", "--by", "ana", "--no-wait")
        done = typed("step", word, order_42, "3", *words)
        sent = f"{word} sent; `workflow show order-42` tells what became of it"
        assert (done.code, done.out) == (0, f"order-42 step 3: {sent}\n")
    sent_bodies = posted(store, Kind.DECISION)
    assert len({body.pop("request_id") for body in sent_bodies}) == 3
    assert sent_bodies == [
        {"step": 3, "decision": word, "reason": "bank is down", "by": "ana", "for_run": 1}
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


def left(store: MemoryStore, workflow_id: str) -> tuple[AttemptKey, str]:
    """Return an attempt that its worker left, and its token."""
    world = World(store, lambda ms: None)
    key = world.send(world.open_run(workflow_id))
    world.store.claim(key, "w/1", ttl_ms=LONG_MS)
    world.store.detach(key, "w/1")
    return key, encode_token(key, "w/1")


def test_step_is_ended_by_its_token(typed: Type, store: MemoryStore) -> None:
    for words, said in (
        (("complete", '{"paid": true}'), "completed"),
        (("fail", "no money", "--type", "Poor", "--non-retryable"), "failed"),
        (("cancelled",), "cancelled"),
    ):
        key, token = left(store, f"o-{words[0]}")
        assert typed("step", "heartbeat", token, "7").out == f"{key}: goes on\n"
        assert store.read_step(key.run_key, 1)["details"] == "7"
        done = typed("step", words[0], token, *words[1:])
        assert (done.code, done.out) == (0, f"{key}: {said}\n")
    found = {body["kind"]: body for body in posted(store, Kind.OUTCOME)}
    assert found["completed"]["result"] == {"paid": True}
    failure = found["failed"]["failure"]
    assert (failure["type"], failure["message"]) == ("Poor", "no money")
    assert failure["non_retryable"]
    assert "cancelled" in found


def test_token_that_is_none_or_is_late_is_one_line(typed: Type, store: MemoryStore) -> None:
    wrong = typed("step", "complete", "order-42", "1")
    assert (wrong.code, "token of a step" in wrong.error) == (2, True)
    key, _ = left(store, "o-1")
    late = typed("step", "complete", encode_token(key, "another/1"))
    assert (late.code, "nobody waits for attempt 1 at step 1" in late.error) == (1, True)
