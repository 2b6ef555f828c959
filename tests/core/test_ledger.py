"""The ledger: what follows from a history, and nothing else."""

from orchestrator.core.events import RunBlocked, RunStarted, RunUnblocked, TimerStarted
from orchestrator.core.ledger import Ledger


def test_commands_that_a_blocked_run_owed_do_not_set_its_clock_back() -> None:
    ledger = Ledger()
    ledger.apply(RunStarted(at_ms=1_000, workflow="flow", seed="c0ffee"))
    ledger.apply(RunBlocked(at_ms=1_000, kind="bug", message="oops"))
    ledger.apply(RunUnblocked(at_ms=9_000))
    ledger.apply(TimerStarted(at_ms=1_000, timer=1, duration_ms=500, due_at_ms=1_500))
    assert ledger.at_ms == 9_000
