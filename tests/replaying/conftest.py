"""Runs in an engine in memory, and files of their histories."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.client.exporting import export_file
from orchestrator.client.messages import Target
from orchestrator.client.port import Bridged, in_place, pause_in_place, run_in_place
from orchestrator.client.session import Session
from orchestrator.core.events import RunStarted, SignalReceived
from orchestrator.payloads import PydanticCodec
from orchestrator.replaying.pytest_plugin import replay_histories
from orchestrator.store.memory import MemoryStore
from tests.client.runs import Recorder
from tests.engine.world import MemoryBlobs, World

# Also where the package is not installed, so that pytest does not find the plugin by itself.
__all__ = ["replay_histories"]

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


def many_signals(count: int, workflow: str = "order") -> MemoryStore:
    """Return a store with one run of so many events."""
    store = MemoryStore()
    recorder = Recorder(store)
    store.start("w", request_id="r", body={"workflow": workflow, "args": [], "kwargs": {}})
    events = [
        RunStarted(at_ms=1, workflow=workflow, seed="00"),
        *(
            SignalReceived(at_ms=2, signal="s", signal_id=str(n), payload="x" * 100)
            for n in range(count - 1)
        ),
    ]
    recorder.record("w", *events, status="running", type=workflow)
    return store


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
