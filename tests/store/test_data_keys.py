"""Promise: what lies there for a scope stays until whoever knows it replaces it."""

from tests.store.world import World

SCOPE = "order-42.1"


def test_first_of_two_keys_stays(world: World) -> None:
    assert world.store.find_key(SCOPE) is None
    assert world.store.create_key(SCOPE, "first") == "first"
    assert world.store.create_key(SCOPE, "second") == "first"
    assert world.store.find_key(SCOPE) == "first"


def test_only_the_key_that_was_seen_is_replaced(world: World) -> None:
    world.store.create_key(SCOPE, "first")
    assert not world.store.replace_key(SCOPE, "another", "second")
    assert world.store.find_key(SCOPE) == "first"
    assert world.store.replace_key(SCOPE, "first", "second")
    assert world.store.find_key(SCOPE) == "second"


def test_replacement_that_is_sent_twice_says_the_same(world: World) -> None:
    world.store.create_key(SCOPE, "first")
    assert world.store.replace_key(SCOPE, "first", "second")
    assert world.store.replace_key(SCOPE, "first", "second")


def test_replacing_what_is_not_there_makes_nothing(world: World) -> None:
    assert not world.store.replace_key(SCOPE, "first", "second")
    assert world.store.find_key(SCOPE) is None


def test_keys_are_listed_by_partition(world: World) -> None:
    scopes = [f"order-{number}.1" for number in range(40)]
    for scope in scopes:
        world.store.create_key(scope, "wrapped")
    listed = [world.store.list_keys(partition) for partition in range(world.store.partitions)]
    assert sorted(scope for found in listed for scope in found) == sorted(scopes)
    assert all(world.partition(scope) == at for at, found in enumerate(listed) for scope in found)
