"""A client over a store in memory."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.blobs import DirectoryBlobs
from orchestrator.client.connection import Connection
from orchestrator.client.registration import WorkflowOptions, define
from orchestrator.client.workflow import Workflow
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.payloads import PydanticCodec
from orchestrator.store.memory import MemoryStore
from tests.client.runs import Recorder


class Approval(BaseModel):
    approved: bool
    by: str


class Receipt(BaseModel):
    total: int


async def order(total: int, note: str = "") -> Receipt:
    return Receipt(total=total)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def recorder(store: MemoryStore) -> Recorder:
    return Recorder(store)


@pytest.fixture
def registry() -> dict[str, WorkflowDefinition]:
    return {}


@pytest.fixture
def connection(
    store: MemoryStore, registry: Mapping[str, WorkflowDefinition], tmp_path: Any
) -> Connection:
    return Connection(
        lambda: store,
        None,
        codec=PydanticCodec(),
        registry=registry,
        blobs=DirectoryBlobs(tmp_path),
    )


@pytest.fixture
def order_workflow(
    connection: Connection, registry: dict[str, WorkflowDefinition]
) -> Workflow[Any, Receipt]:
    options = WorkflowOptions(signals={"approve": Approval, "note": None})
    definition, encode_input = define(order, options, PydanticCodec())
    registry[definition.name] = definition
    return Workflow(order, definition, encode_input, connection.sessions)
