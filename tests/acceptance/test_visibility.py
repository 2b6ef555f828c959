"""Promise: runs are found by what their business calls them, and told in one go."""

import json
from pathlib import Path

import pytest

from orchestrator.core import events as e
from tests.acceptance.stack import Stack


@pytest.mark.long
def test_runs_are_found_by_filter_and_ended_in_a_batch_whoever_dies(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        first = stack.orchestrator()
        stepwise = stack.orc.get_workflow("stepwise")
        for n in range(6):
            bound = stepwise.options(
                search_attributes={"customer": "ana" if n % 2 else "bo", "total": n},
                memo={"note": f"no {n}"},
            )
            bound.start(f"run-{n}", id=f"run-{n}")
        for n in range(6):
            stack.wait_for_event(stack.orc.run(f"run-{n}"), e.RunStarted)
        wanted = "customer = 'ana' AND total BETWEEN 1 AND 3"
        counted = stack.command("count", "--filter", wanted)
        assert counted.stdout == "2\n", counted.stderr
        first.kill()
        words = ("batch", "terminate", "--filter", wanted, "--batch-id", "b1")
        looked = stack.command(*words, "--dry-run")
        assert looked.stdout.startswith("2 open runs match"), looked.stderr
        # Nobody drives the runs: what the batch says waits in their inboxes, twice.
        for _ in range(2):
            done = stack.command(*words, "--yes", "--reason", "account closed")
            assert done.stdout == "batch b1: 2 matched, 2 done, 0 failed\n", done.stderr
        stack.orchestrator()
        for name in ("run-1", "run-3"):
            handle = stack.orc.run(name)
            assert stack.wait_for_end(handle) == "terminated"
            history = stack.check_history(handle)
            assert sum(isinstance(event, e.TerminateRequested) for event in history) == 1
        listed = stack.command("list", "--filter", "ExecutionStatus = 'terminated'", "--json")
        found = json.loads(listed.stdout)
        assert [run["workflow_id"] for run in found] == ["run-3", "run-1"], listed.stderr
        assert [run["memo"] for run in found] == [{"note": "no 3"}, {"note": "no 1"}]
        again = stack.command("reindex")
        assert again.stdout == "6 runs indexed anew\n", again.stderr
        groups = stack.command("count", "--group-by", "status", "--json")
        assert json.loads(groups.stdout) == {
            "count": 6,
            "groups": {"running": 4, "terminated": 2},
        }
