"""I1-I4: a run is in the indexes that its row says, from its start on, and stays to be found."""

from collections.abc import Mapping

import pytest

from orchestrator.core.values import Json, canonical
from orchestrator.store import index_calls
from orchestrator.store.index_ports import IndexPage, Window, place_of
from orchestrator.store.ports import CommitResult, RunKey
from tests.store.conftest import client_of, keys_of
from tests.store.world import START, World


def attributes(**values: Json) -> dict[str, str]:
    """Return the field of a row."""
    return {"attributes": canonical(dict(values)).decode()}


def start(world: World, workflow_id: str, **values: Json) -> RunKey:
    """Start a run with attributes, and own its partition."""
    body: dict[str, Json] = {**START, "search_attributes": dict(values)}
    world.lease(workflow_id)
    started = world.store.start(workflow_id, request_id=f"r-{workflow_id}", body=body)
    return RunKey(workflow_id=workflow_id, run=started.run)


def ids(world: World, *indexes: str) -> list[str]:
    """Return the runs in any of these indexes, newest first."""
    return [f"{row['workflow_id']}.{row['run']}" for row in world.listed(*indexes)]


def pages(world: World, count: int, *indexes: str) -> list[list[str]]:
    """Return all pages of `count` runs."""
    found, after = [], None
    while True:
        page: IndexPage = world.store.page_runs(indexes, Window(count=count, after=after))
        found.append([row["workflow_id"] for _, row in page.rows])
        after = page.after
        if after is None:
            return found


def test_run_is_in_its_indexes_from_its_start_on(world: World) -> None:
    start(world, "order-42", customer="ana", vip=True)
    for index in (
        *("all", "open", "type:order", "status:pending"),
        *("has:customer", "is:customer=s:ana", "has:vip", "is:vip=b:True"),
    ):
        assert ids(world, index) == ["order-42.1"], index
    assert ids(world, "status:running", "is:customer=s:bo", "type:other") == []
    (row,) = world.listed()
    assert row["attributes"] == '{"customer":"ana","vip":true}'


def test_indexes_follow_the_row_in_the_commit_that_changes_it(world: World) -> None:
    key = start(world, "order-42", customer="ana", total=1)
    world.commit(key, ["a"], fields={"status": "running", **attributes(customer="bo", total=1)})
    assert ids(world, "status:pending") == ids(world, "is:customer=s:ana") == []
    assert ids(world, "status:running") == ids(world, "is:customer=s:bo") == ["order-42.1"]
    assert ids(world, "is:total=n:1") == ids(world, "has:customer") == ["order-42.1"]
    world.commit(key, ["b"], fields=attributes(total=1))
    assert ids(world, "is:customer=s:bo") == ids(world, "has:customer") == []
    world.commit(key, ["c"], fields={"result": "1"})
    assert ids(world, "status:running") == ids(world, "is:total=n:1") == ["order-42.1"]


def test_refused_commit_changes_no_index(world: World) -> None:
    key = start(world, "order-42", customer="ana")
    fields = {"status": "running", **attributes(customer="bo")}
    assert world.commit(key, ["a"], token="other", fields=fields) is CommitResult.FENCED
    assert ids(world, "status:pending", "is:customer=s:ana") == ["order-42.1"]
    assert ids(world, "status:running", "is:customer=s:bo") == []


def test_commit_sent_twice_leaves_one_entry_in_each_index(world: World) -> None:
    key = start(world, "order-42")
    made = world.next_commit(key, ["a"], fields={"status": "running", **attributes(n=1)})
    assert world.store.commit([("lease-1", made)]) == [CommitResult.COMMITTED]
    assert world.store.commit([("lease-1", made)]) == [CommitResult.CONFLICT]
    assert world.store.index_sizes(["all", "status:pending", "status:running", "has:n"]) == [
        *(1, 0, 1, 1)
    ]


