"""A decision about a step is said to be done once it is taken, and to be refused where it is."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from orchestrator.app import Orchestrator
from orchestrator.cli.runs import workflow as command
from orchestrator.core import events as e
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind, Posted
from tests.cli.test_pending import books, fail, pays, started
from tests.engine.world import World


@pytest.fixture
def world() -> Iterator[World]:
    world = World(books, pays)
    yield world
    world.close()


@pytest.fixture
def typed(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Return what runs a command while an orchestrator takes what it posts at once."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    Orchestrator(app, store=world.store)
    context = CLIContext(app=app, no_color=True, workdir=None)
    post = MemoryStore.post

    def post_and_work(self: MemoryStore, *args: Any, **kwargs: Any) -> Posted:
        posted = post(self, *args, **kwargs)
        world.turn()
        return posted

    monkeypatch.setattr(MemoryStore, "post", post_and_work)
    yield lambda *words: CliRunner().invoke(command, list(words), obj=context)
    app.close()


def test_step_that_is_not_parked_is_refused_with_the_reason(
    world: World, typed: Callable[..., Result]
) -> None:
    started(world, "pays")
    done = typed("resolve", "w", "1", "retry")
    assert done.exit_code == 1
    assert "retry was refused: step 1 is not parked" in done.stderr
    assert done.stdout == ""
    assert isinstance(world.events()[-1], e.RequestRejected)


def test_step_that_is_parked_is_resolved(world: World, typed: Callable[..., Result]) -> None:
    started(world, "books")
    message = world.pop()
    assert message
    world.claim(message)
    world.finish(message, {"kind": "completed", "result": 1})
    world.turn()
    fail(world)
    wrong = typed("resolve", "w", "1", "retry")
    assert (wrong.exit_code, "step 1 is not parked" in wrong.stderr) == (1, True)
    done = typed("resolve", "w", "2", "retry", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"ok": True, "state": "taken"})
    done = typed("step", "pause", "w", "2")
    assert (done.exit_code, done.stdout) == (0, "w step 2: pause\n")


def test_pause_unpause_and_reset_are_taken_or_refused(
    world: World, typed: Callable[..., Result]
) -> None:
    started(world, "pays")
    for word, code in (("unpause", 1), ("pause", 0), ("pause", 1), ("reset", 0), ("unpause", 0)):
        done = typed("step", word, "w", "1", "--reason", "audit")
        assert done.exit_code == code, (word, done.output)
        if code:
            assert f"{word} was refused: " in done.stderr
        else:
            assert done.stdout == f"w step 1: {word}\n"
    done = typed("step", "pause", "w", "9")
    assert "pause was refused: pause: step 9 is not outstanding" in done.stderr


def test_refusal_of_somebody_else_s_decision_is_not_mine(
    world: World, typed: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    started(world, "pays")
    post = MemoryStore.post

    def post_beside_another(self: MemoryStore, id: str, kind: Kind, body: Any, **how: Any) -> Any:
        post(self, id, kind, {**body, "decision": "unpause", "request_id": "theirs"}, run=1)
        return post(self, id, kind, body, **how)

    monkeypatch.setattr(MemoryStore, "post", post_beside_another)
    done = typed("step", "pause", "w", "1")
    assert (done.exit_code, done.stdout) == (0, "w step 1: pause\n")
    kinds = [type(event).__name__ for event in world.events()]
    assert kinds[-2:] == ["RequestRejected", "StepPaused"]
