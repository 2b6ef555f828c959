"""`workflow describe` tells the causes apart why a run does not go on, and says what to do."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.cli.runs import workflow as command
from orchestrator.core.errors import ApplicationError, StoreUnavailable
from orchestrator.core.limits import RESEND_AFTER_MS
from orchestrator.core.retry import Retry
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import AttemptKey, Kind
from tests.engine.test_complete_later import leave_next
from tests.engine.world import World

LATER = Retry(attempts=3, initial=timedelta(seconds=90))


async def render() -> Any:
    return await workflow.step("x.t", queue="gpu", retry=LATER)


async def books() -> Any:
    async with workflow.saga() as saga:
        await saga.step("reserve", undo="release", undo_retry=Retry(attempts=1))
        raise ApplicationError("no")


async def listens() -> Any:
    return await workflow.signal("go")


async def follows() -> Any:
    return await workflow.external("other").result()


async def pays() -> Any:
    return await workflow.step("x.t", retry=LATER)


@pytest.fixture
def world() -> Iterator[World]:
    world = World(render, books, listens, follows, pays)
    yield world
    world.close()


@pytest.fixture
def described(world: World) -> Iterator[Callable[..., Any]]:
    """Return what ``workflow describe w`` prints: text with single blanks, or JSON."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    Orchestrator(app, store=world.store)
    context = CLIContext(app=app, no_color=True, workdir=None)

    def describe(*words: str) -> Any:
        done = CliRunner().invoke(command, ["describe", "w", *words], obj=context)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if words else " ".join(done.stdout.split())

    yield describe
    app.close()


def started(world: World, name: str) -> None:
    world.start(name)
    world.turn()


def fail(world: World, queue: str = "celery") -> None:
    message = world.pop(queue)
    assert message
    world.claim(message)
    world.finish(message, {"kind": "failed", "failure": {"type": "Down", "message": "no bank"}})
    world.turn()


def test_step_that_nobody_claims_names_its_queue_and_how_often_it_was_sent(
    world: World, described: Callable[..., Any]
) -> None:
    started(world, "render")
    assert "not claimed: is a worker on queue gpu?" in described()
    world.advance(RESEND_AFTER_MS)
    world.turn()
    assert "not claimed, sent again once: is a worker on queue gpu?" in described()
    (step,) = described("--json")["pending"]["steps"]
    assert (step["queue"], step["resends"], step["claim"]) == ("gpu", 1, "none")


def test_queue_of_a_step_that_names_none_is_where_the_app_routes_it(
    world: World, described: Callable[..., Any]
) -> None:
    started(world, "pays")
    assert "is a worker on queue celery?" in described()


def test_step_that_runs_names_its_worker_and_not_its_token(
    world: World, described: Callable[..., Any]
) -> None:
    started(world, "render")
    message = world.pop("gpu")
    assert message
    world.claim(message, "host:7:ab/secret")
    said = described()
    assert "running, attempt 1" in said
    assert "running on host:7:ab" in said
    assert "heartbeat" not in said
    world.store.heartbeat(AttemptKey.parse(message["key"]), "host:7:ab/secret", 1)
    assert "running on host:7:ab, last heartbeat 20" in described()
    data = described("--json")
    assert data["pending"]["steps"][0]["worker"] == "host:7:ab"
    assert data["pending"]["steps"][0]["heartbeat_at"].startswith("20")
    assert "secret" not in said + json.dumps(data)


def test_step_that_is_left_to_its_token_says_how_it_ends(
    world: World, described: Callable[..., Any]
) -> None:
    started(world, "pays")
    leave_next(world)
    assert "left to its token: ends with `workflow step complete|fail TOKEN`" in described()
    assert described("--json")["pending"]["steps"][0]["claim"] == "left"


