"""W2, W3: which versions an app has, which is the default one, and what a start says of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from orchestrator.app import Orchestrator
from orchestrator.core.errors import ConfigurationError, UnknownWorkflow
from orchestrator.core.versions import every_version
from orchestrator.store.memory import MemoryStore


async def first(amount: int) -> int:
    return amount


async def second(amount: int, note: str) -> str:
    return note


async def third(amount: int) -> None: ...


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(4)


@pytest.fixture
def orc(store: MemoryStore) -> Iterator[Orchestrator]:
    app = Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)
    yield Orchestrator(app, store=store)
    app.close()


def versions(orc: Orchestrator) -> list[str]:
    return [each.version for each in every_version(orc.registry)]


def test_the_version_that_was_registered_last_is_the_default_one(orc: Orchestrator) -> None:
    orc.workflow(name="order", version="1")(first)
    newest = orc.workflow(name="order", version="2")(second)
    assert versions(orc) == ["2", "1"]
    assert orc.get_workflow("order") is newest
    # A module that runs as __main__ and is imported as well.
    orc.workflow(name="order", version="1")(first)
    assert versions(orc) == ["2", "1"]


def test_the_version_that_says_so_is_the_default_one(orc: Orchestrator) -> None:
    stable = orc.workflow(name="order", version="1", default=True)(first)
    canary = orc.workflow(name="order", version="2")(second)
    assert versions(orc) == ["1", "2"]
    assert orc.get_workflow("order") is stable
    assert orc.get_workflow("order", "2") is canary
    with pytest.raises(UnknownWorkflow, match="'order version 3'"):
        orc.get_workflow("order", "3")


def test_only_one_version_may_be_the_default_one(orc: Orchestrator) -> None:
    orc.workflow(name="order", version="1", default=True)(first)
    with pytest.raises(ConfigurationError, match="versions '1' and '2' say default=True"):
        orc.workflow(name="order", version="2", default=True)(second)
    assert versions(orc) == ["1"]


def test_a_version_belongs_to_one_function(orc: Orchestrator) -> None:
    orc.workflow(name="order", version="1")(first)
    orc.workflow(name="order", version="2")(second)
    with pytest.raises(ConfigurationError, match="workflow 'order' version '1': found it is"):
        orc.workflow(name="order", version="1")(third)
    with pytest.raises(ConfigurationError, match="one of pinned, auto_upgrade is wanted"):
        orc.workflow(name="order", version="3", versioning="auto")(third)


def bodies(store: MemoryStore) -> list[Any]:
    taken = store.take_inbox(dict.fromkeys(range(store.partitions), "0"), count=100, block_ms=0)
    return [entry.body for entries in taken.values() for entry in entries]


def test_a_start_names_its_version_where_it_is_not_the_default(
    orc: Orchestrator, store: MemoryStore
) -> None:
    old = orc.workflow(name="order", version="1")(first)
    new = orc.workflow(name="order", version="2")(second)
    new.start(1, "gift", id="new")
    old.start(1, id="old")
    old.signal_with_start("hello", id="with", args=(1,))
    found = {body["request_id"]: body.get("version") for body in bodies(store) if "args" in body}
    assert sorted(map(str, found.values())) == ["1", "1", "None"]
