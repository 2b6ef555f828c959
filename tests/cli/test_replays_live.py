"""Histories of a real server leave it whole, and replay with and without it."""

import json
import signal
from pathlib import Path

import pytest

from orchestrator import read_history_file
from tests.cli.stack import CELERY, needs_entry_points, run, running
from tests.servers import valkey_server, valkey_url

__all__ = ["valkey_server", "valkey_url"]

pytestmark = [pytest.mark.redis, pytest.mark.slow]

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _installed() -> None:
    needs_entry_points()


@pytest.mark.long
def test_open_and_closed_runs_are_exported_and_replayed(valkey_url: str, tmp_path: Path) -> None:
    def typed(*words: str, broker: str = valkey_url) -> str:
        done = run("workflow", *words, broker=broker, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with running([*CELERY, "orchestrator"], broker=valkey_url, cwd=tmp_path) as orchestrator:
        orchestrator.wait_for("owns 16 partitions")
        for id in ("open-1", "open-2", "closed"):
            typed("start", "waiting", "--id", id)
        typed("signal", "closed", "go", "42")
        orchestrator.wait_for(r"closed\.1 completed")
        assert "2 of 2 fit" in typed("replay", "--open")
        needs = json.loads(typed("drain", "--type", "waiting", "--json"))
        assert [(each["workflow"], each["runs"]) for each in needs["versions"]] == [("waiting", 2)]
        orchestrator.process.send_signal(signal.SIGTERM)
        orchestrator.rest()
    typed("export", "--open", "-o", "kept")
    typed("export", "closed", "-o", "kept")
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["closed.1.jsonl", "open-1.1.jsonl", "open-2.1.jsonl"]
    found = read_history_file(tmp_path / "kept" / "closed.1.jsonl")
    assert (found.header.status, found.header.workflow) == ("completed", "waiting")
    assert "closed" in typed("replay", "closed")
    assert "3 of 3 fit" in typed("replay", "kept", "--jobs", "2", broker=NOBODY)
