"""Promise: what a run cannot take is set aside with a reason, and nobody stands still for it.

Workers, completers and clients may write to an inbox (ops/users.acl); one of them may be careless.
"""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.limits import NAME_CHARS_MAX, REASON_CHARS_MAX
from orchestrator.core.values import Json
from orchestrator.engine.mail import Mail
from orchestrator.engine.owner import Owner
from orchestrator.engine.process import Engine
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import AttemptKey, InboxEntry, Kind, TimerKey, TimerKind
from tests.engine.world import FakeDispatcher, HandLocal, MemoryBlobs, World

FAILURE: dict[str, Json] = {"type": "T", "message": "m"}
LISTED: dict[str, Json] = {"type": "T", "message": ["m"]}
OUTCOME: dict[str, Json] = {"step": 1, "attempt": 1}


def settle(world: World) -> None:
    """Let owners and workers come to rest; who only sets aside says that there was nothing."""
    for _ in range(3):
        world.settle()
        world.advance(5_000)


async def asking() -> str:
    return str(await workflow.signal("go"))


async def stepping() -> str:
    return str(await workflow.step("work"))


@pytest.fixture
def world() -> Iterator[World]:
    made = World(asking, stepping)
    made.tasks["work"] = lambda: "done"
    made.start("asking")
    made.start("stepping", id="s")
    made.turn()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.PERMIT_REQUEST, {}),
        (Kind.PERMIT, {}),
        (Kind.PERMIT, {"run": {}}),
        (Kind.CHILD, {"for_run": {}}),
        (Kind.EXTERNAL, {"for_run": "x"}),
        (Kind.WATCH, {}),
        (Kind.RESET, {}),
        (Kind.QUERY, {}),
        (Kind.UPDATE, {}),
        (Kind.SIGNAL, {}),
        (Kind.SIGNAL, {"signal": ["go"], "signal_id": "1"}),
        (Kind.OUTCOME, {}),
        (Kind.OUTCOME, {**OUTCOME, "kind": "failed", "failure": LISTED}),
        (
            Kind.OUTCOME,
            {**OUTCOME, "kind": "failed", "failure": {**FAILURE, "next_retry_delay_ms": "soon"}},
        ),
        (Kind.OUTCOME, {"step": {}, "attempt": [], "kind": "completed"}),
        (Kind.LATE_OUTCOME, {"step": {}}),
        (Kind.DECISION, {"step": [], "decision": {}}),
        (Kind.CANCEL, {"parent": 7}),
    ],
    ids=lambda part: part.value if isinstance(part, Kind) else str(part)[:60],
)
def test_mail_of_a_wrong_form_holds_up_no_run(
    world: World, kind: Kind, body: dict[str, Json]
) -> None:
    for id in ("w", "s"):
        world.post(kind, body, id=id)
    world.signal("go", "now")
    settle(world)
    assert world.status() == ("cancelled" if kind is Kind.CANCEL else "completed")
    assert world.status("s") == ("cancelled" if kind is Kind.CANCEL else "completed")
    assert not world.node.owner._resting
    assert not any(part.inbox for part in world.store._parts)


def test_what_was_set_aside_is_kept_with_the_reason_and_the_rest_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    signal = Mail.signal

    def failing(mail: Mail, body: Any) -> None:
        if body["signal"] == "odd":
            raise OverflowError("nobody foresaw this")
        signal(mail, body)

    monkeypatch.setattr(Mail, "signal", failing)
    world = World(asking)
    world.start("asking")
    world.signal("before", 1)
    world.signal("odd", 2)
    world.signal("go", "now")
    settle(world)
    assert world.result() == "now"
    (kept,) = world.store.rejected
    assert (kept["workflow"], kept["kind"]) == ("w", "signal")
    assert kept["reason"] == "OverflowError in the run's mail"
    assert "set aside" in caplog.text
    received = [x.signal for x in world.events() if isinstance(x, e.SignalReceived)]
    assert received == ["before", "go"]


