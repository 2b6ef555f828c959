"""The `bench` of a test of real workers: an empty Valkey, one run, and the app's address."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from orchestrator.dispatch import CeleryDispatcher
from orchestrator.store.connect import connect
from orchestrator.store.redis import RedisStore
from tests.servers import valkey_server, valkey_url
from tests.store.world import redis_world
from tests.worker.bench import Bench

__all__ = ["valkey_server", "valkey_url"]


@pytest.fixture
def bench(valkey_url: str, tmp_path: Path) -> Iterator[Bench]:
    """An owner's hands on a real store."""
    with connect(valkey_url) as client, connect(valkey_url) as blocking:
        store = RedisStore(client, blocking=blocking, direct_queues=True)
        app = Celery("owner", broker=valkey_url, set_as_current=False)
        yield Bench(
            world=redis_world(store, client),
            client=client,
            dispatcher=CeleryDispatcher(app),
            env={"STEPS_URL": valkey_url, "STEPS_BLOBS": str(tmp_path / "blobs")},
            directory=tmp_path,
        )
        app.close()
