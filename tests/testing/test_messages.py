"""Updates, reseeds and runs that go on, in a test's own engine."""

import pytest
from celery import Celery

from orchestrator import Orchestrator, workflow
from orchestrator.testing import WorkflowEnvironment

app = Celery("messages", broker="redis://127.0.0.1:1/0", set_as_current=False)
orc = Orchestrator(app)


@orc.workflow
async def counter(total: int = 0) -> int:
    """Count what it is told by updates, and go on as new after every third."""
    told: list[int] = []

    @workflow.on_update("add")
    async def add(amount: int) -> int:
        await workflow.sleep(3600)
        told.append(amount)
        return total + sum(told)

    await workflow.wait_condition(lambda: len(told) == 3 or total >= 60)
    if total >= 60:
        return total
    workflow.continue_as_new(total + sum(told))


@orc.workflow(signals={"go": None})
async def walk() -> list[float]:
    """Draw twice, with a wait in between."""
    rng = workflow.rng("walk")
    drawn = [float(rng.random())]
    await workflow.signal("go")
    return [*drawn, float(rng.random())]


def test_a_reseed_repeats_what_a_test_has_seen() -> None:
    pytest.importorskip("numpy", reason="numpy is not installed")
    seen = []
    seeds: list[int | str] = [7, 7, "8"]
    with WorkflowEnvironment(orc, replay_every_turn=True) as env:
        for number, seed in enumerate(seeds):
            handle = env.start(walk, id=f"walk-{number}")
            handle.reseed(seed)
            handle.signal("go")
            seen.append(handle.result()[1])
    assert seen[0] == seen[1] != seen[2]


def test_updates_are_answered_and_runs_go_on_under_the_tests_clock() -> None:
    with WorkflowEnvironment(orc) as env:
        handle = env.start(counter, id="counter-1")
        assert [handle.update("add", 10) for _ in range(3)] == [10, 20, 30]
        later = orc.run("counter-1")
        assert [later.update("add", 10) for _ in range(3)] == [40, 50, 60]
        assert handle.result() == 60
        assert later.describe().run == 3
