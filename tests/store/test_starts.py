"""H8: of two starts with one id one wins; messages go to runs that can take them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.core.limits import JOINED_REQUESTS_MAX
from orchestrator.core.values import Json
from orchestrator.store.ports import (
    Kind,
    Posted,
    PostedAnswer,
    RunKey,
    Start,
    StartAnswer,
)
from tests.store.world import START, World

ODD_IDS = ["order.42", "a/b/c", "größe ☃", "x.1.2.3", "{3}:inbox", "with space", "a:b:c", "..1"]


def test_start_opens_run_one_and_posts_its_input(world: World) -> None:
    before_ms = world.store.now_ms()
    started = world.store.start("order-42", request_id="r1", body=START)
    assert started == Start(answer=StartAnswer.STARTED, run=1, status="pending")
    (entry,) = world.inbox()
    assert (entry.kind, entry.workflow_id, entry.run) == (Kind.START, "order-42", 1)
    assert entry.body == START
    row = world.store.find_row("order-42")
    assert row is not None
    assert before_ms <= int(row.pop("started_at_ms")) <= world.store.now_ms()
    assert row == {"run": "1", "status": "pending", "type": "order", "request": "r1", "seq": "0"}


def test_repeated_start_changes_nothing(world: World) -> None:
    world.store.start("order-42", request_id="r1", body=START)
    again = world.store.start("order-42", request_id="r1", body=START)
    assert again == Start(answer=StartAnswer.REPEATED, run=1, status="pending")
    assert len(world.inbox()) == 1


def test_start_repeated_after_the_run_has_ended_starts_no_second_one(world: World) -> None:
    key = world.open_run(request_id="r1")
    world.commit(key, ["end"], fields={"status": "completed"}, closed_at_ms=5)
    again = world.store.start("order-42", request_id="r1", body=START)
    assert again == Start(answer=StartAnswer.REPEATED, run=1, status="completed")
    assert world.inbox() == []


def test_start_of_an_open_id_learns_which_run_is_open(world: World) -> None:
    key = world.open_run(request_id="r1")
    world.commit(key, ["a"], fields={"status": "running"})
    other = world.store.start("order-42", request_id="r2", body=START)
    assert other == Start(answer=StartAnswer.EXISTS, run=1, status="running")
    assert world.inbox() == []


def test_of_many_racing_starts_one_wins(world: World) -> None:
    with ThreadPoolExecutor(8) as pool:
        starts = [
            pool.submit(world.store.start, "order-42", request_id=f"r{n}", body=START)
            for n in range(16)
        ]
        answers = [start.result() for start in starts]
    assert sorted(answer.answer.value for answer in answers) == ["exists"] * 15 + ["started"]
    assert {answer.run for answer in answers} == {1}
    assert len(world.inbox()) == 1


def test_next_run_of_an_id_inherits_nothing(world: World) -> None:
    first = world.open_run(request_id="r1")
    fields = {"status": "failed", "failure": "{}", "state": "{}", "version": "3"}
    world.commit(first, ["end"], fields=fields, closed_at_ms=5)
    second = world.open_run(request_id="r2")
    assert second.run == 2
    row = world.store.find_row("order-42")
    assert row is not None
    fresh = {"run", "status", "type", "request", "started_at_ms", "seq", "head"}
    assert row.keys() == fresh | {"starts"}
    assert [event.data for event in world.store.read_history(first)] == [b"started", b"end"]
    assert [event.data for event in world.store.read_history(second)] == [b"started"]


@pytest.mark.parametrize("workflow_id", ODD_IDS)
def test_odd_ids_are_kept_apart_and_come_back_whole(world: World, workflow_id: str) -> None:
    key = world.open_run(workflow_id)
    sent = world.send(key)
    world.store.claim(sent, "one", ttl_ms=1)
    world.pass_ms(5)
    assert world.expired_claims(workflow_id) == [sent]
    assert world.commit(key, ["lost"], given_up=[sent], blocked=True) is not None
    assert world.store.list_blocked(world.partition(workflow_id)) == [key]
    world.store.post(workflow_id, Kind.SIGNAL, {"signal": "s"})
    assert [entry.workflow_id for entry in world.inbox(workflow_id)] == [workflow_id]
    (row,) = world.listed()
    assert row["workflow_id"] == workflow_id
    world.commit(key, ["end"], closed_at_ms=5)
    (row,) = world.listed()
    assert row["workflow_id"] == workflow_id


def test_ids_that_differ_by_a_run_number_do_not_meet(world: World) -> None:
    long, short = world.open_run("order.1"), world.open_run("order")
    world.lease("order.1")
    world.commit(short, ["a"])
    sent = world.send(RunKey(workflow_id="order", run=1), 1)
    assert world.store.read_step(long, 1) == {}
    assert len(world.store.read_history(long)) == 1
    world.store.claim(sent, "one", ttl_ms=9)
    assert world.store.read_step(short, 1)["claim"] == "one"


def test_message_names_the_run_that_was_open_when_it_was_sent(world: World) -> None:
    world.open_run()
    body: dict[str, Json] = {"signal": "approve", "signal_id": "s1", "payload": {"by": "ana"}}
    posted = world.store.post("order-42", Kind.SIGNAL, body)
    assert posted == Posted(answer=PostedAnswer.POSTED, run=1, status="pending")
    (entry,) = world.inbox()
    assert (entry.kind, entry.run, entry.body) == (Kind.SIGNAL, 1, body)


def test_message_for_a_named_run_says_so(world: World) -> None:
    world.open_run()
    assert world.store.post("order-42", Kind.CANCEL, {"reason": "x"}, run=1).run == 1
    assert [entry.run for entry in world.inbox()] == [1]


def test_message_for_nobody_is_told_so(world: World) -> None:
    unknown = world.store.post("nobody", Kind.SIGNAL, {"signal": "s"})
    assert unknown.answer is PostedAnswer.NOT_FOUND
    world.open_run()
    future = world.store.post("order-42", Kind.SIGNAL, {"signal": "s"}, run=2)
    assert future == Posted(answer=PostedAnswer.NOT_FOUND, run=2, status="")
    assert world.inbox() == []


def test_closed_run_takes_queries_only(world: World) -> None:
    key = world.open_run()
    world.commit(key, ["end"], fields={"status": "completed"}, closed_at_ms=5)
    for run in (0, 1):
        refused = world.store.post("order-42", Kind.SIGNAL, {"signal": "s"}, run=run)
        assert refused == Posted(answer=PostedAnswer.CLOSED, run=1, status="completed")
    asked = world.store.post("order-42", Kind.QUERY, {"query": "q"})
    assert asked == Posted(answer=PostedAnswer.POSTED, run=1, status="completed")
    assert [entry.kind for entry in world.inbox()] == [Kind.QUERY]


def test_run_that_a_later_one_replaced_takes_queries_only(world: World) -> None:
    key = world.open_run(request_id="r1")
    world.commit(key, ["end"], closed_at_ms=5)
    world.open_run(request_id="r2")
    refused = world.store.post("order-42", Kind.SIGNAL, {"signal": "s"}, run=1)
    assert refused == Posted(answer=PostedAnswer.CLOSED, run=1, status="")
    asked = world.store.post("order-42", Kind.QUERY, {"query": "q"}, run=1)
    assert asked.answer is PostedAnswer.POSTED
    assert [(entry.kind, entry.run) for entry in world.inbox()] == [(Kind.QUERY, 1)]


SIGNAL: dict[str, Json] = {"signal": "go", "signal_id": "s1", "payload": 1}


def test_start_with_a_message_opens_the_run_and_posts_it_behind_the_start(world: World) -> None:
    message = (Kind.SIGNAL, SIGNAL)
    started = world.store.start("order-42", request_id="r1", body=START, message=message)
    assert started == Start(answer=StartAnswer.STARTED, run=1, status="pending")
    first, second = world.inbox()
    assert (first.kind, second.kind) == (Kind.START, Kind.SIGNAL)
    assert (second.run, second.body) == (1, SIGNAL)
    again = world.store.start("order-42", request_id="r1", body=START, message=message)
    assert again.answer is StartAnswer.REPEATED
    assert len(world.inbox()) == 2


def test_message_of_a_start_goes_to_the_run_that_is_open_and_only_once(world: World) -> None:
    key = world.open_run(request_id="r1")
    message = (Kind.SIGNAL, SIGNAL)
    for answer in (StartAnswer.EXISTS, StartAnswer.REPEATED):
        found = world.store.start("order-42", request_id="r2", body=START, message=message)
        assert (found.answer, found.run) == (answer, 1)
    (entry,) = world.inbox()
    assert (entry.kind, entry.run, entry.body) == (Kind.SIGNAL, 1, SIGNAL)
    # Also once the run has ended, and another one has begun.
    world.commit(key, ["end"], fields={"status": "completed"}, closed_at_ms=5)
    for _ in range(2):
        again = world.store.start("order-42", request_id="r2", body=START, message=message)
        assert again.answer is StartAnswer.REPEATED
        world.store.start("order-42", request_id="r3", body=START)
    assert [one.kind for one in world.inbox()] == [Kind.SIGNAL, Kind.START]


def test_requests_that_joined_a_run_are_kept_within_a_bound(world: World) -> None:
    world.open_run(request_id="r1")
    for number in range(JOINED_REQUESTS_MAX + 3):
        world.store.start(
            "order-42", request_id=f"j{number}", body=START, message=(Kind.SIGNAL, SIGNAL)
        )
    row = world.store.find_row("order-42")
    assert row is not None
    kept = row["joined"].split()
    assert (len(kept), kept[0], kept[-1]) == (
        JOINED_REQUESTS_MAX,
        "j3",
        f"j{JOINED_REQUESTS_MAX + 2}",
    )
