"""Real servers of S3 from PyPI, as processes on 127.0.0.1, ended by their process id.

moto keeps conditions and checks no digests; ministack keeps and checks both, and keeps its objects
on disk.  Each runs on a leash: it ends with the tests, even if those are killed.  Import the
fixtures where they are needed: one server of each kind serves a session.
"""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.training.objects import Hook, no_hook

ROOT = Path(__file__).resolve().parents[2]
STARTS_MAX = 3
WAIT_S = 0.05
READY_S = 40.0
#: What both servers take; they check none of it.
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that answers."""

    name: str
    url: str

    def client(self) -> Any:
        """Return a client of boto3, for what a test does behind a store's back."""
        return _client(self.url)

    def bucket(self) -> str:
        """Return the name of a new bucket."""
        name = f"checkpoints-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def objects(self, bucket: str, *, hook: Hook = no_hook, **more: Any) -> Any:
        """Return a store in a bucket."""
        from orchestrator.training.objects_s3 import S3Objects, S3Settings

        settings = S3Settings(
            bucket=bucket, endpoint_url=self.url, region=REGION, client=CREDENTIALS, **more
        )
        return S3Objects(settings, hook=hook)


@cache
def _client(url: str) -> Any:
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    return boto3.session.Session().client("s3", endpoint_url=url, region_name=REGION, **CREDENTIALS)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment in which nothing outside `folder` is read or written."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    home = {"HOME": str(folder), "TMPDIR": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    return {**kept, **home, "PYTHONPATH": str(ROOT), **more}


@contextmanager
def running(name: str, folder: Path) -> Iterator[S3Server]:
    """Give a server that answers; ends it afterwards, whatever happened."""
    for _ in range(STARTS_MAX):
        port = free_port()
        with (folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli.leash", *command(name, port)],
                env=variables(name, folder, port),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            if answers(process, port):
                yield S3Server(name, f"http://127.0.0.1:{port}")
                return
        finally:
            end(process)
    raise AssertionError(f"{name} does not start: {(folder / f'{name}.log').read_text()[-2000:]}")


def command(name: str, port: int) -> list[str]:
    """Return the command line of a server."""
    if name == "moto":
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return [sys.executable, "-m", "ministack"]


def variables(name: str, folder: Path, port: int) -> dict[str, str]:
    """Return the environment of a server."""
    if name == "moto":
        return environment(folder)
    return environment(
        folder,
        # By default it listens on every address, and starts far more than S3.
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        SERVICES="s3",
        S3_PERSIST="1",
        S3_DATA_DIR=str(folder / "s3"),
        DOCKER_HOST="unix:///nowhere",
    )


def answers(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until a server accepts connections; return False if it ends before."""
    for _ in range(int(READY_S / WAIT_S)):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
        except OSError:
            pass
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server, and wait for its end."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Conditions, but no check of digests."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    with running("moto", tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Conditions and digests."""
    pytest.importorskip("ministack", reason="ministack is not installed")
    with running("ministack", tmp_path_factory.mktemp("ministack")) as server:
        yield server
