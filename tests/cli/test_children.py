"""A program that dies is started again; one that keeps dying is given up, and says so (K2)."""

import sys

import pytest

from orchestrator.cli import children
from orchestrator.cli.children import DEATHS_MAX, Child


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "RESTART_PAUSE_S", 0)


def test_program_that_dies_at_once_is_given_up_after_its_deaths(
    capfd: pytest.CaptureFixture[str],
) -> None:
    child = Child("worker", "green", [sys.executable, "-c", "print('hello'); raise SystemExit(4)"])
    child.start()
    while child.watch():
        pass
    lines = capfd.readouterr().out.splitlines()
    assert lines.count("      worker | hello") == DEATHS_MAX
    assert lines.count("      worker | ended with 4; it starts again in 0 s") == DEATHS_MAX - 1
    assert lines[-1] == f"      worker | ended with 4, {DEATHS_MAX} times in a row: given up"
    child.stop()


def test_program_that_had_started_well_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "STARTED_WELL_S", 0)
    starts = 0
    child = Child("worker", "green", [sys.executable, "-c", ""])
    real_start = child.start

    def counted_start() -> None:
        nonlocal starts
        starts += 1
        real_start()

    monkeypatch.setattr(child, "start", counted_start)
    child.start()
    while starts <= DEATHS_MAX:
        assert child.watch()
    child.stop()


def test_last_lines_of_a_program_are_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import signal, sys, threading;"
        "signal.signal(signal.SIGTERM, lambda *a: (print('bye'), sys.exit()));"
        "print('ready', flush=True); threading.Event().wait()"
    )
    child = Child("worker", "green", [sys.executable, "-c", code])
    child.start()
    while "ready" not in capfd.readouterr().out:
        assert child.watch()
    child.stop()
    assert "worker | bye" in capfd.readouterr().out
