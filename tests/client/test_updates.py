"""What a caller learns of his update, from a real engine in a thread or from a recorded history."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.client.workflow import Workflow
from orchestrator.core import events as e
from orchestrator.core.errors import (
    ApplicationError,
    RunClosed,
    RunNotFound,
    StoreUnavailable,
    UsageError,
    WorkflowUpdateFailed,
    WorkflowUpdateRejected,
)
from orchestrator.store.memory import MemoryStore
from tests.client.runs import Recorder


async def till(drawer: int = 0) -> int:
    total = drawer
    is_open = True

    @workflow.on_update("add", int)
    async def add(amount: int) -> int:
        nonlocal total
        total += amount
        return total

    @add.validator
    def check(amount: int) -> None:
        if amount < 0:
            raise ValueError("nothing is taken out")

    @workflow.on_update("wait_for")
    async def wait_for(amount: int) -> int:
        await workflow.wait_condition(lambda: total >= amount)
        return total

    @workflow.on_update("fail")
    async def fail() -> None:
        raise ApplicationError("jammed", "Jammed")

    @workflow.on_update("dangle", unfinished="abandon")
    async def dangle() -> None:
        await workflow.signal("never")

    @workflow.on_signal("close")
    def close(_: Any) -> None:
        nonlocal is_open
        is_open = False

    await workflow.wait_condition(lambda: not is_open)
    return total


@pytest.fixture
def orc() -> Iterator[Orchestrator]:
    """An app whose orchestrator runs in a thread, over a store in memory."""
    app = Celery("tills", broker="memory://", set_as_current=False)
    orc = Orchestrator(app, store=MemoryStore())
    orc.workflow(till)
    stop = threading.Event()
    thread = threading.Thread(target=orc.engine().run, args=(stop,))
    thread.start()
    yield orc
    stop.set()
    thread.join()
    app.close()


def test_update_is_answered_and_its_id_gives_the_same_answer_again(orc: Orchestrator) -> None:
    handle = orc.get_workflow("till").start(5, id="t")
    assert handle.update("add", 2, id="u", timeout=30) == 7
    assert handle.update("add", 2, id="u", timeout=30) == 7
    assert handle.update("add", 1, timeout=30) == 8
    handle.signal("close")
    assert handle.result(timeout=30) == 8
    assert handle.update("add", 2, id="u", timeout=30) == 7  # also after the end
    with pytest.raises(RunClosed):
        handle.update("add", 2, timeout=30)


def test_update_that_is_rejected_or_fails_says_why(orc: Orchestrator) -> None:
    handle = orc.get_workflow("till").start(id="t")
    with pytest.raises(WorkflowUpdateRejected, match=r"'add': .*nothing is taken out"):
        handle.update("add", -1, timeout=30)
    with pytest.raises(WorkflowUpdateRejected, match=r"no update 'ad' here; known: add, "):
        handle.start_update("ad", 1, timeout=30)
    with pytest.raises(WorkflowUpdateFailed, match="Jammed: jammed") as caught:
        handle.update("fail", timeout=30)
    assert caught.value.status == "failed"
    with pytest.raises(UsageError, match="accepted, completed"):
        handle.start_update("add", 1, wait_for="done")
    with pytest.raises(RunNotFound):
        orc.run("nobody").update("add", 1)


def test_update_that_was_started_is_awaited_by_its_handle(orc: Orchestrator) -> None:
    handle = orc.get_workflow("till").start(id="t")
    waiting = handle.start_update("wait_for", 3, timeout=30)
    with pytest.raises(TimeoutError, match=f"the id {waiting.id} finds it again"):
        waiting.result(timeout=0)
    handle.update("add", 3, timeout=30)
    assert waiting.result(timeout=30) == 3
    done = handle.start_update("add", 1, wait_for="completed", timeout=30)
    assert done.result(timeout=0) == 4


def test_update_that_the_run_does_not_finish_is_a_clear_error(orc: Orchestrator) -> None:
    handle = orc.get_workflow("till").start(id="t")
    dangling = handle.start_update("dangle", timeout=30)
    handle.signal("close")
    with pytest.raises(WorkflowUpdateFailed, match="run 1 ended before it was through") as caught:
        dangling.result(timeout=30)
    assert caught.value.status == "unfinished"


def test_updates_and_starts_in_one_act_work_on_an_event_loop(orc: Orchestrator) -> None:
    async def calls() -> list[Any]:
        till_workflow = orc.get_workflow("till")
        first = await till_workflow.aio.execute_update_with_start(
            "add", 2, id="t", args=[1], timeout=30
        )
        handle = orc.aio.run("t")
        second = await handle.update("add", 4, timeout=30)
        third = await (await handle.start_update("add", 1, timeout=30)).result(30)
        closed = await till_workflow.aio.signal_with_start("close", id="t")
        return [first, second, third, await closed.result(30)]

    assert asyncio.run(calls()) == [3, 7, 8, 8]


def test_signal_with_start_opens_a_run_or_joins_the_open_one(orc: Orchestrator) -> None:
    till_workflow = orc.get_workflow("till")
    assert till_workflow.execute_update_with_start("add", 1, id="t", args=[10], timeout=30) == 11
    assert till_workflow.execute_update_with_start("add", 1, id="t", args=[10], timeout=30) == 12
    handle = till_workflow.signal_with_start("close", id="t")
    assert (handle.run, handle.result(timeout=30)) == (1, 12)
    again = till_workflow.signal_with_start("close", id="t", args=[3])
    assert (again.run, again.result(timeout=30)) == (2, 3)


class Lossy:
    """A store whose first answers to one call are lost, after the call."""

    def __init__(self, store: MemoryStore, call: str) -> None:
        self._store, self._call, self._left = store, call, 2

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name != self._call:
            return found

        def lossy(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if self._left:
                self._left -= 1
                raise StoreUnavailable(name, "lost")
            return answer

        return lossy


@pytest.mark.parametrize("call", ["post", "read_history", "find_row", "wait_for_event"])
def test_update_survives_lost_answers(orc: Orchestrator, call: str) -> None:
    handle = orc.get_workflow("till").start(5, id="t")
    store: Any = orc.store
    other = Orchestrator(
        Celery("others", broker="memory://", set_as_current=False), store=Lossy(store, call)
    )
    assert other.run("t").update("add", 2, timeout=30) == 7
    assert handle.update("add", 1, timeout=30) == 8


def test_update_with_start_follows_to_the_run_that_takes_it(
    order_workflow: Workflow[..., Any], recorder: Recorder
) -> None:
    """The open run ended before it took the update: the next one, started for it, answers."""
    order_workflow.start(1, id="o")
    recorder.started("o")
    handle = order_workflow.start_update_with_start("add", 2, id="o", args=[1], update_id="u")
    assert handle.run == 1
    recorder.completed("o", None)
    with pytest.raises(TimeoutError):
        handle.result(timeout=0)
    recorder.started("o", run=2)
    recorder.record(
        "o",
        e.UpdateReceived(at_ms=1, update="add", update_id="u", args=[2]),
        e.UpdateAccepted(at_ms=1, update="add", update_id="u"),
        e.UpdateCompleted(at_ms=1, update_id="u", result=3),
        run=2,
    )
    assert handle.result(timeout=0) == 3


def test_update_that_was_received_before_the_end_and_not_accepted_is_unfinished(
    order_workflow: Workflow[..., Any], recorder: Recorder
) -> None:
    handle = order_workflow.start(1, id="o")
    recorder.started("o")
    recorder.record("o", e.UpdateReceived(at_ms=1, update="add", update_id="u", args=[2]))
    recorder.completed("o", None)
    with pytest.raises(WorkflowUpdateFailed, match="unfinished: RunCompleted"):
        handle.update("add", 2, id="u", timeout=0)
