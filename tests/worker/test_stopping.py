"""Promise: a step that can save its work learns in time that its worker is to stop."""

import os
import signal

import pytest

from orchestrator import step
from tests.acceptance.child import END_S_MAX
from tests.worker.bench import Bench
from tests.worker.test_pools import POOLS


def pid_of(note: str) -> int:
    """Return the pid at the end of a note."""
    return int(note.rpartition(" ")[2])


@pytest.mark.parametrize("pool", [("-c", "1"), *POOLS], ids=" ".join)
def test_a_stopped_worker_lets_its_step_hand_over(bench: Bench, pool: tuple[str, ...]) -> None:
    with bench.worker(*pool) as process:
        key = bench.send("hands_over", 60)
        bench.next_note()
        process.send_signal(signal.SIGTERM)
        assert bench.outcome(key)["result"] == "handed over"
        assert process.wait(timeout=END_S_MAX) == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGQUIT"])
def test_a_signal_to_the_process_of_a_step_lets_it_hand_over(bench: Bench, name: str) -> None:
    with bench.worker("-c", "1"):
        key = bench.send("hands_over", 60)
        os.kill(pid_of(bench.next_note()), getattr(signal, name))
        assert bench.outcome(key)["result"] == "handed over"
        # What it did for one step it does not keep for the next.
        second = bench.send("hands_over", 0.1, step=2)
        assert bench.outcome(second)["result"] == "ran out"


def test_outside_of_a_step_nothing_stops_and_no_signal_is_caught() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with step.handing_over():
        assert signal.getsignal(signal.SIGTERM) is before
        assert not step.is_stopping()
