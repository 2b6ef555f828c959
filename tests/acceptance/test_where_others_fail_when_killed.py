"""Promise: whatever a run is at when its worker, its orchestrator or both are killed, it goes on.

Elsewhere only what the first message started is taken up again.  The table of these faults stands
in tests/engine/test_where_others_fail.py.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import RunHandle
from orchestrator.core import events as e
from tests.acceptance.child import Child
from tests.acceptance.elsewhere_app import NAP_MS, REST_MS, SITUATIONS
from tests.acceptance.elsewhere_stack import ElsewhereStack
from tests.acceptance.stack import PARTITIONS, Stack, events_of
from tests.acceptance.waiting import eventually

pytestmark = pytest.mark.long

#: Children enough for all situations whose bodies hold at a time.
_CHILDREN = ("-c", "6")
SLEEPERS = 100
#: What a body does that is in a worker's hands: it holds until its gate opens.
HELD = ("first_step", "after_sleep", "after_signal", "undo", "coroutine")
#: Work that outlives a worker, since it is in nobody's hands, or in the orchestrator's.
WITHOUT_WORKER = ("local", "backoff", "asleep")

Runs = dict[str, RunHandle[Any]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElsewhereStack]:
    with ElsewhereStack(tmp_path_factory.mktemp("killed"), fsync="always") as stack:
        yield stack


@pytest.fixture(scope="module")
def workers(stack: ElsewhereStack) -> dict[str, Child]:
    """A worker for each queue."""
    return {queue: stack.worker(*_CHILDREN, queue=queue) for queue in ("one", "two", "three")}


@pytest.fixture(scope="module")
def crew(stack: ElsewhereStack) -> list[Child]:
    """The orchestrator that runs now; the last one."""
    return [stack.orchestrator()]


def body_of(run: RunHandle[Any], situation: str) -> str:
    """Return the name under which the body notes itself that is under way in a situation."""
    return f"{run.id}.undone" if situation == "undo" else run.id


def bring_into_situations(stack: Stack, queue: str) -> Runs:
    """Start a run for each situation, and return when all of them are in it."""
    runs = {each: stack.start("situated", each, queue, id=f"{queue}-{each}") for each in SITUATIONS}
    runs["after_signal"].signal("go")
    for situation in (*HELD, "local"):
        stack.wait_for_body(body_of(runs[situation], situation))
    stack.wait_for_event(runs["backoff"], e.StepAttemptFailed)
    stack.wait_for_event(runs["asleep"], e.TimerStarted)
    return runs


def let_go(stack: Stack, runs: Runs) -> None:
    """Open every gate at which a first attempt holds, and those of it that were taken for dead."""
    for situation in (*HELD, "local"):
        stack.open_gate(body_of(runs[situation], situation))


def check_goes_on(stack: Stack, runs: Runs, *, attempted_again: set[str]) -> None:
    """Check that every run ends, with one attempt lost where one was, and one effect."""
    for situation, run in runs.items():
        assert run.result(timeout=40) == situation
        events = stack.check_history(run)
        lost = [x for x in events if isinstance(x, e.StepAttemptFailed) and x.kind == "lost"]
        assert len(lost) == (situation in attempted_again), situation
        if situation == "asleep":
            continue
        name = body_of(run, situation)
        attempts = [1, 2] if situation in attempted_again or situation == "backoff" else [1]
        assert [attempt for _, attempt, _ in stack.begun(name)] == attempts, situation
        assert len(stack.effects(name)) == 1, situation
    check_waits(stack, runs)


def check_waits(stack: Stack, runs: Runs) -> None:
    """Check that nothing that was waited for came early, for all the deaths meanwhile."""
    (slept,) = events_of(runs["asleep"], e.TimerStarted)
    (woke,) = events_of(runs["asleep"], e.TimerFired)
    assert woke.at_ms - slept.at_ms >= NAP_MS
    (failed,) = events_of(runs["backoff"], e.StepAttemptFailed)
    (again,) = events_of(runs["backoff"], e.StepRetried)
    assert again.at_ms - failed.at_ms >= REST_MS


def test_every_kind_of_work_survives_its_worker(
    stack: ElsewhereStack, workers: dict[str, Child], crew: list[Child]
) -> None:
    runs = bring_into_situations(stack, "one")
    workers["one"].kill()
    stack.worker(*_CHILDREN, queue="one")
    # In the orchestrator's own hands, and so not lost with the worker.
    stack.open_gate(runs["local"].id)
    check_goes_on(stack, runs, attempted_again=set(HELD))


@pytest.fixture(scope="module")
def both(stack: ElsewhereStack, workers: dict[str, Child], crew: list[Child]) -> dict[str, Runs]:
    """Runs whose orchestrator was killed; those of queue "three" lost their worker as well."""
    runs = {queue: bring_into_situations(stack, queue) for queue in ("two", "three")}
    crew[-1].kill()
    workers["three"].kill()
    crew.append(stack.orchestrator())
    stack.worker(*_CHILDREN, queue="three")
    # The bodies that live end while nobody is there to hear of it.
    let_go(stack, runs["two"])
    return runs


def test_every_kind_of_work_survives_its_orchestrator(
    stack: ElsewhereStack, both: dict[str, Runs]
) -> None:
    check_goes_on(stack, both["two"], attempted_again={"local"})


def test_every_kind_of_work_survives_both(stack: ElsewhereStack, both: dict[str, Runs]) -> None:
    check_goes_on(stack, both["three"], attempted_again={*HELD, "local"})


def test_sleepers_are_held_by_nobody_and_survive_everything(
    stack: ElsewhereStack, workers: dict[str, Child], both: dict[str, Runs], crew: list[Child]
) -> None:
    before = messages(stack)
    sleepers = [
        stack.start("naps", [NAP_MS, NAP_MS // 2], [1], id=f"sleeper-{number}")
        for number in range(SLEEPERS)
    ]
    eventually(lambda: timers(stack) >= 2 * SLEEPERS, "all of them sleep")
    assert messages(stack) == before == 0, "a sleep is no message, with the broker or a worker"
    # The orchestrator, every worker that is left, and the server.
    for child in stack.children:
        if child.is_running:
            child.kill()
    stack.server.kill()
    stack.server.start()
    crew.append(stack.orchestrator())
    for sleeper in sleepers:
        assert sleeper.result(timeout=40) == 3
        started = {x.timer: x for x in events_of(sleeper, e.TimerStarted)}  # type: ignore[attr-defined]
        fired = events_of(sleeper, e.TimerFired)
        assert [x.timer for x in fired] == [2, 1, 3]  # type: ignore[attr-defined]
        for each in fired:
            timer = started[each.timer]  # type: ignore[attr-defined]
            assert each.at_ms - timer.at_ms >= timer.duration_ms  # type: ignore[attr-defined]
    assert timers(stack) == 0
    stack.check_history(sleepers[0])


def messages(stack: Stack) -> int:
    """Return how many messages lie with the broker, or unacknowledged with a worker."""
    queued = sum(stack.redis.llen(queue) for queue in ("celery", "one", "two", "three"))
    return int(queued) + int(stack.redis.hlen("unacked"))


def timers(stack: Stack) -> int:
    """Return how many timers are set in all partitions."""
    return sum(int(stack.redis.zcard(stack.keys.timers(p))) for p in range(PARTITIONS))
