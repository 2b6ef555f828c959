"""Interceptors stand around what clients say, blocking or not: they add, look on, or refuse."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from orchestrator import Orchestrator
from orchestrator.blobs import DirectoryBlobs
from orchestrator.client.connection import Connection
from orchestrator.client.registration import WorkflowOptions, define
from orchestrator.client.workflow import Workflow
from orchestrator.core.errors import (
    InvalidPayload,
    PayloadTooLarge,
    RunExists,
    UsageError,
)
from orchestrator.core.interceptors import (
    Interceptor,
    QueryWorkflow,
    SignalWorkflow,
    StartWorkflow,
    StopWorkflow,
    UpdateWorkflow,
)
from orchestrator.core.limits import HEADERS_BYTES_MAX
from orchestrator.payloads import PydanticCodec
from orchestrator.store.memory import MemoryStore
from tests.client.conftest import order
from tests.client.runs import Recorder


class Forbidden(Exception):
    """Raised by an interceptor."""


class Scripted(Interceptor):
    """Does what its test says, and notes every call and its outcome."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.change: Callable[[Any], Any] = lambda call: call

    async def _pass(self, call: Any, proceed: Any) -> Any:
        self.seen.append(type(call).__name__)
        try:
            outcome = await proceed(self.change(call))
        except Exception as error:
            self.seen.append(type(error).__name__)
            raise
        self.seen.append(outcome)
        return outcome

    async def start_workflow(self, call: StartWorkflow, proceed: Any) -> int:
        return int(await self._pass(call, proceed))

    async def signal_workflow(self, call: SignalWorkflow, proceed: Any) -> str:
        return str(await self._pass(call, proceed))

    async def query_workflow(self, call: QueryWorkflow, proceed: Any) -> Any:
        return await self._pass(call, proceed)

    async def update_workflow(self, call: UpdateWorkflow, proceed: Any) -> str:
        return str(await self._pass(call, proceed))

    async def cancel_workflow(self, call: StopWorkflow, proceed: Any) -> None:
        await self._pass(call, proceed)

    async def terminate_workflow(self, call: StopWorkflow, proceed: Any) -> None:
        await self._pass(call, proceed)


