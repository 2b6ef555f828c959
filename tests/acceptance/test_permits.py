"""Promise: one at a time is one at a time, and everybody has his turn, whoever is killed (P1, P5).

What bodies did is told by a file of their own, not by the orchestrator.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import RunHandle
from orchestrator.core import events as e
from tests.acceptance import app as tested
from tests.acceptance.child import Child
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.waiting import eventually

KEY = "account-42"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("permits")) as stack:
        yield stack


@pytest.fixture(scope="module")
def orchestrators(stack: Stack) -> list[Child]:
    crew = [stack.orchestrator(), stack.orchestrator()]
    stack.wait_for_owners(*crew)
    return crew


def visits(stack: Stack) -> list[tuple[str, int, str]]:
    with tested.database(str(stack.directory)) as db:
        query = "SELECT name, fence, what FROM visits WHERE key = ? ORDER BY rowid"
        return db.execute(query, (KEY,)).fetchall()


def check_one_at_a_time(found: list[tuple[str, int, str]]) -> None:
    """Check that nobody came in while somebody else was, and that fences never fell."""
    inside = ""
    for name, _, what in found:
        assert inside in ("", name), f"{name} {what} while {inside} is in"
        inside = name if what == "in" else ""
    assert inside == ""
    fences = [fence for _, fence, _ in found]
    assert fences == sorted(fences)


def place_of(stack: Stack, name: str) -> str:
    """Return "holds", "waits" or "" for a run, as an operator is told."""
    said = stack.command("permits", KEY, "--json")
    state: dict[str, Any] = json.loads(said.stdout)
    for place, listed in (("holds", "holders"), ("waits", "waiters")):
        if name in [each["workflow_id"] for each in state[listed]]:
            return place
    return ""


@pytest.mark.long
def test_permits_outlive_a_killed_worker_and_a_killed_orchestrator(
    stack: Stack, orchestrators: list[Child]
) -> None:
    worker = stack.ready_worker("-c", "4")
    handles: dict[str, RunHandle[Any]] = {}

    def ask(name: str, *args: str) -> None:
        handles[name] = stack.start("guarded", KEY, *args, id=name)
        eventually(lambda: place_of(stack, name) != "", f"{name} is in the queue")

    ask("first", "hold")
    for number in range(6):
        ask(f"waiter-{number}")
    assert (place_of(stack, "first"), place_of(stack, "waiter-5")) == ("holds", "waits")

    stack.wait_for_body("first")
    worker.kill()
    orchestrators[0].kill()
    handles["waiter-1"].terminate("by an operator")
    handles["waiter-3"].cancel("no longer wanted")
    stack.ready_worker("-c", "4")

    ended = {name: stack.wait_for_end(handle) for name, handle in handles.items()}
    assert ended.pop("waiter-1") == "terminated"
    assert ended.pop("waiter-3") == "cancelled"
    assert set(ended.values()) == {"completed"}
    found = visits(stack)
    check_one_at_a_time(found)
    turns = [name for name, _, what in found if what == "out"]
    assert turns == ["first", "waiter-0", "waiter-2", "waiter-4", "waiter-5"]
    assert len(events_of(handles["first"], e.StepAttemptFailed, kind="lost")) == 1
    for handle in handles.values():
        stack.check_history(handle)
    assert place_of(stack, "first") == ""
    said = stack.command("permits", KEY).stdout
    assert said == f"{KEY}: nobody holds a permit, and nobody waits\n"


def test_a_rate_spreads_steps_of_many_runs_over_time(
    stack: Stack, orchestrators: list[Child]
) -> None:
    stack.ready_worker("-c", "2")
    handles = [stack.start("paced", "mail", 2, 1_000, id=f"paced-{n}") for n in range(6)]
    for handle in handles:
        assert stack.wait_for_end(handle) == "completed"
    slots = []
    for handle in handles:
        ((granted,), (ordered,)) = (
            events_of(handle, kind) for kind in (e.PermitGranted, e.StepScheduled)
        )
        assert isinstance(granted, e.PermitGranted)
        assert ordered.at_ms >= granted.go_at_ms
        slots.append(granted.go_at_ms)
        stack.check_history(handle)
    slots.sort()
    assert all(third - at >= 1_000 for at, third in zip(slots, slots[2:], strict=False))
