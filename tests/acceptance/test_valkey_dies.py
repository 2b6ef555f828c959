"""Promise: as much survives as Valkey keeps (P1, P2).

Killed with all synced, nothing is lost; with its tail gone, runs go on from the older log, and
their steps repeat under the same keys.
"""

import shutil
from collections.abc import Iterator

import pytest

from orchestrator import RunHandle, RunNotFound
from orchestrator.core import events as e
from tests.acceptance.stack import Stack, events_of

STEPS = 25
PAUSE_MS = 40


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("valkey"), fsync="always") as stack:
        started = [stack.orchestrator(), stack.worker("-c", "2")]
        started[1].wait_for_log(" ready.")
        yield stack


def check_effects(stack: Stack, handle: RunHandle[int]) -> int:
    """Check that each step took effect once, under one key; return how many bodies there were."""
    bodies = 0
    for number in range(1, STEPS + 1):
        name = f"{handle.id}.{number}"
        begun = stack.begun(name)
        assert {key for key, _, _ in begun} == {f"{handle.id}.1.{number}"}
        assert len(stack.effects(name)) == 1
        bodies += len(begun)
    return bodies


def test_nothing_is_lost_when_a_synced_valkey_is_killed(stack: Stack) -> None:
    handles = [stack.start("steady", STEPS, PAUSE_MS, id=f"synced-{n}") for n in range(3)]
    held = stack.start("stepwise", "held", id="held")
    held.signal("next", {"first": "hold"})
    stack.wait_for_body("held.1")
    for steps in (5, 12):
        for handle in handles:
            stack.wait_for_steps(handle, steps)
        told = {handle.id: handle.history() for handle in handles}
        stack.server.kill()
        stack.server.start()
        for handle in handles:
            before = told[handle.id]
            assert handle.history()[: len(before)] == before, "what was read once stays"
    stack.open_gate("held.1")
    assert len(held.result(timeout=40)) == 1
    stack.check_history(held)
    for handle in handles:
        assert handle.result(timeout=40) == STEPS
        stack.check_history(handle)
        assert len(events_of(handle, e.StepCompleted)) == STEPS
        check_effects(stack, handle)


def test_worker_with_a_backlog_outlives_the_loss_of_its_broker(stack: Stack) -> None:
    """Two steps run, a third one lies in the worker, not yet acknowledged to the broker.

    Which connection is seen to be lost first decides what Celery makes of it.  Here it is the one
    for remote control, while BRPOP still waits: then giving back the message fails, and with it,
    if nobody catches that, the worker.
    """
    worker = stack.ready_worker("-c", "2", queue="backlog")
    handles = [stack.start("stepwise", f"backlog-{n}", id=f"backlog-{n}") for n in range(3)]
    for handle in handles[:2]:
        handle.signal("next", {"first": "hold", "queue": "backlog"})
        stack.wait_for_body(f"{handle.id}.1")
    handles[2].signal("next", {"queue": "backlog"})
    worker.wait_for_log("effect[backlog-2.1.1.1] received")
    worker.pause()
    stack.redis.client_kill_filter(_type="pubsub")
    stack.server.kill()
    worker.resume()
    worker.wait_for_log("Connection to broker lost")
    stack.server.start()
    for handle in handles[:2]:
        stack.open_gate(f"{handle.id}.1")
    for handle in handles:
        assert [each.attempt for each in handle.result(timeout=40)] == [1]
        stack.check_history(handle)
        assert len(stack.begun(f"{handle.id}.1")) == 1
    assert worker.is_running
    worker.kill()


def test_runs_go_on_from_an_older_log_with_the_same_keys(stack: Stack) -> None:
    handles = [stack.start("steady", STEPS, PAUSE_MS, id=f"tail-{n}") for n in range(3)]
    for handle in handles:
        stack.wait_for_steps(handle, 4)
    saved, data = stack.directory / "saved", stack.server.directory / "appendonlydir"
    shutil.copytree(data, saved)
    lost = stack.start("stepwise", "lost", id="lost")
    lost.signal("next", {})
    lost.result(timeout=30)
    for handle in handles:
        stack.wait_for_steps(handle, 12)
    stack.server.stop()
    shutil.rmtree(data)
    saved.rename(data)
    stack.server.start()
    with pytest.raises(RunNotFound):
        lost.describe()
    bodies = 0
    for handle in handles:
        assert handle.result(timeout=40) == STEPS
        stack.check_history(handle)
        bodies += check_effects(stack, handle)
    assert bodies > STEPS * len(handles), "no step was repeated: the tail was not lost"
    # A client that starts its run again under the same id repeats its effects' keys, too.
    again = stack.start("stepwise", "lost", id="lost")
    again.signal("next", {})
    again.result(timeout=30)
    assert len(stack.effects("lost.1")) == 1
    assert len(stack.begun("lost.1")) == 2