class Shop:
    """A client with an interceptor, over a store in memory."""

    def __init__(self, directory: Path) -> None:
        self.scripted = Scripted()
        self.store = MemoryStore()
        options = WorkflowOptions(signals={"note": str})
        definition, encode_input = define(order, options, PydanticCodec())
        connection = Connection(
            lambda: self.store,
            None,
            codec=PydanticCodec(),
            registry={definition.name: definition},
            blobs=DirectoryBlobs(directory),
            interceptors=(self.scripted,),
        )
        self.sessions = connection.sessions
        self.workflow = Workflow(order, definition, encode_input, connection.sessions)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What has arrived in all inboxes."""
        partitions = dict.fromkeys(range(self.store.partitions), "0")
        taken = self.store.take_inbox(partitions, count=100, block_ms=0)
        return [entry.body for entries in taken.values() for entry in entries]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def forbid(call: Any) -> Any:
    raise Forbidden(type(call).__name__)


def test_a_start_gets_headers_and_the_outcome_is_seen(shop: Shop) -> None:
    shop.scripted.change = lambda call: replace(call, headers={"trace": "t-1"})
    assert shop.workflow.start(5, id="o").run == 1
    (body,) = shop.bodies
    assert body["headers"] == {"trace": "t-1"}
    with pytest.raises(RunExists):
        shop.workflow.start(5, id="o")
    assert shop.scripted.seen == ["StartWorkflow", 1, "StartWorkflow", "RunExists"]


def test_a_start_that_nobody_touches_is_sent_as_ever(shop: Shop) -> None:
    shop.workflow.start(5, id="o")
    (body,) = shop.bodies
    assert "headers" not in body


def test_headers_beyond_their_bound_send_nothing(shop: Shop) -> None:
    shop.scripted.change = lambda call: replace(call, headers={"x": "y" * HEADERS_BYTES_MAX})
    with pytest.raises(PayloadTooLarge, match="headers"):
        shop.workflow.start(5, id="o")
    assert shop.bodies == []


def test_whatever_is_refused_is_not_sent(shop: Shop) -> None:
    handle = shop.workflow.start(5, id="o")
    shop.scripted.change = forbid
    calls: Mapping[str, Callable[[], object]] = {
        "StartWorkflow": lambda: shop.workflow.start(5),
        "SignalWorkflow": lambda: handle.signal("note", "x"),
        "QueryWorkflow": lambda: handle.query("stack", timeout=0),
        "UpdateWorkflow": lambda: handle.update("add", 1, timeout=0),
        "StopWorkflow": lambda: handle.cancel(),
    }
    for name, call in calls.items():
        with pytest.raises(Forbidden, match=name):
            call()
    with pytest.raises(Forbidden, match="StopWorkflow"):
        handle.terminate()
    with pytest.raises(Forbidden, match="StartWorkflow"):
        shop.workflow.signal_with_start("note", "x", id="p", args=[5])
    with pytest.raises(Forbidden, match="StartWorkflow"):
        shop.workflow.start_update_with_start("add", 1, id="p", args=[5])
    assert len(shop.bodies) == 1


def test_what_is_changed_is_what_is_sent_and_still_validated(shop: Shop) -> None:
    handle = shop.workflow.start(5, id="o")
    shop.scripted.change = lambda call: replace(call, payload=call.payload + "!")
    handle.signal("note", "hello", id="s")
    assert shop.bodies[-1]["payload"] == "hello!"
    assert shop.scripted.seen[-2:] == ["SignalWorkflow", "s"]
    shop.scripted.change = lambda call: replace(call, payload=7)
    with pytest.raises(InvalidPayload):
        handle.signal("note", "hello")
    shop.scripted.change = lambda call: replace(call, reason=f"{call.reason}, says the desk")
    handle.cancel("enough")
    assert shop.bodies[-1]["reason"] == "enough, says the desk"


def test_an_update_is_changed_before_it_is_sent(shop: Shop) -> None:
    recorder = Recorder(shop.store)
    handle = shop.workflow.start(5, id="o")
    recorder.started("o")
    shop.scripted.change = lambda call: replace(call, args=(call.args[0] + 1,))
    with pytest.raises(TimeoutError):
        handle.start_update("add", 1, id="u", timeout=0)
    assert shop.bodies[-1]["args"] == [2]
    assert shop.scripted.seen[-2:] == ["UpdateWorkflow", "u"]


def test_a_message_with_a_start_passes_as_one_call(shop: Shop) -> None:
    def change(call: StartWorkflow) -> StartWorkflow:
        assert isinstance(call.message, SignalWorkflow)
        message = replace(call.message, payload=call.message.payload + "!")
        return replace(call, headers={"trace": "t-1"}, message=message)

    shop.scripted.change = change
    assert shop.workflow.signal_with_start("note", "hello", id="o", args=[5]).run == 1
    started, signalled = shop.bodies
    assert started["headers"] == {"trace": "t-1"}
    assert signalled["payload"] == "hello!"
    shop.scripted.change = lambda call: replace(call, message=None)
    with pytest.raises(UsageError, match="took signal 'note' from its start"):
        shop.workflow.signal_with_start("note", "hello", id="o", args=[5])
    with pytest.raises(UsageError, match="took update 'add' from its start"):
        shop.workflow.start_update_with_start("add", 1, id="o", args=[5])


def test_an_update_that_an_interceptor_swallows_is_a_clear_error(tmp_path: Path) -> None:
    class Swallowing(Interceptor):
        async def update_workflow(self, call: UpdateWorkflow, proceed: Any) -> str:
            return "u"

        async def start_workflow(self, call: StartWorkflow, proceed: Any) -> int:
            return 1 if call.message else int(await proceed(call))

    app = Celery("swallowing", set_as_current=False)
    orc = Orchestrator(app, store=MemoryStore(), blobs=tmp_path, interceptors=[Swallowing()])
    started = orc.workflow(order)
    handle = started.start(5, id="o")
    with pytest.raises(UsageError, match="did not send update 'add'"):
        handle.update("add", 1, timeout=0)
    with pytest.raises(UsageError, match="did not send update 'add'"):
        started.start_update_with_start("add", 1, id="o", args=[5])


def test_on_an_event_loop_it_may_wait_and_on_the_blocking_client_it_is_told_not_to(
    tmp_path: Path,
) -> None:
    class Asking(Interceptor):
        async def start_workflow(self, call: StartWorkflow, proceed: Any) -> int:
            await asyncio.sleep(0)
            return int(await proceed(replace(call, headers={"asked": True})))

    app = Celery("asking", set_as_current=False)
    store = MemoryStore()
    orc = Orchestrator(app, store=store, blobs=tmp_path, interceptors=[Asking()])
    started = orc.workflow(order)
    handle = asyncio.run(started.aio.start(5, id="o"))
    assert handle.run == 1
    with pytest.raises(UsageError, match=r"await nothing but proceed\(\) there"):
        started.start(5, id="p")
    assert store.find_row("p") is None


def test_what_is_no_interceptor_is_refused_when_the_app_is_made() -> None:
    app = Celery("refused", set_as_current=False)
    with pytest.raises(UsageError, match="found Scripted"):
        Orchestrator(app, store=MemoryStore(), interceptors=[Scripted])  # type: ignore[list-item]