def test_back_off_says_when_the_next_attempt_goes_out_and_why(
    world: World, described: Callable[..., Any]
) -> None:
    started(world, "pays")
    fail(world)
    (step,) = described("--json")["pending"]["steps"]
    said = described()
    assert "backoff, attempt 2" in said
    assert "attempt 1 failed: Down: no bank" in said
    at = step["retry_at"][11:23]
    assert f"attempt 2 goes out at {step['retry_at'][:10]} {at}Z" in said
    assert step["last_failure"]["message"] == "no bank"
    assert step["retry_at"] > step["scheduled_at"]


def test_pause_says_who_and_why(world: World, described: Callable[..., Any]) -> None:
    started(world, "pays")
    body: dict[str, Any] = {"step": 1, "decision": "pause", "reason": "audit", "by": "ana"}
    world.post(Kind.DECISION, body)
    world.turn()
    assert "paused by ana: audit" in described()
    assert described("--json")["pending"]["steps"][0]["pause"] == {"reason": "audit", "by": "ana"}
    world.post(Kind.DECISION, {**body, "decision": "unpause"})
    world.turn()
    assert "paused" not in described()


def test_parked_step_says_its_failure_and_the_line_that_decides(
    world: World, described: Callable[..., Any]
) -> None:
    started(world, "books")
    message = world.pop()
    assert message
    world.claim(message)
    world.finish(message, {"kind": "completed", "result": 1})
    world.turn()
    fail(world)
    said = described()
    assert "parked, attempt 1" in said
    assert "attempt 1 failed: Down: no bank" in said
    assert "waits for a person: `workflow resolve w 2 retry|skip|done`" in said


def test_run_that_waits_for_a_signal_says_how_to_find_out(
    world: World, described: Callable[..., Any]
) -> None:
    started(world, "listens")
    assert "nothing is pending" in described()
    assert "`workflow query w stack` says where" in described()
    assert "`workflow query w stack`" in " ".join(described("--json")["hints"])


def test_run_that_waits_for_another_one_names_it(
    world: World, described: Callable[..., Any]
) -> None:
    world.start("listens", id="other")
    started(world, "follows")
    said = described()
    assert "external 1" in said
    assert "the end of run other" in said
    assert "nothing is pending" not in said
    (asked,) = described("--json")["pending"]["externals"]
    assert (asked["kind"], asked["workflow_id"]) == ("result", "other")


def test_orchestrators_that_fell_silent_are_missed(
    world: World, described: Callable[..., Any]
) -> None:
    world.start("listens")
    assert "no orchestrator has reported lately; start `celery -A APP orchestrator`" in described()
    world.turn()
    assert "no orchestrator" not in described()
    assert described("--json")["orchestrators"] == {"alive": 1, "silent_s": None}
    world.advance(60_000)
    assert "no orchestrator has reported for 57 s; start `celery" in described()
    assert described("--json")["orchestrators"] == {"alive": 0, "silent_s": 57.0}


def test_what_may_not_be_read_is_said_and_the_rest_is_shown(
    world: World, described: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: MemoryStore) -> dict[str, int]:
        raise StoreUnavailable("list_orchestrators", "NoPermissionError: no rights")

    started(world, "pays")
    monkeypatch.setattr(MemoryStore, "list_orchestrators", refuse)
    said = described()
    assert "scheduled, attempt 1" in said
    assert "claims and orchestrators could not be read" in said
    assert described("--json")["orchestrators"]["alive"] is None


def test_run_that_its_orchestrator_cannot_work_on_says_why(
    world: World, described: Callable[..., Any]
) -> None:
    started(world, "pays")
    message = world.pop()
    assert message
    world.claim(message)
    ref = world.blobs.put("x" * 100)
    del world.blobs.values[ref.sha256]
    world.finish(message, {"kind": "completed", "result": ref.as_json()})
    world.turn()
    assert f"rests blob {ref.sha256}: it is missing (tried again each second" in described()
    assert ref.sha256 in described("--json")["run"]["rests"]["reason"]


def test_run_that_has_ended_waits_for_nothing(world: World, described: Callable[..., Any]) -> None:
    started(world, "listens")
    world.signal("go", 1)
    world.turn()
    assert "PENDING" not in described()
    assert described("--json")["hints"] == []
