"""Promise: a body may end before its step; its token ends the step, or a time-out gives it up."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Ignore

from orchestrator import step
from orchestrator.core import limits
from orchestrator.core.errors import UsageError
from orchestrator.store.ports import AttemptKey, ClaimAnswer, PostAnswer
from orchestrator.store.step_tokens import decode_token
from tests.worker.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


class Handed:
    """A body that hands its token on and ends."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def __call__(self) -> None:
        info = step.current()
        assert info is not None
        self.tokens.append(info.token)
        raise step.complete_later()

    @property
    def parts(self) -> tuple[AttemptKey, str]:
        """The attempt and the claim that the last token names."""
        return decode_token(self.tokens[-1])


def test_body_that_completes_later_posts_nothing_and_its_claim_does_not_expire(
    stage: Stage,
) -> None:
    body = Handed()
    with pytest.raises(Ignore, match="by its token"):
        stage.run(body)
    assert stage.outcomes == []
    stage.world.pass_ms(2 * limits.CLAIM_TTL_MS)
    assert stage.world.expired_claims() == []
    key, claim = body.parts
    assert key == AttemptKey(workflow_id="order-42", run=1, step=1, attempt=1)
    assert (
        stage.world.store.post_outcome(key, claim, {"kind": "completed", "result": 7})
        is PostAnswer.POSTED
    )
    assert stage.outcome["result"] == 7


def test_coroutine_completes_later_too(stage: Stage) -> None:
    async def body() -> None:
        await asyncio.sleep(0)
        try:
            raise step.complete_later()
        except Exception:
            pytest.fail("it is no Exception")

    with pytest.raises(Ignore):
        stage.run(body)
    assert stage.store.calls == ["claim", "detach"]


def test_claim_is_not_renewed_once_it_is_left(stage: Stage) -> None:
    body = Handed()
    with pytest.raises(Ignore):
        stage.run(body)
    stage.keeper.renew()
    assert "renew" not in stage.store.calls


def test_lost_answer_to_leaving_is_asked_again(stage: Stage) -> None:
    stage.store.silent = ["", "after", "before"]
    with pytest.raises(Ignore):
        stage.run(Handed())
    assert stage.store.calls == ["claim", "detach", "detach", "detach"]
    stage.world.pass_ms(2 * limits.CLAIM_TTL_MS)
    assert stage.world.expired_claims() == []


def test_claim_that_cannot_be_left_expires(stage: Stage) -> None:
    stage.store.silent = ["", *["before"] * 100]
    body = Handed()
    with pytest.raises(Ignore):
        stage.run(body)
    stage.world.pass_ms(limits.CLAIM_TTL_MS)
    assert stage.world.expired_claims() == [body.parts[0]]


def test_outcome_that_comes_before_the_body_ends_counts(stage: Stage) -> None:
    def body() -> None:
        info = step.current()
        assert info is not None
        key, claim = decode_token(info.token)
        stage.world.store.post_outcome(key, claim, {"kind": "completed", "result": "early"})
        raise step.complete_later()

    with pytest.raises(Ignore):
        stage.run(body)
    assert stage.outcome["result"] == "early"


def test_cancelled_step_that_completes_later_learns_it_with_its_heartbeat(stage: Stage) -> None:
    body = Handed()
    with pytest.raises(Ignore):
        stage.run(body)
    stage.world.commit(stage.run_key, ["cancel"], steps_cancelled=[1])
    key, claim = body.parts
    assert stage.world.store.heartbeat(key, claim, None) is ClaimAnswer.CANCELLED


def test_token_of_each_attempt_is_its_own_and_is_not_shown(stage: Stage) -> None:
    body = Handed()
    for number in (1, 2):
        with pytest.raises(Ignore):
            stage.run(body, number=number)
    first, second = body.tokens
    assert first != second
    seen: list[Any] = []
    stage.run(lambda: seen.append(step.current()), number=3)
    assert seen[0].token
    assert seen[0].token not in repr(seen[0])


def test_outside_a_workflow_nothing_completes_later() -> None:
    with pytest.raises(UsageError, match="outside a workflow"):
        step.complete_later()


def test_local_step_does_not_complete_later() -> None:
    info = step.StepInfo(
        workflow_id="w", workflow="", run=1, step=1, attempt=1, idempotency_key="w.1.1"
    )
    running = step.RunningStep(info, lambda details: True)
    with step.running(running), pytest.raises(UsageError, match="local step"):
        step.complete_later()