def test_run_that_a_later_one_replaced_is_still_found_with_its_row(world: World) -> None:
    first = start(world, "order-42", customer="ana")
    ended = {"status": "failed", "failure": '{"type":"Sad"}', "closed_at_ms": "5"}
    world.commit(first, ["end"], fields=ended, closed_at_ms=5)
    assert ids(world, "open") == []
    world.pass_ms(2)
    body: dict[str, Json] = {**START, "search_attributes": {"customer": "bo"}}
    world.store.start("order-42", request_id="again", body=body)
    assert ids(world) == ["order-42.2", "order-42.1"]
    assert ids(world, "open") == ["order-42.2"]
    assert ids(world, "status:failed") == ids(world, "is:customer=s:ana") == ["order-42.1"]
    one, two, none = world.store.read_rows([("order-42", 1), ("order-42", 2), ("order-42", 3)])
    assert one is not None
    assert two is not None
    assert none is None
    assert (one["status"], one["failure"], one["run"]) == ("failed", '{"type":"Sad"}', "1")
    assert (two["status"], two["run"]) == ("pending", "2")
    assert "failure" not in two


def test_pages_show_every_run_once_whatever_starts_meanwhile(world: World) -> None:
    names = [f"order-{n}" for n in range(7)]
    for name in names:
        start(world, name)
    first = world.store.page_runs(["all"], Window(count=3))
    start(world, "later")
    rest = world.store.page_runs(["all"], Window(count=9, after=first.after))
    shown = [row["workflow_id"] for _, row in [*first.rows, *rest.rows]]
    # One that starts in the very millisecond of the last run shown may come after it.
    assert sorted(set(shown) - {"later"}) == names
    assert len(set(shown)) == len(shown)
    assert rest.after is None
    places = [place for place, _ in [*first.rows, *rest.rows]]
    assert places == sorted(places, reverse=True)


def test_pages_of_any_size_are_the_same_runs(world: World) -> None:
    for n in range(40):
        start(world, f"order-{n}", color="red" if n % 2 else "blue")
        if n % 3 == 0:
            world.pass_ms(1)
    whole = pages(world, 99, "all")[0]
    assert len(whole) == 40
    for count in (1, 2, 3, 5, 10, 39, 40, 41):
        found = pages(world, count, "all")
        assert [name for page in found for name in page] == whole
        assert all(0 < len(page) <= count for page in found)
    both = pages(world, 2, "is:color=s:red", "is:color=s:blue")
    assert [name for page in both for name in page] == whole


