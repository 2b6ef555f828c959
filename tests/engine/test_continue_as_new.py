"""Promise: a run that continues as new loses nothing, takes nothing twice, and keeps the order."""

import asyncio
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.errors import ApplicationError, ExternalWorkflowError
from orchestrator.core.events import RunStarted, SignalReceived
from orchestrator.core.replay import replay
from orchestrator.core.values import Json, canonical
from orchestrator.engine.chains import Forwarding
from orchestrator.store.ports import InboxEntry, Kind, RunKey
from tests.engine.world import World


async def collect(taken: list[int], per_run: int = 3, until: int = 10) -> list[int]:
    """Take so many signals a run, until there are enough; carry what was taken."""
    for _ in range(per_run):
        taken.append(await workflow.signal("number"))
        if len(taken) == until:
            return taken
    workflow.continue_as_new(taken, per_run, until)


async def patient(taken: list[int], until: int = 10) -> list[int]:
    """Let signals wait for a word; then take three of them, and go on with the rest unread."""
    if not taken:
        await workflow.signal("go")
    for _ in range(3):
        taken.append(await workflow.signal("number"))
        if len(taken) == until:
            return taken
    workflow.continue_as_new(taken, until)


def start_patient() -> World:
    """Return a world in which ten signals lie there unread when the first run begins to take."""
    world = World(patient)
    world.start("patient", [])
    for number in range(10):
        world.signal("number", number)
    world.settle()
    world.signal("go")
    world.settle()
    return world


def run_number(world: World) -> int:
    return int(world.row()["run"])


def check_all(world: World, function: str = "collect") -> None:
    for run in range(1, run_number(world) + 1):
        world.check_chain("w", run)
        replayed = replay(world.registry[function], "w", run, world.events("w", run))
        assert replayed.pending == []
        replayed.execution.close()


def test_chain_of_runs_takes_every_signal_once_and_in_order() -> None:
    world = World(collect)
    world.start("collect", [])
    for number in range(10):
        world.signal("number", number)
        world.settle()
    assert world.status() == "completed"
    assert world.result() == list(range(10))
    assert run_number(world) == 4
    check_all(world)


def test_unread_signals_go_over_in_their_order() -> None:
    world = start_patient()
    assert world.result() == list(range(10))
    second = [event for event in world.events("w", 2) if isinstance(event, SignalReceived)]
    assert [event.payload for event in second] == [3, 4, 5], "the others went on, unrecorded"
    check_all(world, "patient")


def test_signals_of_several_names_keep_the_order_in_which_they_arrived() -> None:
    async def mixed(part: int = 1) -> list[str]:
        if part == 2:
            seen: list[str] = []
            workflow.on_signal("a")(lambda _: seen.append("a"))
            workflow.on_signal("b")(lambda _: seen.append("b"))
            await workflow.wait_condition(lambda: len(seen) == 5)
            return seen
        await workflow.signal("go")
        workflow.continue_as_new(2)

    world = World(mixed)
    world.start("mixed")
    for name in "abba":
        world.signal(name)
    world.signal("go")
    world.signal("b")
    world.settle()
    names = [event.signal for event in world.events("w", 2) if isinstance(event, SignalReceived)]
    assert names == list("abbab")
    assert sorted(world.result()) == sorted("abbab")  # type: ignore[arg-type, type-var]


@pytest.mark.parametrize("turns", range(1, 14))
def test_orchestrator_that_dies_at_any_turn_loses_nothing(turns: int) -> None:
    world = World(collect)
    world.start("collect", [])
    for number in range(10):
        world.signal("number", number)
        for _ in range(turns % 4):
            world.node.try_turn()
        if number % turns == 0:
            world.restart()
    world.settle()
    assert world.result() == list(range(10))
    check_all(world)


def test_mail_that_names_an_earlier_run_of_the_chain_reaches_the_one_that_goes_on() -> None:
    world = World(collect)
    world.start("collect", [])
    for number in range(4):
        world.signal("number", number)
    world.settle()
    assert run_number(world) == 2
    body: dict[str, Any] = {"signal": "number", "signal_id": "named", "payload": 4}
    assert world.store.post("w", Kind.SIGNAL, body, run=1).run == 2
    world.settle()
    assert [event.payload for event in world.events("w", 2) if isinstance(event, SignalReceived)]
    world.store.post("w", Kind.CANCEL, {"reason": "enough", "request_id": "c"}, run=1)
    world.settle()
    assert world.status() == "cancelled"


