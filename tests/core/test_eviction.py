"""A run leaves memory silently: its code is unwound, what it asks for meanwhile forgotten."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from orchestrator.core import context as workflow
from orchestrator.core.events import RunTerminated
from orchestrator.core.saga import Saga
from orchestrator.core.signals import on_signal
from tests.core.driver import Driver, kinds

Drive = Callable[..., Driver]


def test_finally_block_of_an_evicted_workflow_orders_nothing(drive: Drive) -> None:
    seen: list[str] = []

    async def tidy() -> None:
        try:
            async with Saga() as saga:
                await saga.step("a", undo="undo_a")
        finally:
            seen.append("finally")
            asyncio.create_task(workflow.step("from a new task"))  # noqa: RUF006
            asyncio.get_running_loop().call_later(3, print)
            await workflow.step("clean up")
            seen.append("never reached")

    run = drive(tidy)
    before = list(run.history)
    run.replayed().execution.close()
    assert seen == ["finally"]
    run.close()
    run.close()
    assert seen == ["finally", "finally"]
    assert run.history == before
    assert run.execution._commands == run.started


def test_every_kind_of_suspended_code_is_unwound(drive: Drive) -> None:
    left: list[str] = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            yield
        finally:
            left.append("context")

    async def stream() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await workflow.sleep(1)
        finally:
            left.append("generator")

    async def child() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.append("child")

    async def all_kinds() -> None:
        async with resource(), asyncio.TaskGroup() as group, asyncio.timeout(9):
            group.create_task(child())
            async for _ in stream():
                pass

    run = drive(all_kinds)
    run.close()
    assert sorted(left) == ["child", "context", "generator"]


def test_code_that_will_not_be_unwound_is_abandoned() -> None:
    tries = 0

    async def clinging() -> None:
        nonlocal tries
        while True:
            try:
                await workflow.step("more")
            except BaseException:
                tries += 1

    run = Driver(clinging)
    run.close()
    assert tries > 1
    assert run.execution.take_complaints() == ["task main would not be unwound; it leaks"]
    del run
    # Were it collected, it would be told once more, and go round in circles without a loop.
    told = tries
    gc.collect()
    assert tries == told


def test_nothing_of_an_evicted_run_speaks_up_later(
    drive: Drive, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    async def busy() -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(5):
                group.create_task(workflow.step(f"t{n}"))
            group.create_task(asyncio.sleep(5))

    run = Driver(busy)
    run.close()
    execution = run.execution
    del run
    gc.collect()
    assert execution.take_complaints() == []
    assert [str(one.message) for one in recwarn] == []
    assert caplog.records == []


def test_a_task_that_never_began_is_closed_without_a_warning(
    drive: Drive, recwarn: pytest.WarningsRecorder
) -> None:
    async def leaving() -> None:
        asyncio.create_task(workflow.step("never begun"))  # noqa: RUF006

    run = drive(leaving)
    assert kinds(run.started) == ["RunCompleted"]
    gc.collect()
    assert [str(one.message) for one in recwarn] == []


def test_terminate_ends_at_once_where_nothing_is_to_undo(drive: Drive) -> None:
    called: list[object] = []

    async def waiting() -> None:
        on_signal("x")(called.append)
        await workflow.sleep(5)

    run = drive(waiting)
    assert run.terminate("now") == [RunTerminated(at_ms=run.now_ms, reason="now")]
    run.signal("x")
    assert called == []


def test_a_closed_execution_takes_no_input(drive: Drive) -> None:
    async def waiting() -> None:
        await workflow.step("a")

    run = drive(waiting)
    run.close()
    with pytest.raises(AssertionError, match="takes no input"):
        run.complete(1)
