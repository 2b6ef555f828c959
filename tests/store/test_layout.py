"""A namespace keeps the layout and the partition count it was made with."""

import fakeredis
import pytest
from redis import Redis

from orchestrator.core.errors import ConfigurationError
from orchestrator.core.limits import LAYOUT_VERSION, PARTITIONS_DEFAULT
from orchestrator.core.values import Json
from orchestrator.store.connect import connect, connect_async
from orchestrator.store.index_ports import Window
from orchestrator.store.redis import RedisStore


@pytest.fixture
def client() -> Redis:
    return fakeredis.FakeRedis(protocol=2)


def opened(client: Redis, partitions: int | None = None, prefix: str = "orc") -> RedisStore:
    return RedisStore(client, prefix=prefix, partitions=partitions, blocking=client).open()


def test_first_start_records_layout_and_partitions(client: Redis) -> None:
    assert opened(client, 4).partitions == 4
    wanted = {b"layout": str(LAYOUT_VERSION).encode(), b"partitions": b"4", b"indexed": b"1"}
    assert client.hgetall("orc:meta") == wanted
    assert opened(client, 4).partitions == 4


def test_namespace_without_a_wish_gets_the_default(client: Redis) -> None:
    assert opened(client).partitions == PARTITIONS_DEFAULT


def test_store_without_a_wish_takes_what_is_recorded(client: Redis) -> None:
    opened(client, 3)
    assert opened(client).partitions == 3


def test_other_partition_count_is_refused_with_both_numbers(client: Redis) -> None:
    opened(client, 8)
    with pytest.raises(ConfigurationError, match=r"found 8; 16 were asked for"):
        opened(client, 16)
    assert opened(client, 8).partitions == 8


def test_other_layout_is_refused(client: Redis) -> None:
    client.hset("orc:meta", mapping={"layout": 99, "partitions": 16})
    with pytest.raises(ConfigurationError, match="found 99"):
        opened(client)
    assert client.hget("orc:meta", "layout") == b"99"


def test_refused_store_does_nothing_later_either(client: Redis) -> None:
    opened(client, 8)
    store = RedisStore(client, partitions=16, blocking=client)
    with pytest.raises(ConfigurationError):
        store.grant_lease(1, "one", "a", ttl_ms=1_000)
    assert client.keys("*") == [b"orc:meta"]


def test_namespaces_do_not_meet(client: Redis) -> None:
    one, two = opened(client, 4, "one"), opened(client, 8, "two")
    body: dict[str, Json] = {"workflow": "w", "args": [], "kwargs": {}}
    one.start("order-42", request_id="r", body=body)
    assert two.find_row("order-42") is None
    assert client.keys("orc*") == []


def test_nothing_is_sent_before_the_first_call() -> None:
    RedisStore(connect("redis://127.0.0.1:1/0"))


@pytest.mark.parametrize("make", [connect, connect_async])
def test_address_that_is_none_is_refused_without_its_password(make: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make("amqp://guest:secret@host/")  # type: ignore[operator]
    assert "secret" not in str(caught.value)
    assert "amqp" in str(caught.value)


def test_connections_never_send_anything_twice() -> None:
    settings = connect("redis://127.0.0.1:1/0", protocol=3).connection_pool.connection_kwargs
    assert settings["retry"].get_retries() == 0
    assert settings["protocol"] == 2
    assert (
        connect_async("redis://127.0.0.1:1/0")
        .connection_pool.connection_kwargs["retry"]
        .get_retries()
        == 0
    )


def test_namespace_of_an_earlier_version_is_listed_once_it_is_indexed(client: Redis) -> None:
    client.hset("orc:meta", mapping={"layout": LAYOUT_VERSION, "partitions": 4})
    store = opened(client)
    store.start("order-42", request_id="r", body={"workflow": "order"})
    for ask in (
        lambda: store.page_runs(["all"], Window(count=9)),
        lambda: store.index_sizes(["a"]),
    ):
        with pytest.raises(ConfigurationError, match=r"index them once: celery -A … workflow rein"):
            ask()
    store.mark_indexed()
    assert len(store.page_runs(["all"], Window(count=9)).rows) == 1
    assert len(opened(client).page_runs(["all"], Window(count=9)).rows) == 1
