"""A partition has one owner at a time, and a dead owner's partitions are free after the lease."""

from orchestrator.store.ports import CommitResult
from tests.store.world import LONG_MS, OWNER, TOKEN, World


def test_lease_is_granted_to_one_owner(world: World) -> None:
    assert world.store.grant_lease(3, "one", "a", ttl_ms=LONG_MS)
    assert not world.store.grant_lease(3, "two", "b", ttl_ms=LONG_MS)
    assert world.store.grant_lease(4, "two", "b", ttl_ms=LONG_MS)


def test_lease_granted_again_under_the_same_token_is_held(world: World) -> None:
    assert world.store.grant_lease(3, "one", "a", ttl_ms=LONG_MS)
    assert world.store.grant_lease(3, "one", "a", ttl_ms=LONG_MS)
    assert world.store.renew_leases({3: "a"}, ttl_ms=LONG_MS) == set()


def test_owner_replaces_its_own_lease_and_its_old_token_writes_nothing(world: World) -> None:
    key = world.open_run()
    assert world.store.grant_lease(world.partition(), OWNER, "lease-2", ttl_ms=LONG_MS)
    assert world.commit(key, ["old"], token=TOKEN) is CommitResult.FENCED
    assert world.commit(key, ["new"], token="lease-2") is CommitResult.COMMITTED


def test_owner_whose_name_begins_like_the_holder_gets_nothing(world: World) -> None:
    assert world.store.grant_lease(3, "host/one", "a", ttl_ms=LONG_MS)
    assert not world.store.grant_lease(3, "host", "b", ttl_ms=LONG_MS)
    assert not world.store.grant_lease(3, "host/on", "b", ttl_ms=LONG_MS)


def test_expired_lease_is_free(world: World) -> None:
    assert world.store.grant_lease(3, "one", "a", ttl_ms=5)
    world.pass_ms(10)
    assert world.store.grant_lease(3, "two", "b", ttl_ms=LONG_MS)


def test_renewal_names_the_partitions_that_are_lost(world: World) -> None:
    assert world.store.grant_lease(1, "one", "a", ttl_ms=LONG_MS)
    assert world.store.grant_lease(2, "two", "b", ttl_ms=LONG_MS)
    assert world.store.grant_lease(3, "one", "c", ttl_ms=5)
    world.pass_ms(10)
    tokens = {1: "a", 2: "a", 3: "c", 4: "d"}
    assert world.store.renew_leases(tokens, ttl_ms=LONG_MS) == {2, 3, 4}
    assert world.store.renew_leases({}, ttl_ms=LONG_MS) == set()


def test_renewed_lease_outlives_its_first_term(world: World) -> None:
    assert world.store.grant_lease(1, "one", "a", ttl_ms=200)
    assert world.store.renew_leases({1: "a"}, ttl_ms=LONG_MS) == set()
    world.pass_ms(250)
    assert not world.store.grant_lease(1, "two", "b", ttl_ms=LONG_MS)


def test_released_lease_is_free_at_once(world: World) -> None:
    assert world.store.grant_lease(1, "one", "a", ttl_ms=LONG_MS)
    world.store.release_lease(1, "a")
    world.store.release_lease(1, "a")
    assert world.store.grant_lease(1, "two", "b", ttl_ms=LONG_MS)


def test_release_under_an_old_token_releases_nothing(world: World) -> None:
    assert world.store.grant_lease(1, "one", "a", ttl_ms=LONG_MS)
    world.store.release_lease(1, "b")
    assert not world.store.grant_lease(1, "two", "b", ttl_ms=LONG_MS)


def test_orchestrators_that_report_are_listed_until_they_fall_silent(world: World) -> None:
    assert world.store.report_orchestrator("b", ttl_ms=LONG_MS) == ["b"]
    assert world.store.report_orchestrator("c", ttl_ms=300) == ["b", "c"]
    assert world.store.report_orchestrator("a", ttl_ms=LONG_MS) == ["a", "b", "c"]
    world.pass_ms(400)
    assert world.store.report_orchestrator("a", ttl_ms=LONG_MS) == ["a", "b"]
    world.store.retire_orchestrator("b")
    world.store.retire_orchestrator("b")
    assert world.store.report_orchestrator("a", ttl_ms=LONG_MS) == ["a"]


def test_whoever_looks_is_told_until_when_each_report_holds(world: World) -> None:
    assert world.store.list_orchestrators() == {}
    before_ms = world.store.now_ms()
    world.store.report_orchestrator("silent", ttl_ms=300)
    world.store.report_orchestrator("alive", ttl_ms=LONG_MS)
    world.pass_ms(400)
    found = world.store.list_orchestrators()
    assert set(found) == {"alive", "silent"}
    assert before_ms + 300 <= found["silent"] <= world.store.now_ms()
    assert found["alive"] >= before_ms + LONG_MS
