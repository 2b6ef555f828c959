"""One act for every run that a filter takes: each run once, however often the batch is sent."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.blobs import DirectoryBlobs
from orchestrator.client import batch, listing, resets
from orchestrator.client.batch import Batch, BatchOptions, BatchReport, run_batch
from orchestrator.client.listing import filter_of
from orchestrator.client.port import Bridged, in_place, pause_in_place, run_in_place
from orchestrator.client.resets import ResetOptions
from orchestrator.client.session import Session
from orchestrator.core import events as e
from orchestrator.core.errors import StoreUnavailable, UsageError
from orchestrator.core.values import Json
from orchestrator.payloads import PydanticCodec
from tests.engine.world import World

FAST = BatchOptions(id="b1", rps=1_000_000)


async def waits() -> list[Any]:
    got = []
    try:
        while True:
            got.append(await workflow.signal("note"))
    except asyncio.CancelledError:
        await workflow.signal("bye")
        raise


@pytest.fixture
def world() -> World:
    made = World(waits)
    for n in range(4):
        attributes: dict[str, Json] = {"customer": "ana" if n < 3 else "bo"}
        body: dict[str, Json] = {"workflow": "waits", "search_attributes": attributes}
        made.store.start(f"w-{n}", request_id=f"r{n}", body=body)
        made.settle()
        made.advance(1)
    return made


def session_of(world: World, pause: Callable[[float], Awaitable[None]] = pause_in_place) -> Session:
    return Session(
        store=Bridged(world.store, in_place),
        pause=pause,
        codec=PydanticCodec(),
        registry={},
        blobs=DirectoryBlobs(Path("unused")),
    )


def carried_out(
    world: World,
    verb: str,
    told: Mapping[str, Any],
    *,
    filter: str = "customer = 'ana'",
    options: BatchOptions = FAST,
) -> BatchReport:
    work = run_batch(session_of(world), verb, filter_of(filter, {}), told, options)
    report = run_in_place(work)
    world.settle()
    return report


def count_of(world: World, kind: type[e.Event], workflow_id: str) -> int:
    return sum(isinstance(event, kind) for event in world.events(workflow_id))


def test_batch_sent_again_reaches_no_run_twice(world: World) -> None:
    for _ in range(2):
        report = carried_out(world, "signal", {"name": "note", "payload": 1})
        assert (report.matched, report.done, report.failed) == (3, 3, {})
    assert [count_of(world, e.SignalReceived, f"w-{n}") for n in range(4)] == [1, 1, 1, 0]
    for _ in range(2):
        carried_out(world, "cancel", {"reason": "closed account"})
    assert [count_of(world, e.CancelRequested, f"w-{n}") for n in range(4)] == [1, 1, 1, 0]
    assert "RequestRejected" not in world.names("w-0")
    carried_out(world, "signal", {"name": "other", "payload": 1})
    assert count_of(world, e.SignalReceived, "w-0") == 2
    other = BatchOptions(id="b2", rps=1_000_000)
    carried_out(world, "signal", {"name": "note", "payload": 2}, options=other)
    assert count_of(world, e.SignalReceived, "w-0") == 3
    carried_out(world, "terminate", {"reason": "closed account"})
    assert count_of(world, e.TerminateRequested, "w-0") == 1


def test_batch_that_was_interrupted_goes_on_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = batch.VERBS["signal"].act
    sent: list[str] = []

    async def breaks(session: Session, target: Any, request: str, told: Any) -> None:
        if len(sent) == 2:
            raise StoreUnavailable("post", "connection refused")
        sent.append(request)
        await act(session, target, request, told)

    with monkeypatch.context() as patch:
        patch.setitem(batch.VERBS, "signal", replace(batch.VERBS["signal"], act=breaks))
        report = carried_out(world, "signal", {"name": "note", "payload": 1})
    assert not report
    assert (report.done, report.interrupted != "") == (2, True)
    assert carried_out(world, "signal", {"name": "note", "payload": 1})
    assert [count_of(world, e.SignalReceived, f"w-{n}") for n in range(4)] == [1, 1, 1, 0]


def test_signal_reaches_a_chain_once_though_it_goes_on_between_two_sendings(world: World) -> None:
    async def goes_on(part: int = 1) -> None:
        await workflow.signal("note")
        workflow.continue_as_new(part + 1)

    world.deploy(goes_on)
    body: dict[str, Json] = {"workflow": "goes_on", "search_attributes": {"customer": "ana"}}
    world.store.start("chain", request_id="chain", body=body)
    world.settle()
    for _ in range(3):
        assert carried_out(world, "signal", {"name": "note", "payload": 1}).done == 4
    assert world.row("chain")["run"] == "2"
    other = BatchOptions(id="b2", rps=1_000_000)
    for _ in range(2):
        assert carried_out(world, "signal", {"name": "note", "payload": 1}, options=other).done == 4
    assert world.row("chain")["run"] == "3"


def test_reset_that_nobody_takes_in_time_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resets, "RESET_TIMEOUT_S", 0.0)
    told = {"options": ResetOptions(at=1)}
    report = carried_out(world, "reset", told)
    assert (report.matched, len(report.failed), report.interrupted) == (3, 3, "")
    assert "was not reset within" in report.failed["w-0 run 1"]


def test_run_that_ended_meanwhile_and_a_later_run_of_its_id_are_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = listing.find

    async def found_before_the_end(session: Session, wanted: Any) -> Any:
        found = await real(session, wanted)
        carried_out(world, "terminate", {"reason": "x"}, filter="WorkflowId = 'w-0'")
        world.store.start("w-0", request_id="again", body={"workflow": "waits"})
        world.settle()
        return found

    with monkeypatch.context() as patch:
        calls = iter([found_before_the_end, real])
        patch.setattr(listing, "find", lambda *given: next(calls)(*given))
        report = carried_out(world, "signal", {"name": "note", "payload": 1})
    assert (report.matched, report.done, report.ended) == (3, 2, 1)
    again = [type(event).__name__ for event in world.events("w-0", run=2)]
    assert again == ["RunStarted"]


def test_terminated_runs_are_no_longer_matched(world: World) -> None:
    report = carried_out(world, "terminate", {"reason": "closed"}, filter="WorkflowType = 'waits'")
    assert (report.matched, report.done) == (4, 4)
    assert [world.status(f"w-{n}") for n in range(4)] == ["terminated"] * 4
    assert carried_out(world, "terminate", {"reason": "closed"}).matched == 0


def test_requests_keep_to_the_rate(world: World) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    options = BatchOptions(id="b1", rps=4)
    told = {"name": "note", "payload": 1}
    wanted = filter_of("customer = 'ana'", {})
    report = run_in_place(run_batch(session_of(world, pause), "signal", wanted, told, options))
    assert report.done == 3
    assert pauses == [0.25, 0.25]


def test_dry_run_names_the_open_runs_and_touches_none(world: World) -> None:
    carried_out(world, "terminate", {"reason": "x"}, filter="WorkflowId = 'w-1'")
    work = Batch(lambda: session_of(world), filter_of("customer = 'ana'", {}), FAST)
    assert [found.workflow_id for found in work.matched()] == ["w-2", "w-0"]
    assert world.names("w-0") == ["RunStarted"]
    assert work.signal("note", 1).done == 2
    assert work.cancel("x").done == 2
    assert work.terminate("x").done == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"id": ""}, "a batch's id is a text of 1 to 64 characters"),
        ({"id": "x" * 65}, "a batch's id is a text of 1 to 64"),
        ({"rps": 0}, "rps 0: a number of requests a second above 0 is wanted"),
        ({"rps": float("nan")}, "rps nan: a number of requests"),
    ],
)
def test_batch_that_cannot_be_is_refused(options: Any, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        BatchOptions(**options)
    assert reason in str(refused.value)
