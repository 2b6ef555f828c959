"""Promise: steps that end by their token, and steps that are paused, do so in a test as outside."""

from collections.abc import Iterator

import pytest
from celery import Celery

from orchestrator import Orchestrator, Retry, step, workflow
from orchestrator.core.errors import WorkflowStuck
from orchestrator.testing import WorkflowEnvironment

app = Celery("asked", broker="memory://", set_as_current=False)
orc = Orchestrator(app)
TOKENS: list[str] = []


@app.task
def ask() -> None:
    info = step.current()
    assert info is not None
    TOKENS.append(info.token)
    raise step.complete_later()


@orc.workflow
async def asking() -> str:
    answer: str = await workflow.step(ask, retry=Retry(attempts=2))
    return answer


@pytest.fixture
def env() -> Iterator[WorkflowEnvironment]:
    TOKENS.clear()
    with WorkflowEnvironment(orc) as env:
        yield env


def test_step_waits_for_its_token(env: WorkflowEnvironment) -> None:
    handle = env.start(asking, id="w")
    with pytest.raises(WorkflowStuck, match="attempt 1"):
        handle.result()
    orc.step(TOKENS[0]).complete("yes")
    assert handle.result() == "yes"
    assert len(TOKENS) == 1


def test_paused_step_waits_for_whoever_lets_it_go_on(env: WorkflowEnvironment) -> None:
    handle = env.start(asking, id="w")
    with pytest.raises(WorkflowStuck):
        handle.result()
    handle.step(1).pause(reason="closed", by="ana")
    orc.step(TOKENS[0]).fail(ValueError("no"))
    with pytest.raises(WorkflowStuck, match=r"paused; let it go on with handle\.step\(1\)"):
        handle.result()
    handle.step(1).unpause()
    with pytest.raises(WorkflowStuck, match="attempt 2"):
        handle.result()
    orc.step(TOKENS[1]).complete("yes")
    assert handle.result() == "yes"
