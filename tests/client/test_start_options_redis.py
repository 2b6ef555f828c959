"""How runs begin and how long they last: a real Valkey and a real engine."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from celery import Celery

from orchestrator import workflow
from orchestrator.app import Orchestrator
from orchestrator.core.errors import ApplicationError, DuplicateRun, WorkflowFailed
from orchestrator.core.retry import Retry
from tests.servers import valkey_server, valkey_url

__all__ = ["valkey_server", "valkey_url"]

pytestmark = pytest.mark.redis


async def till(least: int = 1) -> list[int]:
    attempt = workflow.info().attempt
    if attempt < least:
        raise ApplicationError(f"attempt {attempt}")
    taken: list[int] = []
    while len(taken) < 2:
        taken.append(await workflow.signal("add", int))
    return taken


@pytest.fixture
def orc(valkey_url: str) -> Iterator[Orchestrator]:
    app = Celery("shop", broker=valkey_url, set_as_current=False)
    orc = Orchestrator(app)
    orc.workflow(till)
    stop = threading.Event()
    thread = threading.Thread(target=orc.engine().run, args=(stop,))
    thread.start()
    yield orc
    stop.set()
    thread.join()
    orc.close()
    app.close()


def test_start_terminates_what_exists_and_the_id_is_used_up_at_last(orc: Orchestrator) -> None:
    tills = orc.get_workflow("till")
    first = tills.start(id="t")
    assert tills.options(id_conflict_policy="use_existing").start(id="t").run == 1
    assert tills.options(id_conflict_policy="terminate_existing").start(id="t").run == 2
    assert first.status() == "terminated"
    for number in (1, 2):
        orc.run("t").signal("add", number)
    assert orc.run("t").result(timeout=30) == [1, 2]
    with pytest.raises(DuplicateRun):
        tills.options(id_reuse_policy="allow_duplicate_failed_only").start(id="t")


def test_run_that_is_put_off_takes_what_came_in_its_order(orc: Orchestrator) -> None:
    later = orc.get_workflow("till").options(start_delay=timedelta(milliseconds=700))
    handle = later.start(id="later")
    for number in (1, 2):
        handle.signal("add", number)
    assert handle.result(timeout=30) == [1, 2]
    days = orc.get_workflow("till").options(start_delay=timedelta(days=9))
    handle = days.start(id="days")
    handle.signal("add", 1)
    assert handle.status() == "pending"
    orc.get_workflow("till").signal_with_start("add", 2, id="days")
    assert handle.result(timeout=30) == [1, 2]
    withdrawn = days.start(id="withdrawn")
    withdrawn.cancel("not needed")
    with pytest.raises(WorkflowFailed, match="cancelled"):
        withdrawn.result(timeout=30)
    assert withdrawn.verify()


def test_run_is_attempted_again_until_the_time_of_its_chain_is_over(orc: Orchestrator) -> None:
    eager = Retry(attempts=None, initial=timedelta(milliseconds=5))
    tried = orc.get_workflow("till").options(
        retry=eager, execution_timeout=timedelta(milliseconds=1_500)
    )
    handle = tried.start(3, id="tried")
    with pytest.raises(WorkflowFailed, match="execution_timeout was over") as caught:
        handle.result(timeout=30)
    assert caught.value.run == 3
