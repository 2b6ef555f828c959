"""Promise: a message of ours is, to an unmodified worker, a message of Celery's own."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery
from kombu.entity import Exchange, Queue

from orchestrator.core.errors import ConfigurationError, StoreUnavailable
from orchestrator.dispatch import CeleryDispatcher
from orchestrator.engine.ports import Outgoing
from orchestrator.store.connect import connect
from orchestrator.store.ports import AttemptKey
from orchestrator.worker.header import find_key, read_header
from tests.servers import valkey_server, valkey_url

__all__ = ["valkey_server", "valkey_url"]

KEY = AttemptKey(workflow_id="order.42", run=3, step=7, attempt=2)
OUTGOING = Outgoing(
    key=KEY,
    task="tasks.charge",
    args=[{"__type__": "uuid", "note": 'é"\\ @tag 😀'}],
    kwargs={"amount": 12.5},
    idempotency_key="order.42.3.7",
    compensates="order.42.3.1",
    workflow="order",
    headers={"trace": "t-1 “quoted” \\"},
)


@pytest.fixture
def app() -> Iterator[Celery]:
    made = Celery("shop", broker="redis://127.0.0.1:1/3", set_as_current=False)
    yield made
    made.close()


def envelope(app: Celery, outgoing: Outgoing = OUTGOING) -> dict[str, Any]:
    """Return the message's envelope as JSON."""
    made: dict[str, Any] = json.loads(CeleryDispatcher(app).message(outgoing).body)
    return made


def published_by_kombu(url: str, **options: Any) -> dict[str, Any]:
    """Return the envelope that Celery itself leaves in a Redis list."""
    app = Celery("shop", broker=url, set_as_current=False)
    app.send_task(
        "tasks.charge", task_id=str(KEY), root_id="order.42.3", parent_id="order.42.3.1.1",
        ignore_result=True, headers={"orc": {}}, queue="shop", **options,
    )  # fmt: skip
    with connect(url) as client:
        (name,) = client.keys("shop*")
        body: dict[str, Any] = json.loads(client.rpop(name))
    app.close()
    return body


def test_envelope_has_the_shape_that_kombu_gives_it(app: Celery, valkey_url: str) -> None:
    theirs = published_by_kombu(valkey_url)
    ours = envelope(app, replace(OUTGOING, queue="shop"))
    assert ours.keys() == theirs.keys()
    assert list(ours["headers"]) == list(theirs["headers"])
    assert ours["properties"].keys() == theirs["properties"].keys()
    told_apart = {"argsrepr", "kwargsrepr", "origin", "orc"}
    for name in ours["headers"].keys() - told_apart:
        assert ours["headers"][name] == theirs["headers"][name], name
    for name in ours["properties"].keys() - {"delivery_tag", "reply_to"}:
        assert ours["properties"][name] == theirs["properties"][name], name
    assert json.loads(_decoded(ours["body"])) == json.loads(_decoded(theirs["body"]))
    assert ours["content-type"] == theirs["content-type"]


def _decoded(body: str) -> bytes:
    import base64

    return base64.b64decode(body)


def test_header_carries_the_step_and_its_arguments_untouched(app: Celery) -> None:
    headers = envelope(app)["headers"]
    assert headers["id"] == "order.42.3.7.2"
    assert find_key(headers) == KEY
    header = read_header(headers["orc"], KEY)
    assert header.args == OUTGOING.args
    assert header.kwargs == OUTGOING.kwargs
    assert header.idempotency_key == OUTGOING.idempotency_key
    assert header.compensates == OUTGOING.compensates
    assert header.workflow == "order"
    assert header.headers == OUTGOING.headers == {"trace": "t-1 “quoted” \\"}


def test_root_is_the_run_and_parent_too_unless_a_step_is_undone(app: Celery) -> None:
    undo = envelope(app)["headers"]
    assert (undo["root_id"], undo["parent_id"]) == ("order.42.3", "order.42.3.1.1")
    step = envelope(app, replace(OUTGOING, compensates=""))["headers"]
    assert (step["root_id"], step["parent_id"]) == ("order.42.3", "order.42.3")


def test_same_attempt_gives_the_same_task_id_in_distinct_deliveries(app: Celery) -> None:
    first, second = envelope(app), envelope(app)
    assert first["properties"].pop("delivery_tag") != second["properties"].pop("delivery_tag")
    assert first == second