@pytest.mark.parametrize("restarts", [False, True])
def test_mail_of_a_chain_that_is_over_is_turned_away_when_another_has_its_id(
    *, restarts: bool
) -> None:
    async def brief(part: int = 1) -> int:
        if part == 2:
            return part
        await workflow.signal("go")
        workflow.continue_as_new(2)

    world = World(brief)
    world.start("brief")
    world.signal("go")
    world.settle()
    assert (world.status(), run_number(world)) == ("completed", 2)
    world.start("brief")
    world.settle()
    # What an owner could not settle before it died, under the number of the first chain.
    body: Json = {"signal": "go", "signal_id": "old", "payload": 1}
    world.store._of("w").post(Kind.SIGNAL, "w", 1, canonical(body))
    if restarts:
        world.restart()
    world.settle()
    assert (world.status(), run_number(world)) == ("running", 3)
    assert [each["signal_id"] for each in world.store.rejected] == ["old"]
    assert not world.store._of("w").inbox


def test_who_waits_for_the_end_of_a_chain_that_is_over_is_told_that_it_is() -> None:
    async def brief(part: int = 1) -> int:
        if part == 1:
            workflow.continue_as_new(2)
        return part

    async def waiting() -> str:
        try:
            await workflow.external("w").result()
        except ExternalWorkflowError as error:
            return str(error.status)
        return "none"

    world = World(brief, waiting)
    for _ in range(2):
        world.start("brief")
        world.settle()
    world.start("waiting", id="asker")
    world.node.try_turn()
    asker: Json = {"asker": {"workflow": "asker", "run": 1, "external": 1}}
    world.store._of("w").post(Kind.WATCH, "w", 1, canonical(asker))
    world.settle()
    assert not world.store._of("w").inbox


@pytest.mark.parametrize(
    ("kind", "status"), [(Kind.CANCEL, "cancelled"), (Kind.TERMINATE, "terminated")]
)
def test_who_stops_a_run_that_undoes_before_it_goes_on_stops_the_next_one(
    kind: Kind, status: str
) -> None:
    async def undoing() -> None:
        async with workflow.saga() as saga:
            await saga.step("reserve", undo="release")
            raise ApplicationError("no", "Busy")

    async def going(part: int = 1) -> None:
        if part == 2:
            await workflow.signal("never")
        aside = asyncio.create_task(undoing())
        await workflow.signal("go")
        aside.add_done_callback(lambda task: task.cancelled() or task.exception())
        workflow.continue_as_new(2)

    world = World(going)
    world.tasks.update(reserve=lambda: 1, release=lambda: 2)
    world.start("going")
    world.node.try_turn()
    while "CompensationStarted" not in world.names():
        world.work()
        world.node.try_turn()
    world.signal("go")
    world.node.try_turn()
    assert run_number(world) == 1, "it undoes first"
    world.post(kind, {"reason": "enough", "request_id": "c"})
    world.settle()
    assert (world.status(), run_number(world)) == (status, 2)


def test_mail_read_after_the_end_of_its_run_goes_on_to_the_next_under_another_owner() -> None:
    world = World(collect)
    world.start("collect", [])
    world.settle()
    for number in range(3):
        world.signal("number", number)
    world.turn()
    # What the store had stamped with run 1 before run 2 was there.
    partition = world.store._of("w")
    for number in range(3, 10):
        body: Json = {"signal": "number", "signal_id": f"late-{number}", "payload": number}
        partition.post(Kind.SIGNAL, "w", 1, canonical(body))
    world.restart()
    world.settle()
    assert world.result() == list(range(10))


def test_signal_that_is_sent_again_is_known_in_a_later_run() -> None:
    world = World(collect)
    world.start("collect", [])
    for number in range(4):
        world.signal("number", number, signal_id=f"id-{number}")
    world.settle()
    world.signal("number", 0, signal_id="id-0")
    world.signal("number", 3, signal_id="id-3")
    for number in range(4, 10):
        world.signal("number", number)
    world.settle()
    assert world.result() == list(range(10))


def test_history_names_its_chain() -> None:
    async def told(depth: int) -> list[object]:
        info = workflow.info()
        if depth:
            workflow.continue_as_new(depth - 1)
        return [info.run, info.first_run, info.continued_from]

    world = World(told)
    world.start("told", 2)
    world.settle()
    assert world.result() == [3, 1, 2]
    (started,) = [event for event in world.events("w", 3) if isinstance(event, RunStarted)]
    assert (started.continued_from, started.first_run) == (2, 1)
    assert world.names("w", 1) == ["RunStarted", "RunContinuedAsNew"]