def test_partition_with_more_than_its_share_of_a_page_hides_nobody(world: World) -> None:
    one = world.partition("order-0")
    names = [f"order-{n}" for n in range(1_500)]
    crowd = [name for name in names if world.partition(name) == one][:60]
    others = [name for name in names if world.partition(name) != one][:20]
    two = world.partition(others[0])
    for name in [name for name in names if world.partition(name) == two][-40:]:
        start(world, name)
        world.pass_ms(1)
    for n, name in enumerate(crowd):
        start(world, name)
        if n % 3 == 0:
            start(world, others[n // 3])
            world.pass_ms(1)
    newest_first = [name for _, name in sorted(places(world), reverse=True)]
    assert len(newest_first) == 120
    for count in (30, 70, 119):
        assert [name for page in pages(world, count, "all") for name in page] == newest_first


def places(world: World) -> list[tuple[tuple[int, str], str]]:
    """Return every run's place and id, from its row."""
    found = []
    for partition in range(world.store.partitions):
        for row in world.store.read_rows(world.store.list_all_runs(partition)):
            assert row is not None
            found.append(row)
    return [
        (place_of(row["started_at_ms"], name, 1), name)
        for row, name in zip(found, all_names(world), strict=True)
    ]


def all_names(world: World) -> list[str]:
    return [n for p in range(world.store.partitions) for n, _ in world.store.list_all_runs(p)]


def test_run_that_changes_its_status_while_indexes_are_read_is_not_missed(
    server_world: World,
) -> None:
    # 1. running is read, without the run; 2. it moves from blocked to running; 3. blocked is read,
    # without it.
    world = server_world
    key = start(world, "order-42")
    world.commit(key, ["a"], fields={"status": "blocked"})
    client, has_moved = client_of(world), False
    flow = index_calls.page_runs(
        keys_of(world), ["status:running", "status:blocked"], Window(count=9)
    )
    calls = next(flow)
    while True:
        replies = []
        for call in calls:
            if "status:blocked" in str(call.command) and not has_moved:
                has_moved = True
                world.commit(key, ["b"], fields={"status": "running"})
            replies.append(client.execute_command(*call.command))
        try:
            calls = flow.send(replies)
        except StopIteration as stop:
            page: IndexPage = stop.value
            break
    assert has_moved
    assert [row["status"] for _, row in page.rows] == ["running"]


def test_page_keeps_to_the_bounds_of_the_start(world: World) -> None:
    for n in range(3):
        start(world, f"order-{n}")
        world.pass_ms(3)
    instants = [int(row["started_at_ms"]) for row in reversed(world.listed())]
    window = Window(count=9, newest_ms=instants[1], oldest_ms=instants[1])
    assert [r["workflow_id"] for _, r in world.store.page_runs(["all"], window).rows] == ["order-1"]
    window = Window(count=9, oldest_ms=instants[1])
    found = [r["workflow_id"] for _, r in world.store.page_runs(["all"], window).rows]
    assert found == ["order-2", "order-1"]


def rows_by_name(world: World) -> Mapping[tuple[str, int], dict[str, str]]:
    runs = [run for p in range(world.store.partitions) for run in world.store.list_all_runs(p)]
    rows = world.store.read_rows(runs)
    return {run: row for run, row in zip(runs, rows, strict=True) if row is not None}


def test_indexes_can_be_made_anew_at_any_time(world: World) -> None:
    first = start(world, "a", customer="ana")
    world.commit(first, ["end"], fields={"status": "failed"}, closed_at_ms=5)
    world.pass_ms(2)
    second = RunKey(workflow_id="a", run=world.store.start("a", request_id="r", body=START).run)
    world.commit(second, ["go"], fields={"status": "running", **attributes(customer="bo")})
    names = ["all", "open", "type:order", "status:failed", "status:running", "status:pending"]
    names += ["has:customer", "is:customer=s:ana", "is:customer=s:bo"]
    before = [world.listed(name) for name in names]
    if world.client is not None:
        for name in client_of(world).keys("orc:*:idx:*"):
            world.client.delete(name)
        assert world.listed() == []
    for _ in range(2):
        for (workflow_id, run), row in rows_by_name(world).items():
            assert world.store.reindex_run(workflow_id, run, row)
        assert [world.listed(name) for name in names] == before


def test_row_that_moved_on_is_not_made_anew(world: World) -> None:
    key = start(world, "a", customer="ana")
    (row,) = world.store.read_rows([("a", 1)])
    assert row is not None
    world.commit(key, ["go"], fields={"status": "running", **attributes(customer="bo")})
    assert not world.store.reindex_run("a", 1, row)
    assert ids(world, "status:running") == ids(world, "is:customer=s:bo") == ["a.1"]
    assert ids(world, "status:pending", "is:customer=s:ana") == []


@pytest.mark.parametrize("workflow_id", ["order.42", "größe ☃", "{3}:inbox", "a:b:c", "..1"])
def test_odd_ids_are_found_whole(world: World, workflow_id: str) -> None:
    first = start(world, workflow_id, who="größe {☃}\n")
    world.commit(first, ["end"], closed_at_ms=5)
    world.store.start(workflow_id, request_id="again", body=START)
    (row,) = world.listed("is:who=s:größe {☃}\n")
    assert (row["workflow_id"], row["run"]) == (workflow_id, "1")


def calls_of(world: World, act: object) -> dict[str, int]:
    """Return how often each command ran while `act` did."""
    client = client_of(world)

    def counted() -> dict[str, int]:
        stats = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}

    before = counted()
    act()  # type: ignore[operator]
    after = counted()
    found = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in found.items() if count and name != "info"}


def test_commit_that_moves_neither_status_nor_attributes_pays_nothing(real_world: World) -> None:
    world = real_world
    key = start(world, "order-42", customer="ana")
    world.commit(key, ["a"], fields={"status": "running"})
    plain = {"evalsha": 1, "get": 1, "hmget": 1, "time": 1, "xadd": 1, "hset": 1}
    assert calls_of(world, lambda: world.commit(key, ["b"])) == plain
    again = calls_of(world, lambda: world.commit(key, ["c"], fields={"status": "running"}))
    assert again == {**plain, "hset": 2}
    moved = calls_of(world, lambda: world.commit(key, ["d"], fields={"status": "parked"}))
    assert moved == {**plain, "hset": 2, "zadd": 1, "zrem": 1}
    upserted = attributes(customer="ana", total=1)
    found = calls_of(world, lambda: world.commit(key, ["e"], fields=upserted))
    assert found == {**plain, "hget": 1, "hset": 3, "zadd": 2}