def test_shown_arguments_are_bounded(app: Celery) -> None:
    headers = envelope(app, replace(OUTGOING, args=["x" * 10_000]))["headers"]
    assert len(headers["argsrepr"]) < 200


def test_nan_is_refused(app: Celery) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        CeleryDispatcher(app).message(replace(OUTGOING, args=[float("nan")]))


@pytest.mark.filterwarnings("ignore:(?s).*task attribute is deprecated")
def test_queue_is_the_one_that_the_app_routes_to(app: Celery) -> None:
    app.conf.task_routes = {"tasks.charge": {"queue": "money", "priority": 6}}
    app.conf.broker_transport_options = {"global_keyprefix": "shop:"}

    @app.task(name="tasks.ship", queue="parcels", priority=3, shared=False)
    def ship() -> None:
        return None

    dispatcher = CeleryDispatcher(app)
    assert dispatcher.message(OUTGOING).queue == "shop:money\x06\x166"
    assert dispatcher.message(replace(OUTGOING, task=ship.name)).queue == "shop:parcels\x06\x163"
    assert dispatcher.message(replace(OUTGOING, task="tasks.other")).queue == "shop:celery"
    chosen = replace(OUTGOING, queue="gpu", priority=9)
    assert dispatcher.message(chosen).queue == "shop:gpu\x06\x169"
    body = json.loads(dispatcher.message(chosen).body)
    assert body["properties"]["delivery_info"] == {"exchange": "", "routing_key": "gpu"}
    assert body["properties"]["priority"] == 9


@pytest.mark.parametrize("priority", [0, 2, 5, 9])
def test_list_is_the_one_that_kombu_pushes_to(valkey_url: str, priority: int) -> None:
    app = Celery("shop", broker=valkey_url, set_as_current=False)
    app.send_task("tasks.charge", queue="shop", priority=priority, ignore_result=True)
    with connect(valkey_url) as client:
        names = [name.decode() for name in client.keys("shop*")]
    message = CeleryDispatcher(app).message(replace(OUTGOING, queue="shop", priority=priority))
    assert names == [message.queue]
    app.close()


def test_queue_bound_to_a_topic_exchange_is_found(app: Celery) -> None:
    topic: Any = Exchange("events", type="topic")  # type: ignore[no-untyped-call]
    bound: Any = Queue("bound", topic, routing_key="money.charge")  # type: ignore[no-untyped-call]
    app.conf.task_queues = [bound]
    app.conf.task_routes = {
        "tasks.charge": {"exchange": "events", "routing_key": "money.charge"},
        "tasks.lost": {"exchange": "events", "routing_key": "nobody"},
    }
    dispatcher = CeleryDispatcher(app)
    assert dispatcher.message(OUTGOING).queue == "bound"
    with pytest.raises(ConfigurationError, match="route it to a queue"):
        dispatcher.message(replace(OUTGOING, task="tasks.lost"))


def test_broadcast_is_refused_because_a_step_runs_once(app: Celery) -> None:
    fanout: Any = Exchange("all", type="fanout")  # type: ignore[no-untyped-call]
    app.conf.task_queues = [Queue("all", fanout)]  # type: ignore[no-untyped-call]
    app.conf.task_routes = {"tasks.charge": {"queue": "all"}}
    with pytest.raises(ConfigurationError, match="a step runs once"):
        CeleryDispatcher(app).message(OUTGOING)


def test_relayed_message_arrives_as_it_was_made(valkey_url: str) -> None:
    app = Celery("shop", broker=valkey_url, set_as_current=False)
    dispatcher = CeleryDispatcher(app)
    message = dispatcher.message(replace(OUTGOING, queue="shop", priority=3))
    dispatcher.publish([message])
    with connect(valkey_url) as client:
        arrived = json.loads(client.rpop(message.queue))
    made = json.loads(message.body)
    for body in (arrived, made):
        del body["properties"]["delivery_tag"]
    assert arrived == made
    app.close()


def test_broker_that_does_not_answer_is_unavailable(app: Celery) -> None:
    dispatcher = CeleryDispatcher(app)
    with pytest.raises(StoreUnavailable, match="publishing to the broker"):
        dispatcher.publish([dispatcher.message(OUTGOING)])
