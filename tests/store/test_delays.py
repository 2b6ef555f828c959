"""DY1: a run is put off in one commit without an event, and begins in another; each lands once."""

from typing import Any

from orchestrator.core.values import canonical
from orchestrator.store.ports import CommitResult, Kind, RunKey, TimerKind
from tests.store.world import START, World, timer


def _put_off(world: World) -> tuple[RunKey, dict[str, Any]]:
    started = world.store.start("order-42", request_id="r1", body={**START, "start_delay_ms": 5})
    world.lease()
    key = RunKey(workflow_id="order-42", run=started.run)
    fields = {"start": canonical(dict(START)).decode(), "begins_at_ms": "5"}
    parts: dict[str, Any] = {
        "inbox_ids": [entry.id for entry in world.inbox()],
        "fields": fields,
        "timers_set": {timer(key, TimerKind.START, 0): 5},
    }
    assert world.commit(key, **parts) is CommitResult.COMMITTED
    return key, parts


def test_run_that_is_put_off_is_open_and_has_its_start_in_the_row(world: World) -> None:
    key, parts = _put_off(world)
    assert world.inbox() == []
    assert world.timers() == [str(timer(key, TimerKind.START, 0))]
    row = world.store.find_row("order-42")
    assert row is not None
    assert (row["status"], row["seq"], row["begins_at_ms"]) == ("pending", "0", "5")
    assert row["start"] == parts["fields"]["start"]
    assert world.store.start("order-42", request_id="r2", body=START).answer.value == "exists"
    assert world.store.post("order-42", Kind.SIGNAL, {"signal": "s"}).answer.value == "posted"


def test_putting_off_lands_again_without_a_change_but_not_once_the_run_has_begun(
    world: World,
) -> None:
    key, parts = _put_off(world)
    before = world.store.find_row("order-42")
    assert world.commit(key, **parts) is CommitResult.COMMITTED
    assert world.store.find_row("order-42") == before
    late = world.next_commit(key, **parts)
    begun: dict[str, Any] = {"fields": {"start": "", "begins_at_ms": ""}}
    removed = [timer(key, TimerKind.START, 0)]
    assert world.commit(key, ["started"], timers_removed=removed, **begun) is (
        CommitResult.COMMITTED
    )
    assert world.store.commit([("lease-1", late)]) == [CommitResult.CONFLICT]
    row = world.store.find_row("order-42")
    assert row is not None
    assert (row["start"], world.timers()) == ("", [])
