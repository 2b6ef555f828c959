"""The app object: what can be a workflow, and that importing and decorating reaches nothing."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from orchestrator.app import Orchestrator
from orchestrator.core.errors import (
    ConfigurationError,
    InvalidPayload,
    InvalidWorkflowId,
    UnknownWorkflow,
)
from orchestrator.store.memory import MemoryStore

#: Nobody listens there; a test that reached for it would fail.
NOWHERE = "redis://127.0.0.1:1/0"


async def transfer(amount: int, currency: str = "EUR") -> str:
    return f"{amount} {currency}"


async def later(value: "Later") -> None: ...


class Later(dict[str, int]):
    pass


class Namesake:
    @staticmethod
    async def transfer(amount: int) -> None: ...


def plain() -> None: ...


async def generator() -> Any:
    yield 1


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("shop", broker=NOWHERE, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def orc(app: Celery) -> Orchestrator:
    return Orchestrator(app)


def test_workflow_is_registered_under_the_functions_name_or_the_given_one(
    orc: Orchestrator,
) -> None:
    bare = orc.workflow(transfer)
    named = orc.workflow(name="send-money", version="2", signals={"stop": str})(transfer)
    assert (bare.name, named.name) == ("transfer", "send-money")
    assert set(orc.registry) == {"transfer", "send-money"}
    definition = orc.registry["send-money"]
    assert (definition.version, definition.signals) == ("2", {"stop": str})
    assert orc.get_workflow("transfer") is bare
    with pytest.raises(UnknownWorkflow, match="known: send-money, transfer"):
        orc.get_workflow("tranfser")


def test_fingerprint_tells_one_source_from_another(orc: Orchestrator) -> None:
    first = orc.workflow(transfer).definition.fingerprint
    assert len(first) == 64
    assert orc.workflow(later).definition.fingerprint != first


def test_decorating_reaches_nothing_and_the_input_round_trips(orc: Orchestrator) -> None:
    definition = orc.workflow(transfer).definition
    assert definition.decode_input([5], {"currency": "USD"}) == ((5,), {"currency": "USD"})
    with pytest.raises(ValueError, match="valid integer"):
        definition.decode_input(["x"], {})


def test_annotation_may_name_what_the_module_defines_further_down(orc: Orchestrator) -> None:
    with pytest.raises(InvalidPayload, match="input of later"):
        orc.workflow(later).start("no mapping")


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (plain, "a plain function"),
        (generator, "an async generator"),
        (lambda: None, "a plain function"),
    ],
)
def test_what_is_no_async_def_is_no_workflow(orc: Orchestrator, function: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        orc.workflow(function)


def test_function_inside_a_function_is_no_workflow(orc: Orchestrator) -> None:
    async def hidden() -> None: ...

    with pytest.raises(ConfigurationError, match="at the top of a module"):
        orc.workflow(hidden)


def test_name_belongs_to_one_function(orc: Orchestrator) -> None:
    orc.workflow(transfer)
    orc.workflow(transfer)  # a module that runs as __main__ and is imported as well
    with pytest.raises(ConfigurationError, match=r"give .*Namesake\.transfer another name"):
        orc.workflow(Namesake.transfer)
    with pytest.raises(ConfigurationError, match="a name without blanks"):
        orc.workflow(name="send money")(transfer)


def test_names_of_the_engines_signals_cannot_be_declared(orc: Orchestrator) -> None:
    with pytest.raises(ConfigurationError, match="'__reseed'; names that begin with two"):
        orc.workflow(signals={"ok_": None, "__reseed": None})(transfer)


def test_app_has_one_orchestrator_and_gives_it_back(app: Celery, orc: Orchestrator) -> None:
    assert Orchestrator.of(app) is orc
    with pytest.raises(ConfigurationError, match=r"Orchestrator\.of"):
        Orchestrator(app)
    with pytest.raises(ConfigurationError, match=r"orc = Orchestrator\(app\)"):
        Orchestrator.of(Celery("other", set_as_current=False))


def test_store_is_the_brokers_redis_unless_told_otherwise(app: Celery) -> None:
    orc = Orchestrator(app)
    assert orc.store_url == NOWHERE
    assert orc.sends_directly
    elsewhere = Orchestrator(
        Celery("other", broker=NOWHERE, set_as_current=False), store="redis://127.0.0.1:1/1"
    )
    assert not elsewhere.sends_directly


def test_broker_without_redis_wants_a_store() -> None:
    orc = Orchestrator(Celery("rabbit", broker="amqp://", set_as_current=False))
    with pytest.raises(ConfigurationError, match="name the Redis or Valkey"):
        orc.run("x").status()


def test_handles_and_listings_come_from_the_app(app: Celery) -> None:
    orc = Orchestrator(app, store=MemoryStore())
    handle = orc.workflow(transfer).start(5, id="t-1")
    assert orc.run("t-1").status() == "pending"
    assert [run.workflow_id for run in orc.list(open=True)] == ["t-1"]
    assert orc.run("t-1", 1).run == handle.run == 1
    with pytest.raises(InvalidWorkflowId):
        orc.run("t 1")


def test_public_names_load_no_more_than_they_need() -> None:
    code = (
        "import sys; import orchestrator; from orchestrator import Retry, ApplicationError;"
        "sys.exit(str({'redis', 'celery', 'pydantic', 'kombu'} & sys.modules.keys() or ''))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not run.stderr.strip()


def test_unknown_public_name_is_an_attribute_error() -> None:
    import orchestrator

    with pytest.raises(AttributeError, match="no attribute 'Orchestra'"):
        orchestrator.Orchestra  # noqa: B018
    assert {"Orchestrator", "workflow", "step"} <= set(dir(orchestrator))
