"""H1-H5: a history is one line without gap; a commit lands once, whole, by the lease holder."""

from typing import Any

import pytest

from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.values import first_head
from orchestrator.store.ports import (
    CommitResult,
    InboxEntry,
    Kind,
    Message,
    RunKey,
    StepRow,
    TimerKind,
)
from tests.store.world import DONE, LONG_MS, OWNER, START, TOKEN, World, attempt, events, timer


def everything(world: World, key: RunKey) -> list[object]:
    """Return all that a commit can change, as it is now."""
    return [
        world.store.read_history(key),
        world.store.find_row(key.workflow_id),
        world.inbox(key.workflow_id),
        world.timers(key.workflow_id),
        world.expired_claims(key.workflow_id),
        [world.store.read_step(key, step) for step in (1, 2, 3)],
        world.store.list_blocked(world.partition(key.workflow_id)),
        world.queue("celery"),
        world.store.list_all_runs(world.partition(key.workflow_id)),
        world.listed(),
        world.listed("status:pending", "status:running"),
        world.listed("status:completed"),
    ]


def full_parts(world: World, key: RunKey) -> dict[str, Any]:
    """Return parts of a commit that touch everything."""
    return {
        "inbox_ids": [entry.id for entry in world.inbox(key.workflow_id)],
        "fields": {"status": "completed", "result": '{"a":1}'},
        "steps_sent": [StepRow(step=2, attempt=1), StepRow(step=3, attempt=1, local="me")],
        "steps_cancelled": [1],
        "timers_set": {timer(key, TimerKind.SLEEP, 7): 5},
        "messages": [Message(queue="celery", body=b"hello")],
        "blocked": True,
        "closed_at_ms": 9,
    }


def test_events_are_numbered_without_gap(world: World) -> None:
    key = world.open_run()
    world.commit(key, ["a", "b"])
    world.commit(key, ["c"])
    found = world.store.read_history(key)
    assert [event.seq for event in found] == [1, 2, 3, 4]
    assert [event.data for event in found] == [b"started", b"a", b"b", b"c"]
    assert found == events(key, ["started", "a", "b", "c"])


def test_what_was_read_after_a_number_follows_it(world: World) -> None:
    key = world.open_run()
    world.commit(key, ["a", "b", "c"])
    data = [event.data for event in world.store.read_history(key, after_seq=2)]
    assert data == [b"b", b"c"]
    assert [event.seq for event in world.store.read_history(key, after_seq=1, count=2)] == [2, 3]
    assert world.store.read_history(key, after_seq=4) == []
    assert world.store.read_history(key, count=0) == []
    assert world.store.read_history(RunKey(workflow_id="unknown", run=1)) == []


def test_bytes_of_an_event_come_back_as_they_were(world: World) -> None:
    key = world.open_run()
    data = '{"text":"naïve ☃ \\u0000","n":12345678901234567890,"list":[]}'
    world.commit(key, [data])
    assert world.store.read_history(key, after_seq=1)[0].data == data.encode()


def test_row_tells_seq_head_and_fields(world: World) -> None:
    key = world.open_run()
    row = world.store.find_row(key.workflow_id)
    assert row is not None
    assert row["seq"] == "1"
    assert row["head"] == events(key, ["started"])[-1].head
    world.commit(key, ["a"], fields={"status": "running", "state": '{"x":1}'})
    row = world.store.find_row(key.workflow_id)
    assert row is not None
    assert (row["seq"], row["status"], row["state"]) == ("2", "running", '{"x":1}')
    assert row["head"] == events(key, ["started", "a"])[-1].head


def test_commit_removes_the_inbox_entries_it_records(world: World) -> None:
    key = world.open_run()
    for name in ("one", "two"):
        world.store.post(key.workflow_id, Kind.SIGNAL, {"signal": name})
    first, second = world.inbox()
    world.commit(key, ["signal one"], inbox_ids=[first.id])
    assert world.inbox() == [second]


def test_refused_commit_leaves_its_inbox_entries(world: World) -> None:
    key = world.open_run()
    world.store.post(key.workflow_id, Kind.SIGNAL, {"signal": "one"})
    entries: list[InboxEntry] = world.inbox()
    ids = [entry.id for entry in entries]
    assert world.commit(key, ["a"], token="other", inbox_ids=ids) is CommitResult.FENCED
    assert world.inbox() == entries


def test_commit_under_a_lease_that_is_not_held_changes_nothing(world: World) -> None:
    key = world.open_run()
    world.send(key)
    before = everything(world, key)
    for token in ("lease-2", "1", "", f"{OWNER}/{TOKEN}"):
        parts = full_parts(world, key)
        assert world.commit(key, ["a"], token=token, **parts) is CommitResult.FENCED
    assert everything(world, key) == before


