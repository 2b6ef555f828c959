"""Promise: a step whose worker is gone is ended by its token, by another process, once."""

from collections.abc import Iterator

import pytest

from orchestrator import ApplicationError, RunHandle
from orchestrator.core import events as e
from orchestrator.core.errors import StepClosed
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.store.ports import RunKey
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("tokens")
    with Stack(directory, app="tests.acceptance.tokens_app") as stack:
        stack.orchestrator()
        stack.ready_worker("-c", "2")
        yield stack


def start(stack: Stack, id: str, queue: str = "celery") -> RunHandle[object]:
    words = ("start", "asking", "--id", id, "--input", f'"{id}"', "--input", f'"{queue}"')
    done = stack.command(*words)
    assert done.returncode == 0, done.stderr
    return stack.orc.run(id)


def token_of(stack: Stack, id: str, attempt: int = 1) -> str:
    """Return the token that the body left, once its worker has left the claim."""
    store, key = stack.orc.store, RunKey(workflow_id=id, run=1)

    def is_left() -> bool:
        row = store.read_step(key, 1)
        return row.get("attempt") == str(attempt) and "external" in row

    eventually(is_left, f"attempt {attempt} of {id} is left to its token")
    return (stack.directory / f"{id}.{attempt}.token").read_text()


def test_client_ends_a_step_whose_worker_was_killed_long_ago(stack: Stack) -> None:
    worker = stack.ready_worker("-c", "1", queue="doomed")
    handle = start(stack, "killed", "doomed")
    token = token_of(stack, "killed")
    worker.kill()
    killed_ms = stack.orc.store.now_ms()
    past_ms = killed_ms + 2 * CLAIM_TTL_MS
    eventually(lambda: stack.orc.store.now_ms() > past_ms, "any claim has expired by now")
    assert events_of(handle, e.StepAttemptFailed) == []
    stack.orc.step(token).heartbeat({"asked": "ana"})
    stack.orc.step(token).complete({"by": "ana"})
    assert handle.result(timeout=30) == {"by": "ana"}
    assert len(events_of(handle, e.StepCompleted, attempt=1)) == 1
    assert handle.verify()


def test_command_line_fails_one_attempt_and_completes_the_next(stack: Stack) -> None:
    handle = start(stack, "typed")
    first = token_of(stack, "typed")
    done = stack.command("step", "fail", first, "nobody is in", "--type", "Closed")
    assert done.returncode == 0, done.stderr
    second = token_of(stack, "typed", attempt=2)
    with pytest.raises(StepClosed, match="attempt 1 at step 1"):
        stack.orc.step(first).heartbeat()
    done = stack.command("step", "complete", second, '{"by": "bob"}')
    assert done.returncode == 0, done.stderr
    assert handle.result(timeout=30) == {"by": "bob"}
    assert len(events_of(handle, e.StepAttemptFailed, attempt=1, kind="failed")) == 1
    assert handle.verify()


def test_operator_pauses_a_step_between_two_attempts_and_lets_it_go_on(stack: Stack) -> None:
    handle = start(stack, "paused")
    first = token_of(stack, "paused")
    done = stack.command("step", "pause", "paused", "1", "--reason", "bank is down")
    assert done.returncode == 0, done.stderr
    stack.wait_for_event(handle, e.StepPaused, step=1, attempt=1, reason="bank is down")
    stack.orc.step(first).fail(ApplicationError("no"))
    stack.wait_for_event(handle, e.StepAttemptFailed, attempt=1)
    assert "paused, attempt 2" in stack.command("show", "paused").stdout
    assert events_of(handle, e.StepRetried) == []
    handle.step(1).unpause(by="ana")
    stack.orc.step(token_of(stack, "paused", attempt=2)).complete({"by": "eve"})
    assert handle.result(timeout=30) == {"by": "eve"}
    assert handle.verify()
