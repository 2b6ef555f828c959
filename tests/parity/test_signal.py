"""Signals as Temporal has them, each test named after the conformance test it answers."""

import asyncio
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.errors import ExternalWorkflowError
from orchestrator.core.values import Json
from orchestrator.core.with_start import with_start
from orchestrator.store.keys import partition_of
from orchestrator.store.ports import Kind, RunKey, StartAnswer
from tests.engine.test_crashes import Faulty
from tests.engine.world import Node, World, definition


async def listener() -> list[Any]:
    heard: list[Any] = []
    while (word := await workflow.signal("say")) != "end":
        heard.append(word)
    return heard


async def sender(id: str, *words: Any) -> Any:
    other = workflow.external(id)
    try:
        for word in words:
            await other.signal("say", word)
    except ExternalWorkflowError as error:
        return [error.status, error.run, error.failure.message]
    return "sent"


async def reader(id: str) -> Any:
    try:
        return await workflow.external(id).result(list)
    except ExternalWorkflowError as error:
        return [error.status, error.type]


def pair() -> World:
    world = World(listener, sender, reader)
    world.start("listener", id="other")
    world.settle()
    return world


def test_sender_and_listener_of_these_tests_live_apart() -> None:
    assert partition_of("w", 4) != partition_of("other", 4)


def test_signal_basic() -> None:
    world = World(listener)
    world.start("listener")
    for word in ("a", "b", "end"):
        world.signal("say", word)
    world.settle()
    assert world.result() == ["a", "b"]


def test_signal_activities() -> None:
    """A handler runs steps, and the run waits for it if it is told to."""

    async def busy() -> str:
        @workflow.on_signal("work", unfinished="wait")
        async def work(number: int) -> None:
            await workflow.step("job", number)

        await workflow.signal("end")
        return "ended"

    world = World(busy)
    world.tasks["job"] = lambda number: number
    world.start("busy")
    world.turn()
    for name in ("work", "end"):
        world.signal(name, 1)
    world.turn()  # the function has returned, and no worker has done the step
    assert world.status() == "running"
    world.settle()
    assert world.result() == "ended"
    assert len(world.ran) == 1
    world.check_chain()


def test_signal_external() -> None:
    world = pair()
    world.start("sender", "other", "a", {"b": 1}, "end")
    world.settle()
    assert world.result() == "sent"
    assert world.result("other") == ["a", {"b": 1}]
    assert world.names() == [
        "RunStarted",
        *("ExternalSignalSent", "ExternalCompleted") * 3,
        "RunCompleted",
    ]


def test_signal_workflow_to_workflow() -> None:
    """Every call to the store fails once, before or after it happened: one signal, one answer."""
    for call in ("commit", "post", "read_letters", "ack_letters", "take_inbox", "read_history"):
        for happens in (False, True):
            for at in range(1, 14):
                world = World(listener, sender, reader)
                faulty = Faulty(world.store, call, at, happens=happens)
                world.nodes = [Node(world, "one", faulty)]
                world.start("listener", id="other")
                world.start("reader", "other", id="r")
                world.settle()
                world.start("sender", "other", "a", "end")
                world.settle()
                world.restart()
                world.settle()
                assert world.result() == "sent", (call, happens, at)
                assert world.result("other") == ["a"]
                assert world.result("r") == ["a"]
                assert world.names("other").count("SignalReceived") == 2
                world.check_chain("other")
                world.close()


@pytest.mark.parametrize(
    ("before", "status"), [("nobody", "not_found"), ("ended", "closed"), ("declared", "rejected")]
)
def test_signal_external_that_cannot_be_told_is_a_clear_error(before: str, status: str) -> None:
    world = World(listener, sender)
    if before == "declared":
        world.deploy(definition(listener, signals={"other": None}))
    if before != "nobody":
        world.start("listener", id="other")
        world.settle()
    if before == "ended":
        world.signal("say", "end", id="other")
        world.settle()
    world.start("sender", "other", "a")
    world.settle()
    found: Any = world.result()
    assert found[0] == status
    assert "other" in found[2] or "listener" in found[2]


def test_signal_external_to_a_run_that_ends_before_it_takes_it_is_answered() -> None:
    world = pair()
    world.signal("say", "end", id="other")  # in the inbox before the letter is delivered
    world.start("sender", "other", "late")
    world.settle()
    assert world.result() == ["closed", 1, "other run 1 has ended: it takes no more messages"]
    assert list(world.store.rejected) == []  # its sender knows


def test_cancel_external_is_recorded_there_and_here() -> None:
    async def stopper() -> str:
        await workflow.external("other").cancel("enough")
        return "asked"

    world = pair()
    world.deploy(stopper)
    world.start("stopper")
    world.settle()
    assert (world.result(), world.status("other")) == ("asked", "cancelled")
    world.start("stopper", id="w2")
    world.settle()
    assert world.status("w2") == "failed"


def test_the_result_of_another_run_is_awaited_or_there_at_once() -> None:
    world = pair()
    world.start("reader", "other")
    world.settle()
    assert world.status() == "running"
    for word in ("a", "end"):
        world.signal("say", word, id="other")
    world.settle()
    assert world.result() == ["a"]
    world.start("reader", "other", id="w2")
    world.settle()
    assert world.result("w2") == ["a"]
    world.start("reader", "nobody", id="w3")
    world.settle()
    assert world.result("w3") == ["not_found", "WorkflowNotFound"]


