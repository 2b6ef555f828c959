"""Promise: an orchestrator that owns nothing costs nothing, until there is something to own."""

import threading

import pytest

from orchestrator.engine.process import Engine
from orchestrator.store.memory import MemoryStore
from tests.acceptance.waiting import eventually
from tests.engine.world import FakeDispatcher, HandLocal, MemoryBlobs


def test_orchestrator_without_partitions_waits_between_its_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore(2)
    for partition in range(2):
        assert store.grant_lease(partition, "another", "token", ttl_ms=600_000)
    looks, turns = [0], [0]
    report, turn = store.report_orchestrator, Engine._turn

    def counted_report(owner_id: str, *, ttl_ms: int) -> list[str]:
        looks[0] += 1
        return report(owner_id, ttl_ms=ttl_ms)

    def counted_turn(engine: Engine, stop: threading.Event) -> None:
        turns[0] += 1
        turn(engine, stop)

    monkeypatch.setattr(store, "report_orchestrator", counted_report)
    monkeypatch.setattr(Engine, "_turn", counted_turn)
    engine = Engine(
        store=store,
        registry={},
        dispatcher=FakeDispatcher(),
        blobs=MemoryBlobs(),
        local=HandLocal(),
    )
    stop = threading.Event()
    thread = threading.Thread(target=engine.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: looks[0] >= 3, "it looks for free partitions")
        assert turns[0] <= 5 * looks[0]
        store.release_lease(0, "token")
        eventually(lambda: store.grant_lease(0, "third", "x", ttl_ms=1) is False, "it takes over")
    finally:
        stop.set()
        thread.join()
