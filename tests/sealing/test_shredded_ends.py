"""Promise: a run that is shredded right after its end keeps nobody waiting, and is not misread."""

import pytest

from orchestrator import workflow
from orchestrator.core.errors import ChildWorkflowError, ExternalWorkflowError
from orchestrator.core.events import RunCompleted
from orchestrator.core.limits import INLINE_BYTES_MAX
from orchestrator.core.values import Json
from orchestrator.sealing.housekeeping import shred
from orchestrator.store.ports import Kind
from tests.sealing.sealed_world import SECRET, SealedWorld

LARGE = SECRET * INLINE_BYTES_MAX
CHILD = "w.1.child-1"


async def ends() -> str:
    await workflow.signal("end")
    return LARGE


async def says_little() -> str:
    return SECRET


async def parent() -> str:
    try:
        return str(len(await workflow.child("ends")))
    except ChildWorkflowError as error:
        return f"{error.status} {error.type}"


async def watcher() -> str:
    try:
        return str(len(await workflow.external("far").result()))
    except ExternalWorkflowError as error:
        return f"{error.status} {error.type}"


@pytest.fixture
def world() -> SealedWorld:
    return SealedWorld(ends, says_little, parent, watcher)


def end_and_shred(world: SealedWorld, id: str) -> None:
    """Let a run end, and shred it before anybody reads what it told of its end."""
    world.signal("end", id=id)
    while world.status(id) != "completed":
        world.node.turn()
    shred(world.store, world.blobs, world.codec, id, 0)


def result_of(world: SealedWorld, id: str) -> Json:
    ending = world.events(id)[-1]
    assert isinstance(ending, RunCompleted)
    return ending.result


def test_parent_gets_the_result_of_a_child_that_is_shredded_before_it_reads(
    world: SealedWorld,
) -> None:
    world.start("parent")
    world.settle()
    end_and_shred(world, CHILD)
    world.settle()
    assert world.result() == str(len(LARGE))


def test_each_who_watches_gets_the_result_of_a_run_that_is_shredded_before_they_read(
    world: SealedWorld,
) -> None:
    world.start("ends", id="far")
    for id in ("w", "v"):
        world.start("watcher", id=id)
    world.settle()
    end_and_shred(world, "far")
    world.settle()
    shred(world.store, world.blobs, world.codec, "v", 0)
    world.restart()
    world.settle()
    assert world.result() == str(len(LARGE))


def test_copy_on_its_way_is_the_receivers_own_and_goes_with_it(world: SealedWorld) -> None:
    world.start("parent")
    world.settle()
    end_and_shred(world, CHILD)
    world.settle()
    shred(world.store, world.blobs, world.codec, "w", 0)
    assert not world.stored_blobs.values


def letter_of_before(world: SealedWorld, id: str, kind: Kind) -> dict[str, Json]:
    """Put, in the place of what was said of an end, what was said before results were copied."""
    world.signal("end", id=id)
    while world.status(id) != "completed":
        world.node.turn()
    for part in world.plain._parts:
        for entry in [entry for entry in part.inbox.values() if entry.kind is kind]:
            del part.inbox[entry.id]
    return {"for_run": 1, "run": 1, "status": "completed", "result": result_of(world, id)}


def test_letter_that_was_under_way_tells_that_the_result_was_shredded(world: SealedWorld) -> None:
    world.start("parent")
    world.start("ends", id="far")
    world.start("watcher", id="v")
    world.settle()
    of_child = letter_of_before(world, CHILD, Kind.CHILD)
    of_other = letter_of_before(world, "far", Kind.EXTERNAL)
    for id in (CHILD, "far"):
        shred(world.store, world.blobs, world.codec, id, 0)
    world.post(Kind.CHILD, {**of_child, "child": 1})
    world.post(Kind.EXTERNAL, {**of_other, "external": 1}, id="v")
    world.settle()
    assert [world.result(id) for id in ("w", "v")] == ["completed PayloadSealed"] * 2


def test_letter_that_was_under_way_waits_while_the_blobs_are_away(world: SealedWorld) -> None:
    world.start("parent")
    world.settle()
    said = letter_of_before(world, CHILD, Kind.CHILD)
    kept = dict(world.stored_blobs.values)
    world.stored_blobs.values.clear()
    world.post(Kind.CHILD, {**said, "child": 1})
    world.settle()
    assert world.status() == "running"
    world.stored_blobs.values.update(kept)
    world.advance(60_000)
    world.settle()
    assert world.result() == str(len(LARGE))


@pytest.mark.parametrize("ending", ["ends", "says_little"])
def test_who_asks_after_a_shredded_run_is_told_that_nobody_knows_its_result(
    world: SealedWorld, ending: str
) -> None:
    world.start(ending, id="far")
    world.settle()
    if ending == "ends":
        world.signal("end", id="far")
        world.settle()
    shred(world.store, world.blobs, world.codec, "far", 0)
    world.start("watcher")
    world.settle()
    assert world.result() == "completed PayloadSealed"


def test_question_read_after_the_end_and_the_shredding_gets_the_same_answer(
    world: SealedWorld,
) -> None:
    world.start("ends", id="far")
    world.settle()
    inbox = world.plain._of("far").inbox
    world.start("watcher")
    while not (questions := [one for one in inbox.values() if one.kind is Kind.WATCH]):
        world.node.turn()
    # 1. The question is in the inbox; 2. its owner ends the run, and dies; 3. the run is shredded.
    question = inbox.pop(questions[0].id)
    world.signal("end", id="far")
    world.settle()
    shred(world.store, world.blobs, world.codec, "far", 0)
    inbox[question.id] = question
    world.restart()
    world.settle()  # The answer is no commit: it lies in the inbox then.
    world.settle()
    assert world.result() == "completed PayloadSealed"
