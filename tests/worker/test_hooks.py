"""Promise: a worker's main process speaks for steps that cannot.

What it learns is posted at once, under the right token, and no hook ever raises.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.worker import state as worker_state

from orchestrator.core.errors import StoreUnavailable
from orchestrator.store.ports import AttemptKey, Kind
from orchestrator.worker.hooks import ParentHooks, _never_raises
from orchestrator.worker.identity import name_worker, worker_name
from tests.store.world import World, memory_world

CLAIM_MS = 60_000


class Request:
    """Of Celery's request, what the hooks look at."""

    def __init__(self, id: str, header: dict[str, Any]) -> None:
        self.id = id
        self.request_dict = {"orc": header}
        self.orc = header


class Parent:
    """The main process of a worker, without the worker."""

    def __init__(self) -> None:
        name_worker()
        self.app = Celery("shop", set_as_current=False)
        self.world: World = memory_world(direct=True)
        self.run = self.world.open_run()
        self.hooks = ParentHooks(self.app, lambda: self.world.store)
        self.key = self.world.send(self.run)
        self.request = self.receive(self.key)

    def receive(self, key: AttemptKey) -> Any:
        header = {
            "workflow": key.workflow_id, "run": key.run, "step": key.step, "attempt": key.attempt
        }  # fmt: skip
        request = Request(str(key), header)
        self.hooks._received(request=request)
        return request

    def claim(self, token: str | None = None) -> None:
        self.world.store.claim(self.key, token or f"{worker_name()}1", ttl_ms=CLAIM_MS)

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        return self.world.bodies(Kind.OUTCOME)


@pytest.fixture
def parent() -> Parent:
    return Parent()


def test_killed_child_is_told_as_lost(parent: Parent) -> None:
    parent.claim()
    parent.hooks._failed(task_id=str(parent.key), exception=WorkerLostError("signal 9"))
    (body,) = parent.outcomes
    assert (body["kind"], body["failure"]["message"]) == ("lost", "signal 9")


def test_child_that_exited_is_told_as_lost(parent: Parent) -> None:
    parent.claim()
    parent.hooks._failed(task_id=str(parent.key), exception=SystemExit())
    (body,) = parent.outcomes
    assert (body["kind"], body["failure"]["message"]) == ("lost", "SystemExit")


def test_hard_time_limit_that_celery_tells_twice_is_posted_once(parent: Parent) -> None:
    parent.claim()
    for _ in range(2):
        parent.hooks._failed(task_id=str(parent.key), exception=TimeLimitExceeded(5))
    assert [body["kind"] for body in parent.outcomes] == ["timed_out"]


def test_ordinary_failure_is_left_to_the_process_that_ran_the_body(parent: Parent) -> None:
    parent.claim()
    parent.hooks._failed(task_id=str(parent.key), exception=ValueError("no"))
    assert parent.outcomes == []


def test_claim_of_another_worker_is_not_touched(parent: Parent) -> None:
    parent.claim("elsewhere:1:ab/1")
    parent.hooks._failed(task_id=str(parent.key), exception=WorkerLostError("signal 9"))
    assert parent.outcomes == []


def test_loss_of_a_copy_says_nothing_while_another_one_runs_here(parent: Parent) -> None:
    parent.claim()
    other = parent.receive(parent.key)
    worker_state.active_requests.add(other)
    parent.hooks._failed(task_id=str(parent.key), exception=WorkerLostError("signal 9"))
    assert parent.outcomes == []
    worker_state.active_requests.discard(other)


def test_task_without_our_header_is_none_of_our_business(parent: Parent) -> None:
    parent.claim()
    message = SimpleNamespace(headers={"id": str(parent.key)})
    parent.hooks._failed(task_id="order.1.1.1", exception=WorkerLostError("signal 9"))
    parent.hooks._revoked(request=SimpleNamespace(id=str(parent.key)))
    parent.hooks._unknown(sender=SimpleNamespace(app=parent.app), message=message, name="x")
    parent.hooks._rejected(sender=SimpleNamespace(app=parent.app), message=None)
    assert parent.outcomes == []


def test_waiting_step_that_is_revoked_has_not_run(parent: Parent) -> None:
    parent.hooks._revoked(request=parent.request, terminated=False)
    (body,) = parent.outcomes
    assert (body["kind"], body["failure"]["type"], body["ran"]) == (
        "cancelled",
        "TaskRevoked",
        False,
    )


def test_running_step_that_is_terminated_may_have_run(parent: Parent) -> None:
    parent.claim()
    parent.hooks._revoked(request=parent.request, terminated=True)
    (body,) = parent.outcomes
    assert "ran" not in body


def test_copy_revoked_while_another_worker_runs_the_step_cancels_nothing(parent: Parent) -> None:
    parent.claim("elsewhere:1:ab/1")
    parent.hooks._revoked(request=parent.request, terminated=False)
    assert parent.outcomes == []


@pytest.mark.parametrize(("hook", "kind"), [("_unknown", "UnknownTask"), ("_rejected", "Message")])
def test_message_no_worker_can_take_fails_its_attempt_alone(
    parent: Parent, hook: str, kind: str
) -> None:
    message = SimpleNamespace(headers=parent.request.request_dict)
    call = getattr(parent.hooks, hook)
    other = SimpleNamespace(app=Celery("other", set_as_current=False))
    call(sender=other, message=message, name="tasks.gone")
    assert parent.outcomes == []
    call(sender=SimpleNamespace(app=parent.app), message=message, name="tasks.gone")
    (body,) = parent.outcomes
    assert body["failure"]["type"].startswith(kind)
    assert (body["ran"], "non_retryable" in body["failure"]) == (False, False)


def test_store_that_is_away_does_not_end_the_worker(
    parent: Parent, caplog: pytest.LogCaptureFixture
) -> None:
    class Away:
        def post_outcome(self, *_: object) -> None:
            raise StoreUnavailable("post", "refused")

    hooks = ParentHooks(parent.app, Away)  # type: ignore[arg-type]
    hooks._revoked(request=parent.request, terminated=False)
    assert "not posted: refused" in caplog.text


def test_hook_that_goes_wrong_is_logged_and_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    def broken(**_: Any) -> None:
        raise KeyError("broken")

    _never_raises(broken)(sender=None)
    assert "hook broken" in caplog.text
