"""Promise: a reset happens once and whole, whoever is killed meanwhile (P1, P2).

Runs are reset by a batch that is sent twice, from one process, while the orchestrators that carry
it out are killed one after another.
"""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.core import events as e
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

RUNS = 24
KILLS = 3


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("resets")) as stack:
        yield stack


def reset_so_far(stack: Stack, least: int) -> bool:
    return stack.orc.count("ExecutionStatus = 'terminated'") >= least


@pytest.mark.long
def test_runs_reset_while_orchestrators_are_killed_go_on_once_each(stack: Stack) -> None:
    stack.ready_worker()
    crew = [stack.orchestrator(), stack.orchestrator()]
    stack.wait_for_owners(*crew)
    handles = [stack.start("changing", id=f"reset-{number}") for number in range(RUNS)]
    for handle in handles:
        stack.wait_for_event(handle, e.StepCompleted)

    def reset() -> None:
        for _ in range(2):
            report = stack.orc.batch("WorkflowType = 'changing'", id="b", rps=20).reset(3)
            assert report, report.failed

    with ThreadPoolExecutor(1) as threads:
        resetting = threads.submit(reset)
        for kills in range(1, KILLS + 1):
            done = RUNS * kills // (KILLS + 1)
            eventually(functools.partial(reset_so_far, stack, done), f"{done} runs are reset")
            crew.pop(0).kill()
            crew.append(stack.orchestrator())
        resetting.result(timeout=60)
    for handle in handles:
        stack.orc.run(handle.id).signal("go")
    for handle in handles:
        again = stack.orc.run(handle.id)
        again.result(timeout=40)
        assert again.describe().run == 2
        assert len(events_of(again, e.HistoryCopied)) == 1
        assert [one.type for one in handle.history()][-1] == "RunReset"
        stack.check_history(handle)
        stack.check_history(stack.orc.run(handle.id, 2))
        # What was kept was not done again, and what followed was done once, under a key of its own.
        assert [key for key, _ in stack.effects(f"{handle.id}.changing")] == [f"{handle.id}.1.1"]
        assert [key for key, _ in stack.effects(f"{handle.id}.last")] == [f"{handle.id}.2.2"]