def test_the_end_without_a_result_of_another_run_is_told() -> None:
    world = pair()
    world.start("reader", "other")
    world.settle()
    world.post(Kind.TERMINATE, {"reason": "stop", "request_id": "t"}, id="other")
    world.settle()
    assert world.result() == ["terminated", "Terminated"]


def test_signal_prevent_close() -> None:
    """A signal that came before the end is in the history before it: a loop can drain them all."""

    async def draining() -> list[Any]:
        heard = [await workflow.signal("say")]
        await workflow.step("job")
        async for word in workflow.signals("say", timeout=0):
            heard.append(word)
        return heard

    world = World(draining)
    world.tasks["job"] = lambda: str(world.signal("say", "during"))
    world.start("draining")
    world.signal("say", "before")
    world.settle()
    assert world.result() == ["before", "during"]


def start_with(world: World, word: str, request: str = "r", signal_id: str = "s") -> Any:
    body: dict[str, Json] = {"signal": "say", "signal_id": signal_id, "payload": word}
    both = with_start(request, {"workflow": "listener", "args": [], "kwargs": {}}, body)
    return world.store.start(
        "w", request_id=both.request_id, body=both.start, message=(Kind.SIGNAL, both.message)
    )


def test_signal_signal_with_start() -> None:
    world = World(listener)
    assert start_with(world, "first").answer is StartAnswer.STARTED
    world.settle()
    assert start_with(world, "second", "r2", "s2").answer is StartAnswer.EXISTS
    world.signal("say", "end")
    world.settle()
    assert world.result() == ["first", "second"]
    assert world.names()[1] == "SignalReceived"


def test_signal_with_start_to_a_run_that_ends_first_starts_the_next_one() -> None:
    world = World(listener)
    world.start("listener")
    world.settle()
    world.signal("say", "end")
    assert start_with(world, "kept").answer is StartAnswer.EXISTS
    world.settle()
    assert world.row()["run"] == "2"
    assert [type(one).__name__ for one in world.events(run=2)] == ["RunStarted", "SignalReceived"]
    assert start_with(world, "kept").answer is StartAnswer.REPEATED
    world.signal("say", "end")
    world.settle()
    assert world.result() == ["kept"]


def test_signal_with_start_survives_a_death_at_every_call() -> None:
    for call in ("commit", "start", "discard", "take_inbox"):
        for happens in (False, True):
            for at in range(1, 6):
                world = World(listener)
                world.nodes = [Node(world, "one", Faulty(world.store, call, at, happens=happens))]
                world.start("listener")
                world.settle()
                world.signal("say", "end")
                start_with(world, "kept")
                world.settle()
                world.restart()
                world.settle()
                second = world.store.read_history(RunKey(workflow_id="w", run=2))
                assert len(second) == 2, (call, happens, at)
                assert world.row()["run"] == "2"
                world.close()


def test_a_dynamic_signal_handler_takes_what_nobody_waits_for() -> None:
    async def open_ended() -> list[Any]:
        await workflow.step("job")
        seen: list[Any] = []

        @workflow.on_signal("own")
        def own(payload: Any) -> None:
            seen.append(["own", payload])

        @workflow.on_signal(None)
        def other(name: str, payload: Any) -> None:
            seen.append([name, payload])

        await workflow.signal("end")
        return seen

    world = World(open_ended)
    world.tasks["job"] = lambda: None
    world.start("open_ended")
    world.turn()
    for number, name in enumerate(("b", "a", "own", "b")):
        world.signal(name, number)
    world.turn()
    world.settle()
    world.signal("c", 4)
    world.signal("end")
    world.settle()
    heard: Any = world.result()
    assert sorted(heard[:4]) == [["a", 1], ["b", 0], ["b", 3], ["own", 2]]
    assert [name for name, _ in heard[:4] if name != "own"] == ["b", "a", "b"]
    assert heard[4] == ["c", 4]


def test_an_event_that_nobody_wrote_about_is_no_answer() -> None:
    """The second answer to one question changes nothing."""
    world = pair()
    world.start("sender", "other", "a")
    world.settle()
    body: dict[str, Json] = {"external": 1, "run": 1, "status": "closed"}
    world.start("sender", "other", "b", id="w2")
    world.turn()
    world.post(Kind.EXTERNAL, body, id="w2")
    world.settle()
    assert world.names("w2").count("ExternalCompleted") == 1
    assert not any(isinstance(one, e.ExternalFailed) for one in world.events("w2"))


def test_signal_child_workflow() -> None:
    async def parent() -> Any:
        heard = asyncio.ensure_future(workflow.child("listener", id="child-1"))
        await asyncio.sleep(0)  # Ordered before the first word to it.
        for word in ("hello", "child", "end"):
            await workflow.external("child-1").signal("say", word)
        return await heard

    world = World(listener, parent)
    world.start("parent")
    world.settle()
    assert world.result() == ["hello", "child"]
