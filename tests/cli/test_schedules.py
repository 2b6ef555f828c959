"""What people type about schedules; a refusal is one line, and nothing is sent."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import Kind
from tests.cli.stack import CELERY, needs_entry_points, run, running
from tests.cli.test_runs import posted
from tests.servers import valkey_server, valkey_url

__all__ = ["valkey_server", "valkey_url"]

Type = Callable[..., Any]


def test_create_sends_the_whole_schedule(typed: Type, store: MemoryStore) -> None:
    words = ["schedule", "create", "nightly", "order", "--input", "120", "--cron", "0 2 * * *"]
    assert typed(*words, "--timezone", "Europe/Berlin", "--overlap", "buffer_one").code == 0
    (body,) = posted(store, Kind.START)
    name, config = body["args"]
    assert (body["workflow"], name) == ("orc-schedule", "nightly")
    assert config["action"]["args"] == [120]
    assert config["spec"]["crons"] == ["0 2 * * *"]
    assert (config["spec"]["timezone"], config["overlap"]) == ("Europe/Berlin", "buffer_one")
    assert "nightly" in typed("schedule", "list").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cron", "61 * * * *"], "five fields are wanted"),
        (["--cron", "0 2 * * *", "--timezone", "Mars/Base"], "Mars/Base"),
        (["--calendar", '{"hours": [1]}'], "is wanted"),
        ([], "without instants"),
    ],
)
def test_bad_options_are_one_line_and_send_nothing(
    typed: Type, store: MemoryStore, words: list[str], says: str
) -> None:
    refused = typed("schedule", "create", "nightly", "order", "--input", "1", *words)
    assert refused.code != 0
    assert says in refused.error
    assert posted(store, Kind.START) == []


def test_a_schedule_that_is_not_there_is_told(typed: Type) -> None:
    for command in ("show", "pause", "unpause", "trigger", "delete", "next"):
        refused = typed("schedule", command, "nobody")
        assert refused.code != 0
        assert "nobody" in refused.error


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.redis
def test_a_schedule_acts_by_the_real_clock_and_is_paused(valkey_url: str, tmp_path: Path) -> None:
    needs_entry_points()
    broker = valkey_url

    def schedule(*words: str) -> str:
        done = run("workflow", "schedule", *words, broker=broker, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with running([*CELERY, "orchestrator"], broker=broker, cwd=tmp_path) as process:
        process.wait_for(r"owns \d+ partitions")
        schedule("create", "often", "waiting", "--cron", "* * * * * *", "--overlap", "allow_all")
        for _ in range(20):
            shown = json.loads(schedule("show", "often"))
            if shown.get("actions", 0) >= 3:
                break
        assert shown["actions"] >= 3, shown
        assert all(re.fullmatch(r"often-\d{4}-.*Z", one) for one in shown["running"])
        assert len(schedule("next", "often", "--count", "4").split()) == 4
        schedule("pause", "often", "--note", "enough")
