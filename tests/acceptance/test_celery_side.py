"""Promise: any Celery task is a step, unchanged; whatever Celery does to it, its run learns."""

import pytest

from orchestrator import WorkflowFailed
from orchestrator.core import events as e
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.limits import CLAIM_TTL_MS, INLINE_BYTES_MAX
from tests.acceptance.app import app as tested_app
from tests.acceptance.stack import APP, Stack, events_of
from tests.acceptance.together import together
from tests.acceptance.waiting import eventually


@together
def test_plain_call_of_a_task_goes_past_the_workflows(stack: Stack) -> None:
    stack.celery.send_task(f"{APP}.plain", ("called",))
    eventually(lambda: stack.effects("called"), "the plain call is carried out")
    assert stack.effects("called") == [("None", 0)], "it runs outside of any step"
    # The same task, unchanged, as a step.
    assert f"{APP}.plain" in tested_app.tasks
    assert stack.start("one_task", "plain", "ordered", id="plain").result(timeout=30) == "ordered"
    assert "plain.1.1" in stack.effects("ordered")[0][0]


@together
def test_coroutine_task_is_run_to_its_end(stack: Stack) -> None:
    handle = stack.start("one_task", "on_loop", "looped", id="looped")
    assert handle.result(timeout=30) == "looped"
    assert stack.effects("looped") == [("looped.1.1", 1)]


@together
def test_hard_time_limit_ends_the_attempt_as_timed_out(stack: Stack) -> None:
    handle = stack.start("one_task", "too_long", "limited", id="limited")
    assert handle.result(timeout=30) == "limited"
    assert len(events_of(handle, e.StepAttemptFailed, attempt=1, kind="timed_out")) == 1
    assert stack.effects("limited") == [("limited.1.1", 2)]
    stack.check_history(handle)


@together
def test_revoked_task_ends_its_step_as_cancelled(stack: Stack) -> None:
    handle = stack.start("one_task", "polite", "revoked", id="revoked")
    stack.wait_for_body("revoked")
    stack.celery.control.revoke("revoked.1.1.1", terminate=True)
    with pytest.raises(WorkflowFailed) as failed:
        handle.result(timeout=30)
    assert failed.value.status == "failed"
    assert len(events_of(handle, e.StepFailed, kind="cancelled")) == 1
    assert stack.effects("revoked") == []
    stack.check_history(handle)


@together
def test_task_that_no_worker_knows_is_told_at_once(stack: Stack) -> None:
    handle = stack.start("one_task", "nobody.knows", None, "celery", 2, id="unknown")
    with pytest.raises(WorkflowFailed, match=r"nobody\.knows"):
        handle.result(timeout=30)
    failures = [*events_of(handle, e.StepAttemptFailed), *events_of(handle, e.StepFailed)]
    assert [event.failure.type for event in failures] == ["UnknownTask"] * 2  # type: ignore[attr-defined]
    assert not events_of(handle, e.StepFailed)[0].may_have_run  # type: ignore[attr-defined]


@together
def test_large_result_lies_beside_the_history(stack: Stack) -> None:
    count = 4 * INLINE_BYTES_MAX
    handle = stack.start("measure_large", count, id="large")
    assert handle.result(timeout=30) == count
    result = events_of(handle, e.StepCompleted)[0].result  # type: ignore[attr-defined]
    assert find_blob_ref(result) is not None
    assert handle.verify()


@together
def test_claim_in_a_thread_pool_outlives_its_time_and_is_cancelled_with_the_run(
    stack: Stack,
) -> None:
    stack.ready_worker("-P", "threads", "-c", "2", queue="threads")
    handle = stack.start("one_task", "polite", "threaded", "threads", id="threaded")
    stack.wait_for_body("threaded")
    first = expiry_of(stack, handle.id)
    # Renewed over and over: more than one whole lifetime of a claim.
    eventually(
        lambda: expiry_of(stack, handle.id) > first + CLAIM_TTL_MS,
        "the claim is renewed",
        seconds=20,
    )
    assert not events_of(handle, e.StepAttemptFailed)
    handle.cancel("enough")
    with pytest.raises(WorkflowFailed) as failed:
        handle.result(timeout=30)
    assert failed.value.status == "cancelled"
    eventually(lambda: stack.effects("threaded"), "the body learns that it is no longer wanted")
    stack.check_history(handle)


def expiry_of(stack: Stack, workflow_id: str) -> float:
    """Return when the claim of the id's only step expires; 0 while there is none."""
    partition = stack.keys.of_workflow(workflow_id)
    claims = stack.redis.zrange(stack.keys.claims(partition), 0, -1, withscores=True)
    return max((at for name, at in claims if workflow_id.encode() in name), default=0.0)
