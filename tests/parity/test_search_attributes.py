"""Search attributes as Temporal's features have them, by their names: set and upsert.

Source: temporalio/features, features/search_attributes.  Differs in one thing: nothing is
registered first, so that every name is at hand.
"""

from datetime import UTC, datetime
from typing import Any

from orchestrator import workflow
from orchestrator.core.values import Json
from orchestrator.store.index_ports import Window
from tests.engine.world import World

INSTANT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RECORDED: dict[str, Json] = {
    "text": "name",
    "flag": True,
    "whole": 5,
    "broken": 1.5,
    "instant": {"datetime": INSTANT.isoformat()},
    "tags": ["a", "b"],
}
VALUES: dict[str, Any] = {**RECORDED, "instant": INSTANT}


async def shows() -> bool:
    return dict(workflow.info().search_attributes) == VALUES


async def upserts() -> bool:
    workflow.upsert_search_attributes(VALUES)
    workflow.upsert_search_attributes({"text": None, "whole": 6})
    expected = {**VALUES, "whole": 6}
    del expected["text"]
    return dict(workflow.info().search_attributes) == expected


def found(world: World, index: str) -> list[str]:
    return [row["workflow_id"] for _, row in world.store.page_runs([index], Window(count=9)).rows]


def test_set() -> None:
    world = World(shows)
    body: dict[str, Json] = {"workflow": "shows", "search_attributes": RECORDED}
    world.store.start("w", request_id="r", body=body)
    world.settle()
    assert world.result() is True
    for index in ("is:text=s:name", "is:flag=b:True", "is:whole=n:5", "is:broken=n:1.5"):
        assert found(world, index) == ["w"]
    for index in (f"is:instant=d:{INSTANT.isoformat()}", "is:tags=s:a", "is:tags=s:b"):
        assert found(world, index) == ["w"]


def test_upsert() -> None:
    world = World(upserts)
    world.start("upserts")
    world.settle()
    assert world.result() is True
    assert found(world, "is:whole=n:6") == found(world, "is:tags=s:b") == ["w"]
    assert found(world, "is:whole=n:5") == found(world, "has:text") == []