def test_commit_under_an_expired_lease_changes_nothing(world: World) -> None:
    key = world.open_run()
    world.store.renew_leases({world.partition(): TOKEN}, ttl_ms=5)
    world.pass_ms(10)
    assert world.commit(key, ["a"]) is CommitResult.FENCED
    assert len(world.store.read_history(key)) == 1


def test_paused_owner_writes_nothing_after_a_takeover(world: World) -> None:
    key = world.open_run()
    late = world.next_commit(key, ["late"])
    world.store.release_lease(world.partition(), TOKEN)
    assert world.store.grant_lease(world.partition(), "owner-2", "lease-2", ttl_ms=LONG_MS)
    assert world.store.commit([(TOKEN, late)]) == [CommitResult.FENCED]
    assert world.commit(key, ["new owner's"], token="lease-2") is CommitResult.COMMITTED


def test_repeated_commit_conflicts_and_changes_nothing(world: World) -> None:
    key = world.open_run()
    world.send(key)
    made = world.next_commit(key, ["a", "b"], **full_parts(world, key))
    assert world.store.commit([(TOKEN, made)]) == [CommitResult.COMMITTED]
    before = everything(world, key)
    assert world.store.commit([(TOKEN, made)]) == [CommitResult.CONFLICT]
    assert everything(world, key) == before
    assert world.queue("celery") == [b"hello"]


def test_repeated_first_commit_conflicts(world: World) -> None:
    world.store.start("order-42", request_id="r", body=START)
    world.lease()
    key = RunKey(workflow_id="order-42", run=1)
    made = world.next_commit(key, ["started"])
    assert world.store.commit([(TOKEN, made)] * 2) == [
        CommitResult.COMMITTED,
        CommitResult.CONFLICT,
    ]
    assert len(world.store.read_history(key)) == 1


def test_first_commit_follows_whatever_head_its_owner_computed(world: World) -> None:
    world.store.start("order-42", request_id="r", body=START)
    world.lease()
    key = RunKey(workflow_id="order-42", run=1)
    world.heads[key] = (0, first_head("order-42", 1))
    assert world.commit(key, ["started"]) is CommitResult.COMMITTED


@pytest.mark.parametrize("mistake", ["seq behind", "seq ahead", "head", "run", "unknown id"])
def test_commit_that_does_not_follow_the_head_changes_nothing(world: World, mistake: str) -> None:
    key = world.open_run()
    world.commit(key, ["a"])
    head = world.heads[key][1]
    wrong = {
        "seq behind": (key, 1, head),
        "seq ahead": (key, 3, head),
        "head": (key, 2, "0" * 64),
        "run": (RunKey(workflow_id=key.workflow_id, run=2), 2, head),
        "unknown id": (RunKey(workflow_id="nobody", run=1), 0, ""),
    }
    wrong_key, world_seq, wrong_head = wrong[mistake]
    world.lease(wrong_key.workflow_id)
    before = everything(world, key)
    world.heads[wrong_key] = (world_seq, wrong_head)
    assert world.commit(wrong_key, ["b"], **full_parts(world, key)) is CommitResult.CONFLICT
    assert everything(world, key) == before


def test_one_refused_commit_does_not_stop_the_others(world: World) -> None:
    one, two = world.open_run("one"), world.open_run("two")
    commits = [
        (TOKEN, world.next_commit(one, ["a"])),
        ("stale", world.next_commit(one, ["b"])),
        (TOKEN, world.next_commit(one, ["c"])),
        (TOKEN, world.next_commit(two, ["d"])),
    ]
    assert world.store.commit(commits) == [
        CommitResult.COMMITTED,
        CommitResult.FENCED,
        CommitResult.CONFLICT,
        CommitResult.COMMITTED,
    ]
    assert world.store.commit([]) == []


def test_messages_reach_the_broker_in_the_act_of_the_commit(world: World) -> None:
    key = world.open_run()
    messages = [
        Message(queue="celery", body=b"\x00first"),
        Message(queue="slow", body=b"other"),
        Message(queue="celery", body=b"second"),
    ]
    world.commit(key, ["a"], messages=messages)
    assert world.queue("celery") == [b"\x00first", b"second"]
    assert world.queue("slow") == [b"other"]
    assert world.store.read_outbox(world.partition(), count=9) == []


