"""The `bench` of a test of real workers: one run on a real store, and hands to send its steps."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from orchestrator.dispatch import CeleryDispatcher
from orchestrator.embedded import EmbeddedServer
from orchestrator.store.connect import connect
from orchestrator.store.redis import RedisStore
from tests.servers import valkey_server, valkey_url
from tests.store.world import redis_world
from tests.worker.bench import Bench

__all__ = ["valkey_server", "valkey_url"]

_numbers = itertools.count(1)


@contextmanager
def bench_at(url: str, directory: Path, *, log_start: int = 0) -> Iterator[Bench]:
    """A bench with a workflow of its own."""
    with connect(url) as client, connect(url) as blocking:
        store = RedisStore(client, blocking=blocking, direct_queues=True)
        app = Celery("owner", broker=url, set_as_current=False)
        yield Bench(
            world=redis_world(store, client),
            client=client,
            dispatcher=CeleryDispatcher(app),
            env={"STEPS_URL": url, "STEPS_BLOBS": str(directory / "blobs")},
            directory=directory,
            workflow_id=f"order-{next(_numbers)}",
            log_start=log_start,
        )
        app.close()


@pytest.fixture
def bench(valkey_url: str, tmp_path: Path) -> Iterator[Bench]:
    """A bench on an empty store, without a worker."""
    with bench_at(valkey_url, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def shared_worker(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[EmbeddedServer, Path]]:
    """A prefork worker with two children, on a server that no other test empties."""
    directory = tmp_path_factory.mktemp("shared")
    with (
        EmbeddedServer(tmp_path_factory.mktemp("shared-valkey")) as server,
        bench_at(server.url, directory) as first,
        first.worker("-c", "2"),
    ):
        yield server, directory


@pytest.fixture
def served(shared_worker: tuple[EmbeddedServer, Path]) -> Iterator[Bench]:
    """A bench whose steps the shared worker runs."""
    server, directory = shared_worker
    written = sum(len(path.read_text()) for path in directory.glob("worker*.log"))
    with bench_at(server.url, directory, log_start=written) as made:
        made.client.delete("diary")
        yield made
