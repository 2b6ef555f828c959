"""``orchestrator dev`` brings up everything, keeps it up, and leaves nothing behind."""

import os
import re
import select
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.cli.stack import APP, needs_entry_points, run, running
from tests.servers import valkey_server, valkey_url

__all__ = ["valkey_server", "valkey_url"]

pytestmark = [pytest.mark.redis, pytest.mark.slow]

DEV = [sys.executable, "-m", "orchestrator.cli.main", "dev", "-A", APP, "-c", "1"]
#: How long the end of a process may take to show; only a failing test waits for so long.
END_S_MAX = 60.0


@pytest.fixture(autouse=True)
def _installed() -> None:
    needs_entry_points()


@pytest.fixture
def free_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{probe.getsockname()[1]}/0"


def descendants(pid: int) -> list[int]:
    """Return the process ids below `pid`, whatever group or session they are in."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


def is_program(pid: int, word: bytes) -> bool:
    return word in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_dev_runs_a_workflow_and_ctrl_c_ends_everything(free_url: str, tmp_path: Path) -> None:
    with running(DEV, broker=free_url, cwd=tmp_path) as dev:
        dev.wait_for("embedded Valkey at redis://127.0.0.1")
        done = run(
            *("workflow", "start", "sums", "--input", "5", "--wait", "--timeout", "40"),
            broker=free_url,
            cwd=tmp_path,
        )
        assert (done.returncode, done.stdout) == (0, "10\n"), done.stderr
        watched = [os.pidfd_open(pid) for pid in descendants(dev.process.pid)]
        assert len(watched) >= 5, "the server, two leashes, and a program on each"
        dev.process.send_signal(signal.SIGINT)
        rest = dev.rest()
        assert dev.process.wait() == 0
    assert re.search(r"worker \|.*Warm shutdown", rest)
    assert re.search(r"orchestrator \|.*handed over", rest)
    assert_ended(watched)
    assert (tmp_path / ".orchestrator" / "valkey").is_dir()


def test_dev_that_is_killed_leaves_nothing_running(free_url: str, tmp_path: Path) -> None:
    with running(DEV, broker=free_url, cwd=tmp_path) as dev:
        dev.wait_for(r"worker \|.*ready")
        watched = [os.pidfd_open(pid) for pid in descendants(dev.process.pid)]
        assert len(watched) >= 5
        dev.process.kill()
        assert_ended(watched)


def test_server_that_dies_is_started_again_with_what_it_had(free_url: str, tmp_path: Path) -> None:
    with running(DEV, broker=free_url, cwd=tmp_path) as dev:
        dev.wait_for("owns 16 partitions")
        started = run(
            *("workflow", "start", "waiting", "--id", "w-1"), broker=free_url, cwd=tmp_path
        )
        assert started.returncode == 0, started.stderr
        [server] = [
            pid for pid in descendants(dev.process.pid) if is_program(pid, b"valkey-server")
        ]
        os.kill(server, signal.SIGKILL)
        dev.wait_for("the server has ended; it starts again")
        sent = run(*("workflow", "signal", "w-1", "go", "7"), broker=free_url, cwd=tmp_path)
        assert sent.returncode == 0, sent.stderr
        dev.wait_for(r"w-1\.1 completed")
        dev.process.send_signal(signal.SIGTERM)
        dev.rest()
        assert dev.process.wait() == 0


def test_child_that_dies_is_reported_and_started_again(valkey_url: str, tmp_path: Path) -> None:
    with running(DEV, broker=valkey_url, cwd=tmp_path) as dev:
        dev.wait_for("somebody answers there")
        dev.wait_for("owns 16 partitions")
        [victim] = [
            pid
            for pid in descendants(dev.process.pid)
            if is_program(pid, b"\0orchestrator\0") and not is_program(pid, b"leash")
        ]
        os.kill(victim, signal.SIGKILL)
        dev.wait_for(r"orchestrator \| ended with 137; it starts again in 0\.5 s")
        dev.wait_for("owns 16 partitions")
        dev.process.send_signal(signal.SIGTERM)
        dev.rest()
        assert dev.process.wait() == 0


@pytest.mark.parametrize(
    ("app", "broker", "code", "text"),
    [
        ("tests.cli.nowhere", "redis://127.0.0.1:1/0", 2, "no Celery app in 'tests.cli.nowhere'"),
        (APP, "redis://:secret@127.0.0.1:1/0", 2, "neither TLS nor a password"),
    ],
)
def test_what_cannot_work_is_one_line(
    app: str, broker: str, code: int, text: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "orchestrator.cli.main", "dev", "-A", app]
    with running(program, broker=broker, cwd=tmp_path) as dev:
        out = dev.rest()
        assert dev.process.wait() == code
    assert text in out
    assert "secret" not in out
    assert "Traceback" not in out


def assert_ended(watched: list[int]) -> None:
    for file in watched:
        assert select.select([file], [], [], END_S_MAX)[0], "still running"
        os.close(file)