@pytest.mark.parametrize("run", [1, 2, 7])
@pytest.mark.parametrize("body", [{"args": "x"}, {"kwargs": [1]}], ids=["args", "kwargs"])
def test_a_start_of_a_wrong_form_is_set_aside(
    world: World, run: int, body: dict[str, Json]
) -> None:
    part = world.store._of("w")
    id = part.next_id()
    part.inbox[id] = InboxEntry(id=id, kind=Kind.START, workflow_id="w", run=run, body=body)
    world.signal("go", "now")
    settle(world)
    assert world.result() == "now"
    assert not part.inbox
    assert not world.node.owner._resting


@pytest.mark.parametrize("kind", list(TimerKind), ids=lambda kind: str(kind.value))
@pytest.mark.parametrize(("id", "run"), [("nobody", 1), ("w", 1), ("w", 7), ("w", 0)])
def test_timers_and_claims_of_no_history_vanish(
    world: World, kind: TimerKind, id: str, run: int
) -> None:
    part = world.store._of(id)
    timer = TimerKey(kind=kind, workflow_id=id, run=run, number=1, attempt=1)
    claim = AttemptKey(workflow_id=id, run=run, step=1, attempt=1)
    part.timers[timer] = part.claims[claim] = 1
    settle(world)
    assert timer not in part.timers
    assert claim not in part.claims
    assert not world.node.owner._resting
    assert world.names() == ["RunStarted"]


@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.TERMINATE])
def test_a_reason_beyond_its_bound_is_cut_and_what_was_asked_for_counts(
    world: World, kind: Kind
) -> None:
    world.post(kind, {"reason": "x" * 900_000, "request_id": "r"})
    world.settle()
    assert world.status() in ("cancelled", "terminated")
    (asked,) = [
        x for x in world.events() if isinstance(x, e.CancelRequested | e.TerminateRequested)
    ]
    assert len(asked.reason) == REASON_CHARS_MAX


@pytest.mark.parametrize(
    ("kind", "name"), [(Kind.SIGNAL, "signal"), (Kind.UPDATE, "update")], ids=["signal", "update"]
)
def test_names_and_ids_beyond_their_bound_are_refused_in_history(
    world: World, kind: Kind, name: str
) -> None:
    long = "x" * (NAME_CHARS_MAX + 1)
    world.post(kind, {name: long, f"{name}_id": "1"})
    world.post(kind, {name: "go", f"{name}_id": long})
    world.settle()
    refused = [x.reason for x in world.events() if isinstance(x, e.RequestRejected)]
    assert refused[0] == f"{NAME_CHARS_MAX + 1} characters; at most {NAME_CHARS_MAX} fit"
    assert refused[1] == f"its {name}_id: {refused[0]}"


def test_an_orchestrator_outlives_whatever_its_turn_raises(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, stop = MemoryStore(2), threading.Event()
    held: list[int] = []
    free: list[bool] = []
    turn = Engine._turn

    def failing(owner: Owner, **_: Any) -> int:
        held.append(len(owner._leases.tokens))
        if len(held) == 3:
            stop.set()
        raise OverflowError("nobody foresaw this")

    def looked_at(engine: Engine, event: threading.Event) -> None:
        if held:  # The turn before has failed: another orchestrator could have them.
            free.append(all(store.grant_lease(p, "another", "x", ttl_ms=9_000) for p in range(2)))
            for partition in range(2):
                store.release_lease(partition, "x")
        turn(engine, event)

    monkeypatch.setattr(Owner, "cycle", failing)
    monkeypatch.setattr(Engine, "_turn", looked_at)
    engine = Engine(
        store=store,
        registry={},
        dispatcher=FakeDispatcher(),
        blobs=MemoryBlobs(),
        local=HandLocal(),
    )
    engine.run(stop)
    assert held == [2, 2, 2]
    assert free == [True, True]
    assert "this turn failed" in caplog.text
