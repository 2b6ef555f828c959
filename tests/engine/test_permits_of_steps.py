"""Steps that wait for a permit or for a slot: how many are under way, and when they go."""

import re
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal

import pytest

from orchestrator import Rate, workflow
from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.store.ports import ClaimAnswer, Kind
from tests.architecture.tree import ROOT
from tests.engine.test_crashes import Faulty
from tests.engine.world import QUEUE, Node, World

SECOND = timedelta(seconds=1)


async def train(limit: int = 2) -> str:
    trained: str = await workflow.step("fit", concurrency_key="gpu", concurrency_limit=limit)
    return trained


async def mail() -> float:
    await workflow.step("send", rate_limit=Rate("mail", 2, per=SECOND))
    return workflow.time()


def steps_world() -> World:
    world = World(train, mail, patient)
    world.tasks.update(fit=lambda: "fitted", send=lambda: None)
    return world


def ordered_at(world: World, id: str) -> Iterator[int]:
    for event in world.events(id):
        if isinstance(event, e.StepScheduled):
            yield event.at_ms


def test_no_more_steps_are_on_their_way_than_the_limit_says() -> None:
    world = steps_world()
    for number in range(6):
        world.start("train", id=f"w{number}")
    done = 0
    while done < 6:
        world.turn()
        assert len(world.store.queues[QUEUE]) == min(2, 6 - done)
        message = world.pop()
        assert message is not None
        assert world.claim(message) is ClaimAnswer.GRANTED
        world.finish(message, world.run_body(message))
        done += 1
    world.settle()
    assert {world.status(f"w{number}") for number in range(6)} == {"completed"}
    assert not world.store.read_permits("gpu").holders


async def patient(cancellation: Literal["try", "wait"]) -> None:
    await workflow.step("fit", concurrency_key="gpu", cancellation=cancellation)


@pytest.mark.parametrize(("cancellation", "holder"), [("wait", "a"), ("try", "b")])
def test_a_permit_stays_while_the_run_waits_for_its_step_to_stop_and_goes_with_its_end(
    cancellation: str, holder: str
) -> None:
    world = steps_world()
    world.start("patient", cancellation, id="a")
    world.turn()
    message = world.pop()
    assert message is not None
    world.claim(message)
    world.start("train", 1, id="b")
    world.post(Kind.CANCEL, {"reason": "enough", "request_id": "r"}, id="a")
    world.turn()
    holders = world.store.read_permits("gpu").holders
    assert [each.holder.workflow_id for each in holders] == [holder]
    failure = Failure(type="Stopped", message="it let go")
    world.finish(message, {"kind": "cancelled", "failure": failure.as_json()})
    world.settle()
    assert (world.status("a"), world.status("b")) == ("cancelled", "completed")


def test_a_rate_spreads_the_steps_of_many_runs() -> None:
    world = steps_world()
    ids = [f"m{number}" for number in range(7)]
    for id in ids:
        world.start("mail", id=id)
        world.settle()
    for _ in range(100):
        world.settle()
        world.advance(100)
    went = [at_ms for id in ids for at_ms in ordered_at(world, id)]
    assert went == sorted(went), "first come, first served"
    assert len(went) == 7
    for earlier, later in pairwise(went[::2]):
        assert later - earlier >= 1_000
    for at, third in zip(went, went[2:], strict=False):
        assert third - at >= 1_000
    assert went[-1] - went[0] <= 3_400, "and no slower than it must"


CALLS = ["commit", "post", "take_slot", "read_letters", "ack_letters", "take_inbox"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("restarts", [False, True], ids=["goes on", "dies"])
def test_a_slot_is_given_once_whatever_call_gets_no_answer(
    call: str, *, happens: bool, restarts: bool
) -> None:
    for at in range(1, 10):
        world = steps_world()
        world.nodes = [Node(world, "one", Faulty(world.store, call, at, happens=happens))]
        for id in ("a", "b", "c"):
            world.start("mail", id=id)
        world.settle()
        if restarts:
            world.restart()
        world.settle()
        slots = sorted(at_ms for at_ms, _ in world.store.read_permits("mail").slots)
        assert slots == [slots[0], slots[0], slots[0] + 1_000], "no slot is used up twice"
        world.advance(5_000)
        world.settle()
        for id in ("a", "b", "c"):
            assert world.status(id) == "completed", (at, id)
            assert world.names(id).count("PermitGranted") == 1
            world.check_chain(id)
        world.close()


async def report() -> None:
    """Stands for a child."""


def test_the_program_of_the_document_runs() -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs/limits.md").read_text(), re.DOTALL)
    assert found is not None
    imports, _, body = found[1].partition("\n\n")
    source = f"{imports}\nasync def documented():\n{textwrap.indent(body, '    ')}"
    tasks = ("debit", "train", "send")
    names: dict[str, Any] = {**{name: name for name in tasks}, "report": "report", "mail": 1}
    exec(compile(source, "docs/limits.md", "exec"), names)
    world = World(names["documented"], report)
    for name in tasks:
        world.tasks[name] = lambda *_args, **_kwargs: None
    world.start("documented")
    world.settle()
    assert world.status() == "completed"
    keys = [one.key for one in world.events() if isinstance(one, e.PermitRequested)]
    assert keys == ["account-42", "reports", "gpu", "mail", "crawl"]
    assert [task for task, _, _ in world.ran] == list(tasks)
