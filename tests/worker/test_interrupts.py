"""Promise: an order to stop reaches the body it names, and nothing else.

The board is real; the signal is sent to this very process.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from orchestrator.core.errors import StepCancelled
from orchestrator.step import RunningStep, StepInfo
from orchestrator.worker.board import SLOTS, Board, Slot, digest_of
from orchestrator.worker.interrupts import Interrupts

INFO = StepInfo(workflow_id="order", workflow="order", run=1, step=1, attempt=1, idempotency_key="")
MINE, OTHER = digest_of("order.1.1.1"), digest_of("order.1.2.1")


class Child:
    """A child's side and the main process' side, in one process."""

    def __init__(self) -> None:
        self.board = Board()
        slot = Slot.find(3)
        assert slot is not None
        self.slot = slot
        self.interrupts = Interrupts(slot)
        self.step = RunningStep(INFO, lambda details: True)
        self.before: list[int] = []

    def signal(self, digest: bytes | None = None) -> None:
        """Do what the main process does: note the order, then send the signal."""
        if digest is not None:
            self.board.order_stop(3, digest)
        os.kill(os.getpid(), signal.SIGUSR1)


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    previous = signal.signal(signal.SIGUSR1, lambda number, _: made.before.append(number))
    yield made
    signal.signal(signal.SIGUSR1, previous)
    made.board.close()


def test_order_stops_the_body_it_names(child: Child) -> None:
    with child.interrupts.held_back():
        child.slot.enter(MINE)
        with pytest.raises(SoftTimeLimitExceeded), child.interrupts.allowed(child.step, MINE):
            child.signal(MINE)
    assert child.step.is_cancelled


def test_order_for_an_earlier_attempt_stops_nothing(child: Child) -> None:
    with child.interrupts.held_back(), child.interrupts.allowed(child.step, MINE):
        child.signal(OTHER)
    assert not child.step.is_cancelled
    assert child.slot.take_order() is None


def test_soft_time_limit_of_celery_still_reaches_the_body(child: Child) -> None:
    with (
        child.interrupts.held_back(),
        pytest.raises(SoftTimeLimitExceeded),
        child.interrupts.allowed(child.step, MINE),
    ):
        child.signal()
    assert not child.step.is_cancelled


def test_nothing_interrupts_claim_and_post(child: Child) -> None:
    with child.interrupts.held_back():
        child.signal()
        child.signal(MINE)
    assert child.before == []


def test_outside_of_steps_the_signal_does_what_it_did(child: Child) -> None:
    with child.interrupts.held_back():
        pass
    child.signal()
    assert child.before == [signal.SIGUSR1]
    child.signal(MINE)  # an order that came too late
    assert child.before == [signal.SIGUSR1]


def test_heartbeat_under_way_is_left_to_raise_by_itself(child: Child) -> None:
    def beat(details: object) -> bool:
        child.signal(MINE)
        return True

    child.step = RunningStep(INFO, beat)
    with (
        child.interrupts.held_back(),
        child.interrupts.allowed(child.step, MINE),
        pytest.raises(StepCancelled),
    ):
        child.step.heartbeat(None)


def test_coroutine_is_woken_instead_of_torn_apart(child: Child) -> None:
    woken: list[bool] = []
    child.step.on_cancel(lambda: woken.append(True))
    with child.interrupts.held_back(), child.interrupts.allowed(child.step, MINE):
        child.signal(MINE)
        child.signal(OTHER)
    assert woken == [True]


def test_board_shows_who_runs_what(child: Child) -> None:
    assert child.board.running() == {}
    child.slot.enter(MINE)
    assert child.board.running() == {os.getpid(): (3, MINE)}
    child.slot.leave()
    assert child.board.running() == {}


@pytest.mark.parametrize("index", [-1, SLOTS])
def test_child_beyond_the_board_has_no_slot(child: Child, index: int) -> None:
    assert Slot.find(index) is None


def test_board_is_removed_with_its_worker() -> None:
    board = Board()
    path = board._path
    assert path.exists()
    board.close()
    assert not path.exists()
    assert Slot.find(0) is None


def test_board_of_a_worker_that_was_killed_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    orphan = tmp_path / f"orchestrator-board-{dead.pid}-x"
    living = tmp_path / f"orchestrator-board-{os.getpid()}-x"
    orphan.touch()
    living.touch()
    Board().close()
    assert not orphan.exists()
    assert living.exists()


def test_wake_is_called_once_whoever_comes_first() -> None:
    for is_early in (True, False):
        woken: list[bool] = []
        running = RunningStep(INFO, lambda details: True)
        if is_early:
            running.on_cancel(lambda woken=woken: woken.append(True))  # type: ignore[misc]
        threads = [threading.Thread(target=running.cancel) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not is_early:
            running.on_cancel(lambda woken=woken: woken.append(True))  # type: ignore[misc]
        assert woken == [True]
