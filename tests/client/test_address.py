"""Where the store lies; A1: only what is certainly one place is taken for one."""

import pytest

from orchestrator.client.address import (
    host_and_port,
    is_same_place,
    store_url_of_broker,
    without_password,
)
from orchestrator.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("broker", "store"),
    [
        ("redis://localhost:6379/0", "redis://127.0.0.1"),
        ("redis://127.0.0.1/", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@db:7000/3", "redis://db:7000/3"),
        ("redis://db:7000/3", "redis://db:7000?db=3"),
        ("redis+socket:///run/redis.sock?virtual_host=2", "unix:///run/redis.sock?db=2"),
    ],
)
def test_two_spellings_of_one_place_are_one(broker: str, store: str) -> None:
    assert is_same_place(broker, store, {})


@pytest.mark.parametrize(
    ("broker", "store"),
    [
        ("redis://db:7000/3", "redis://db:7000/4"),
        ("redis://db:7000/3", "redis://db:7001/3"),
        ("redis://db", "redis://db.example.org"),
        ("redis://db", "rediss://db"),
        ("amqp://db", "redis://db"),
        ("amqp://db", "amqp://db"),
        ("redis://a;redis://b", "redis://a"),
        ("redis+socket:///run/a.sock", "unix:///run/b.sock"),
    ],
)
def test_what_may_be_two_places_is_two(broker: str, store: str) -> None:
    assert not is_same_place(broker, store, {})


def test_queues_named_by_another_separator_take_the_way_through_the_outbox() -> None:
    assert not is_same_place("redis://db", "redis://db", {"sep": ":"})


def test_socket_address_of_kombu_becomes_one_of_redis_py() -> None:
    found = store_url_of_broker("redis+socket:///run/redis.sock?virtual_host=2")
    assert found == "unix:///run/redis.sock?db=2"
    assert store_url_of_broker("redis://db/1") == "redis://db/1"


@pytest.mark.parametrize("broker", ["amqp://", "redis://a;redis://b", "sentinel://a", "memory://"])
def test_broker_that_keeps_no_histories_wants_a_store(broker: str) -> None:
    with pytest.raises(ConfigurationError, match="Orchestrator"):
        store_url_of_broker(broker)


def test_password_is_not_shown() -> None:
    assert without_password("redis://me:secret@db/0") == "redis://me:***@db/0"
    assert without_password("redis://db/0") == "redis://db/0"
    assert host_and_port("redis://:secret@localhost") == ("127.0.0.1", 6379)