def test_another_workflow_can_go_on() -> None:
    async def before(number: int) -> None:
        workflow.continue_as_new(number + 1, workflow="after")

    async def after(number: int) -> int:
        return number

    world = World(before, after)
    world.start("before", 1)
    world.settle()
    assert world.result() == 2
    assert world.row()["type"] == "after"


def test_handler_may_continue_the_run() -> None:
    async def handling(total: int = 0) -> int:
        @workflow.on_signal("add")
        def add(amount: int) -> None:
            workflow.continue_as_new(total + amount)

        await workflow.wait_condition(lambda: total >= 3)
        return total

    world = World(handling)
    world.start("handling")
    for _ in range(3):
        world.signal("add", 1)
    world.settle()
    assert world.result() == 3
    assert run_number(world) == 4


def test_parent_is_told_of_the_end_of_the_whole_chain() -> None:
    async def parent() -> object:
        return await workflow.child("count", 3)

    async def count(left: int) -> str:
        if left:
            workflow.continue_as_new(left - 1)
        return f"ended in run {workflow.info().run}"

    world = World(parent, count)
    world.start("parent")
    world.settle()
    assert world.result() == "ended in run 4"


def test_what_is_outstanding_ends_with_its_run() -> None:
    async def leaving(part: int = 1) -> str:
        if part == 2:
            return "ended"
        task = asyncio.ensure_future(workflow.step("slow"))
        timer = asyncio.ensure_future(workflow.sleep(1000))
        await workflow.signal("go")
        assert not task.done()
        assert not timer.done()
        workflow.continue_as_new(2)

    world = World(leaving)
    world.start("leaving")
    world.turn()
    world.signal("go")
    world.turn()
    assert world.result() == "ended"
    _, due = world.store.sweep(list(range(4)), count=10)
    assert all(not each.timers and each.next_due_ms is None for each in due.values())


def test_user_code_cannot_swallow_it() -> None:
    async def swallowing(part: int = 1) -> str:
        if part == 2:
            return "went on"
        try:
            workflow.continue_as_new(2)
        except Exception:
            return "swallowed"

    world = World(swallowing)
    world.start("swallowing")
    world.settle()
    assert world.result() == "went on"


def test_open_saga_is_no_place_to_continue() -> None:
    async def half_done() -> None:
        async with workflow.saga() as saga:
            await saga.step("reserve", undo="release")
            workflow.continue_as_new()

    world = World(half_done)
    world.task(lambda: None).__name__ = "reserve"
    world.tasks["reserve"] = lambda: None
    world.start("half_done")
    world.settle()
    assert world.status() == "blocked"
    assert "inside an open saga" in world.row()["blocked"]


def test_advice_to_continue_depends_on_the_history_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.core.context.HISTORY_EVENTS_SUGGESTED", 12)

    async def advised(count: int = 0) -> list[int]:
        lengths: list[int] = []
        while not workflow.info().is_continue_as_new_suggested:
            lengths.append(workflow.info().history_length)
            await workflow.signal("go")
        return lengths

    world = World(advised)
    world.start("advised")
    for _ in range(12):
        world.signal("go")
        world.settle()
        world.restart()
    assert world.status() == "completed", world.row()
    lengths = world.result()
    assert lengths == list(range(1, 12))
    check_all(world, "advised")


def test_more_than_a_start_can_carry_parks_the_run_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hasty(part: int = 1) -> list[int]:
        if part == 1:
            await workflow.signal("go")
            workflow.continue_as_new(2)
        return [await workflow.signal("number") for _ in range(10)]

    async def mended(part: int = 1) -> list[int]:
        await workflow.signal("go")
        return [await workflow.signal("number") for _ in range(10)]

    mended.__name__ = "hasty"
    monkeypatch.setattr("orchestrator.engine.chains.CARRIED_BYTES_MAX", 300)
    world = World(hasty)
    world.start("hasty")
    for number in range(10):
        world.signal("number", number)
    world.signal("go")
    world.settle()
    assert world.status() == "blocked"
    assert "10 signals that nobody has taken" in world.row()["blocked"]
    world.deploy(mended)
    world.restart()
    world.settle()
    assert world.result() == list(range(10))


def test_end_of_an_older_chain_does_not_join_it_to_the_one_that_has_its_id_now() -> None:
    forwarding = Forwarding()
    assert forwarding.learn("w", {"run": "5", "first": "4"}) == 5
    old = RunKey(workflow_id="w", run=1)
    forwarding.note(old)
    entry = InboxEntry(id="1-0", kind=Kind.SIGNAL, workflow_id="w", run=1, body={})
    assert forwarding.is_over(old)
    assert (forwarding.run_of(entry, 1), forwarding.run_of(entry, 4)) == (1, 5)
