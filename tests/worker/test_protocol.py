"""Promise: a body runs only under a claim, and a claimed attempt ends with exactly one outcome."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from orchestrator import step
from orchestrator.core import limits
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.errors import (
    ApplicationError,
    InvalidPayload,
    PayloadTooLarge,
    StepCancelled,
    StoreUnavailable,
)
from orchestrator.core.values import Json
from orchestrator.store.ports import AttemptKey, Kind
from orchestrator.worker.keepers import ThreadKeeper
from orchestrator.worker.protocol import StepProtocol
from tests.worker.stage import CODEC, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_body_runs_with_its_step_and_its_result_is_posted(stage: Stage) -> None:
    seen = []

    def body(left: int, *, right: int) -> int:
        seen.append(step.current())
        return left + right

    assert stage.run(body, 1, kwargs={"right": 2}) == 3
    assert stage.outcome == {"step": 1, "attempt": 1, "kind": "completed", "result": 3}
    (info,) = seen
    assert info == step.StepInfo(
        workflow_id="order-42", workflow="order", run=1, step=1, attempt=1,
        idempotency_key="order-42.1.1", compensates="order-42.1.0", task="tasks.body",
    )  # fmt: skip
    assert step.current() is None


def test_refused_copy_runs_nothing_and_posts_nothing(stage: Stage) -> None:
    runs: list[int] = []
    key = stage.world.send(stage.run_key)
    stage.carry_out(key, lambda: runs.append(1))
    with pytest.raises(Ignore):
        stage.carry_out(key, lambda: runs.append(2))
    assert runs == [1]
    assert len(stage.outcomes) == 1


def test_lost_answer_to_a_claim_is_asked_again_under_the_same_token(stage: Stage) -> None:
    stage.store.silent = ["after", "before"]
    assert stage.run(lambda: "ran") == "ran"
    assert stage.store.calls == ["claim", "claim", "claim", "post"]


def test_lost_answer_to_an_outcome_posts_it_once(stage: Stage) -> None:
    stage.store.silent = ["", "after", "before", "after"]
    stage.run(lambda: "ran")
    assert len(stage.outcomes) == 1


def test_store_that_stays_away_runs_no_body(stage: Stage) -> None:
    stage.store.silent = ["before"] * 100
    with pytest.raises(Ignore):
        stage.run(lambda: pytest.fail("the body ran without a claim"))
    assert 0.5 < sum(stage.waits) <= 1.0


def test_outcome_that_cannot_be_posted_leaves_the_claim_to_expire(stage: Stage) -> None:
    stage.store.silent = ["", *["before"] * 100]
    assert stage.run(lambda: "ran") == "ran"
    assert stage.outcomes == []
    stage.world.pass_ms(limits.CLAIM_TTL_MS)
    assert len(stage.world.expired_claims()) == 1


def test_coroutine_is_run_to_its_end(stage: Stage) -> None:
    async def body() -> str:
        await asyncio.sleep(0)
        info = step.current()
        assert info is not None
        return info.idempotency_key

    assert stage.run(body) == "order-42.1.1"
    assert stage.outcome["result"] == "order-42.1.1"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no"), {"type": "ValueError", "message": "no"}),
        (
            ApplicationError(
                "sold out",
                "SoldOut",
                non_retryable=True,
                next_retry_delay=timedelta(seconds=3),
                details={"left": 0},
            ),
            {
                "type": "SoldOut",
                "message": "sold out",
                "non_retryable": True,
                "next_retry_delay_ms": 3000,
                "details": {"left": 0},
            },
        ),
        (
            Retry("later", exc=OSError("busy"), when=5),
            {"type": "OSError", "message": "busy", "next_retry_delay_ms": 5000},
        ),
        (Ignore("not mine"), {"type": "TaskIgnore", "message": "not mine"}),
        (Reject("bad", requeue=True), {"type": "TaskReject"}),
        (SoftTimeLimitExceeded(), {"type": "SoftTimeLimitExceeded"}),
        (asyncio.CancelledError(), {"type": "CancelledError"}),
        (ApplicationError("odd", details={1, 2}), {"type": "ApplicationError"}),
        (ApplicationError("odd", details=math.nan), {"type": "ApplicationError"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_body_raises_is_posted_as_a_failure_and_raised_to_celery(
    stage: Stage, error: BaseException, expected: dict[str, Any]
) -> None:
    def body() -> None:
        raise error

    wanted = StepCancelled if isinstance(error, asyncio.CancelledError) else type(error)
    with pytest.raises(wanted):
        stage.run(body)
    assert stage.outcome["kind"] == "failed"
    assert expected.items() <= stage.outcome["failure"].items()


def test_exit_is_told_as_lost_and_goes_on(stage: Stage) -> None:
    def body() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        stage.run(body)
    assert stage.outcome["kind"] == "lost"


def test_step_told_to_stop_is_cancelled_and_not_failed(stage: Stage) -> None:
    def body() -> None:
        stage.world.commit(stage.run_key, ["cancel"], steps_cancelled=[1])
        stage.keeper.renew()
        assert step.is_cancelled()
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        stage.run(body)
    assert (stage.outcome["kind"], stage.outcome["failure"]["type"]) == (
        "cancelled",
        "StepCancelled",
    )


def test_coroutine_told_to_stop_is_cancelled_and_may_clean_up(stage: Stage) -> None:
    cleaned = []

    async def body() -> None:
        stage.world.commit(stage.run_key, ["cancel"], steps_cancelled=[1])
        asyncio.get_running_loop().call_soon(stage.keeper.renew)
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(True)

    with pytest.raises(StepCancelled):
        stage.run(body)
    assert cleaned == [True]
    assert stage.outcome["kind"] == "cancelled"


def test_body_that_finishes_although_told_to_stop_is_completed(stage: Stage) -> None:
    def body() -> str:
        stage.world.commit(stage.run_key, ["cancel"], steps_cancelled=[1])
        stage.keeper.renew()
        return "done all the same"

    stage.run(body)
    assert stage.outcome["result"] == "done all the same"


def test_heartbeat_keeps_details_and_learns_of_a_cancellation(stage: Stage) -> None:
    def body() -> None:
        step.heartbeat({"batch": 7})
        step.heartbeat({"batch": 8})
        stage.world.commit(stage.run_key, ["cancel"], steps_cancelled=[1])
        step.heartbeat({"batch": 9})

    with pytest.raises(StepCancelled):
        stage.run(body)
    assert stage.outcome["kind"] == "cancelled"
    row = stage.world.store.read_step(stage.run_key, 1)
    assert row["details"] == '{"batch":9}'


def test_heartbeat_is_skipped_while_the_store_is_away(stage: Stage) -> None:
    def body() -> str:
        stage.store.silent = ["before"]
        step.heartbeat(1)
        return "went on"

    assert stage.run(body) == "went on"


def test_details_that_do_not_fit_are_the_bodys_error(stage: Stage) -> None:
    def body() -> None:
        step.heartbeat("x" * (limits.INLINE_BYTES_MAX + 1))

    with pytest.raises(PayloadTooLarge):
        stage.run(body)
    assert stage.outcome["failure"]["type"] == "PayloadTooLarge"


def test_superseded_body_has_its_outcome_refused(stage: Stage) -> None:
    def body() -> str:
        stage.world.send(stage.run_key, 1, 2)
        return "too late"

    stage.run(body)
    assert stage.outcomes == []
    assert [late["attempt"] for late in stage.world.bodies(Kind.LATE_OUTCOME)] == [1]


def test_large_result_and_arguments_travel_by_reference(stage: Stage) -> None:
    large = "x" * (limits.INLINE_BYTES_MAX + 1)
    args, kwargs = stage.blobs.put([large]), stage.blobs.put({"more": large})

    def body(first: str, *, more: str) -> str:
        return first + more

    stage.run(body, raw_args=args.as_json(), kwargs=kwargs.as_json())
    ref = find_blob_ref(stage.outcome["result"])
    assert ref is not None
    assert stage.blobs.get(ref) == large + large


def test_result_that_looks_like_a_reference_is_not_taken_for_one(stage: Stage) -> None:
    forged: Json = {"$blob": "sha256:" + "0" * 64, "bytes": 3}
    stage.run(lambda: forged)
    ref = find_blob_ref(stage.outcome["result"])
    assert ref is not None
    assert ref.as_json() != forged
    assert stage.blobs.get(ref) == forged


def test_result_beyond_every_bound_is_a_failure_for_good(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.blobs.BLOB_BYTES_MAX", limits.INLINE_BYTES_MAX)
    with pytest.raises(ApplicationError):
        stage.run(lambda: "x" * limits.INLINE_BYTES_MAX)
    assert stage.outcome["failure"]["type"] == "ResultTooLarge"
    assert stage.outcome["failure"]["non_retryable"] is True
    assert stage.outcome["ran"] is True


@pytest.mark.parametrize("header", [{"args": None}, {"args": "{}"}, {"args": "[1]"}])
def test_header_that_does_not_fit_is_refused_before_the_body(
    stage: Stage, header: dict[str, Json]
) -> None:
    def body() -> None:
        pytest.fail("the body ran")

    with pytest.raises(InvalidPayload):
        stage.run(body, header=header)
    assert (stage.outcome["failure"]["type"], stage.outcome["ran"]) == ("InvalidPayload", False)


def test_missing_blob_fails_the_attempt_but_not_the_step(stage: Stage) -> None:
    ref: Json = {"$blob": "sha256:" + "0" * 64, "bytes": 3}
    with pytest.raises(StoreUnavailable):
        stage.run(lambda: None, raw_args=ref)
    assert stage.outcome["ran"] is False
    assert "non_retryable" not in stage.outcome["failure"]


def test_renewal_goes_on_when_a_renewal_had_no_answer(stage: Stage) -> None:
    def body() -> None:
        for _ in range(3):
            stage.world.pass_ms(limits.CLAIM_RENEW_INTERVAL_MS)
            stage.keeper.renew()
        stage.store.silent = ["before"]
        stage.keeper.renew()
        stage.world.pass_ms(limits.CLAIM_RENEW_INTERVAL_MS)
        stage.keeper.renew()
        assert stage.world.expired_claims() == []
        stage.world.pass_ms(limits.CLAIM_RENEW_INTERVAL_MS * 2)
        assert stage.world.expired_claims() == []

    stage.run(body)


def test_signals_are_held_back_from_claim_to_post_but_for_the_body(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    trail: list[str] = []

    class Trail(ThreadKeeper):
        @contextmanager
        def held_back(self) -> Iterator[None]:
            trail.append("hold")
            yield
            trail.append("let go")

        @contextmanager
        def body(self, key: AttemptKey, step: step.RunningStep) -> Iterator[None]:
            trail.append("body")
            yield
            trail.append("body over")

    store = stage.store
    protocol = StepProtocol(store, stage.blobs, CODEC, keeper=Trail(store))
    store.calls = trail
    stage.protocol = protocol
    stage.run(lambda: trail.append("runs"))
    assert trail == ["hold", "claim", "body", "runs", "body over", "post", "let go"]
