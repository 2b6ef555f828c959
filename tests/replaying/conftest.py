"""Runs in an engine in memory, and files of their histories."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.client.exporting import export_file
from orchestrator.client.messages import Target
from orchestrator.client.port import Bridged, in_place, pause_in_place, run_in_place
from orchestrator.client.session import Session
from orchestrator.payloads import PydanticCodec
from orchestrator.store.memory import MemoryStore
from tests.engine.world import MemoryBlobs, World

Export = Callable[..., Path]


def session_of(store: MemoryStore, blobs: MemoryBlobs) -> Session:
    """Return a client's session over a store in memory."""
    return Session(
        store=Bridged(store, in_place),
        pause=pause_in_place,
        codec=PydanticCodec(),
        registry={},
        blobs=blobs,
    )


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Export a run of a world into a folder of the test."""

    def export(world: World, id: str = "w", folder: str = "histories") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        session = session_of(world.store, world.blobs)
        target = Target(workflow_id=id, run=1)
        return run_in_place(export_file(session, target, tmp_path / folder))

    return export


@pytest.fixture(autouse=True)
def _close_worlds() -> Iterator[None]:
    yield
    while World.alive:
        World.alive.pop().close()