def test_messages_for_another_broker_wait_in_the_outbox(outbox_world: World) -> None:
    world = outbox_world
    key = world.open_run()
    messages = [Message(queue="celery", body=b"1"), Message(queue="slow", body=b"2")]
    world.commit(key, ["a"], messages=messages)
    found = world.store.read_outbox(world.partition(), count=9)
    assert [message for _, message in found] == messages
    assert [m for _, m in world.store.read_outbox(world.partition(), count=1)] == messages[:1]
    world.store.ack_outbox(world.partition(), [found[0][0]])
    world.store.ack_outbox(world.partition(), [found[0][0]])
    world.store.ack_outbox(world.partition(), [])
    assert world.store.read_outbox(world.partition(), count=9) == found[1:]
    assert world.queue("celery") == []


def test_blocked_runs_are_listed_until_unmarked(world: World) -> None:
    key = world.open_run()
    partition = world.partition()
    world.commit(key, ["a"], blocked=True)
    world.commit(key, ["b"])
    assert world.store.list_blocked(partition) == [key]
    world.commit(key, ["c"], blocked=False)
    assert world.store.list_blocked(partition) == []


def test_closed_run_leaves_nothing_of_its_steps(world: World) -> None:
    key = world.open_run()
    world.send(key, 1, start_to_close_ms=LONG_MS, heartbeat_ms=LONG_MS)
    world.send(key, 2)
    world.store.claim(attempt(key, 1), "worker", ttl_ms=1)
    unclaimed = timer(key, TimerKind.UNCLAIMED, 2, 1)
    world.commit(key, ["a"], timers_set={unclaimed: 5}, blocked=True)
    world.pass_ms(5)
    result = world.commit(key, ["end"], fields={"status": "completed"}, closed_at_ms=77)
    assert result is CommitResult.COMMITTED
    assert world.timers() == []
    assert world.expired_claims() == []
    assert world.store.read_step(key, 1) == {}
    assert world.store.list_blocked(world.partition()) == []
    assert world.listed("status:pending") == []
    (row,) = world.listed("status:completed")
    assert (row["workflow_id"], row["status"]) == (key.workflow_id, "completed")


def test_timer_that_is_removed_and_set_is_set(world: World) -> None:
    key = world.open_run()
    sleep, other = timer(key, TimerKind.SLEEP, 1), timer(key, TimerKind.SLEEP, 2)
    world.commit(key, ["a"], timers_set={sleep: 5, other: 6})
    world.commit(key, ["b"], timers_removed=[sleep, other], timers_set={sleep: 9})
    assert world.timers() == [str(sleep)]
    assert world.due_ms(str(sleep)) == 9


def test_step_the_owner_runs_itself_is_claimed_by_the_commit(world: World) -> None:
    key = world.open_run()
    before_ms = world.store.now_ms()
    own = world.send(key, start_to_close_ms=50, heartbeat_ms=40, local="owner-token")
    assert world.store.read_step(key, 1)["state"] == "claimed"
    assert world.store.claim(own, "worker", ttl_ms=9).answer.value == "refused"
    assert world.store.renew({own: "owner-token"}, ttl_ms=CLAIM_TTL_MS)[own].value == "granted"
    assert world.timers() == [f"heartbeat:{own}", f"start_to_close:{own}"]
    assert world.due_ms(f"heartbeat:{own}") >= before_ms + 40
    assert world.store.post_outcome(own, "owner-token", DONE).value == "posted"
    assert world.timers() == []


def test_commit_with_very_many_parts_lands_whole(world: World) -> None:
    key = world.open_run()
    count = 2_500
    timers = {timer(key, TimerKind.SLEEP, n): n for n in range(1, count * 2)}
    rows = [StepRow(step=n, attempt=1) for n in range(1, count)]
    fields = {f"f{n}": "x" for n in range(count)}
    result = world.commit(
        key,
        [str(n) for n in range(count)],
        timers_set=timers,
        steps_sent=rows,
        fields=fields,
        inbox_ids=[f"{n}-0" for n in range(1, count)],
    )
    assert result is CommitResult.COMMITTED
    assert len(world.timers()) == count * 2 - 1
    assert len(world.store.read_history(key)) == count + 1
    assert world.store.read_step(key, count - 1)["state"] == "scheduled"
    world.commit(key, ["gone"], timers_removed=list(timers))
    assert world.timers() == []


def test_commit_of_a_field_alone_changes_that_field_of_the_row(world: World) -> None:
    key = world.open_run()
    before = world.store.find_row(key.workflow_id)
    history = world.store.read_history(key)
    assert before is not None
    assert world.commit(key, fields={"rests": "why"}) is CommitResult.COMMITTED
    assert world.store.find_row(key.workflow_id) == {**before, "rests": "why"}
    assert world.store.read_history(key) == history
