"""Promise: a workflow runs in a test as in the product, without a server and without waiting."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator import RunExists, WorkflowFailed
from orchestrator.core.errors import UsageError, WorkflowStuck
from orchestrator.testing import WorkflowEnvironment, call
from tests.testing import shop
from tests.testing.shop import Order

Env = WorkflowEnvironment
ORDER = Order(id="o")
DAYS_7 = timedelta(days=7)


# --- runs, signals, results ----------------------------------------------------------------------


def test_steps_run_their_own_bodies_and_results_come_in_the_declared_types(
    workflow_env: Env,
) -> None:
    handle = workflow_env.start(shop.paid, ORDER, id="order-1")
    assert handle.result() == ["p-o", 500]
    assert shop.EFFECTS == ["charge o order-1.1.1"]
    assert workflow_env.calls(shop.charge) == [call(ORDER)]


def test_async_and_pydantic_and_bound_and_local_bodies_run_as_a_worker_runs_them(
    workflow_env: Env,
) -> None:
    assert workflow_env.start(shop.shipped, "o").result() == "t-o"
    assert workflow_env.start(shop.halved, 8).result() == 4
    bound = workflow_env.start(shop.single, shop.bound.name, 3, id="b")
    assert bound.result() == ["b.1.1.1", False, 3]


def test_the_apps_own_calls_work_inside(workflow_env: Env) -> None:
    handle = shop.patient.start("word", id="w")
    assert shop.orc.run("w").status() == "running"
    assert handle.state() == {"waits": True}
    assert handle.query("length") == 4
    shop.orc.run("w").signal("word", "up")
    assert handle.state() == {"waits": False}
    assert handle.result() == "up"
    assert [run.workflow_id for run in shop.orc.list()] == ["w"]
    assert [one.type for one in handle.history()][-1] == "RunCompleted"
    assert handle.verify()
    shop.patient.start(id="w2")
    with pytest.raises(RunExists):
        shop.patient.start(id="w2")


def test_a_mock_takes_the_place_of_the_body_and_gets_the_declared_types(workflow_env: Env) -> None:
    seen: list[Any] = []

    def fake(order: Any) -> dict[str, str]:
        seen.append(order)
        return {"id": "fake"}

    workflow_env.mock(shop.charge, fake)
    workflow_env.mock(shop.refund, lambda order: seen.append(order))
    workflow_env.fail(shop.ship, "no lorry", times=None)
    with pytest.raises(WorkflowFailed, match="no lorry"):
        workflow_env.start(shop.undone, ORDER).result()
    assert seen == [ORDER, ORDER]
    assert shop.EFFECTS == []
    assert workflow_env.calls(shop.refund) == [call(ORDER)]


def test_an_async_mock_runs_too(workflow_env: Env) -> None:
    async def fake(order_id: str) -> str:
        return order_id * 2

    workflow_env.mock("tests.testing.shop.ship", fake)
    assert workflow_env.start(shop.shipped, "o").result() == "oo"


def test_a_step_that_nobody_knows_says_what_to_do(workflow_env: Env) -> None:
    handle = workflow_env.start(shop.single, "no.such.task")
    with pytest.raises(UsageError, match=r"no task and no function is named 'no.such.task'"):
        handle.result()


def test_a_result_that_is_a_failure_is_raised_as_always(workflow_env: Env) -> None:
    with pytest.raises(WorkflowFailed, match="OutOfStock: sold out"):
        workflow_env.start(shop.refuses).result()


def test_two_environments_know_nothing_of_each_other() -> None:
    for _ in range(2):
        with WorkflowEnvironment(shop.app) as env:
            assert env.start(shop.paid, ORDER, id="order-1").result() == ["p-o", 500]
            assert len(env.attempts()) == 1


def test_clients_on_an_event_loop_work_inside(workflow_env: Env) -> None:
    import asyncio

    async def client() -> list[Any]:
        handle = await shop.timers.aio.start(3, 24, id="t")
        order = shop.paid.start(ORDER)  # a blocking call in a running loop
        return [await handle.result(), order.result(), await handle.status()]

    assert asyncio.run(client()) == [3, ["p-o", 500], "completed"]


# --- time ----------------------------------------------------------------------------------------


def test_a_hundred_timers_over_seven_days_take_milliseconds(workflow_env: Env) -> None:
    started, wall = workflow_env.now, time.perf_counter()
    handle = workflow_env.start(shop.timers, 100, 1.68)
    assert handle.result() == 100
    assert workflow_env.now - started == DAYS_7
    assert time.perf_counter() - wall < 2, "it took 10 ms on the machine it was written on"


def test_the_clock_begins_where_the_test_wants_it_and_moves_only_when_asked() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    with WorkflowEnvironment(shop.orc, start_time=start) as env:
        handle = env.start(shop.timers, 2, 24)
        assert (handle.status(), env.now) == ("running", start)
        env.skip(hours=23, minutes=59)
        assert [one.type for one in handle.history()][-1] == "TimerStarted"
        env.skip(60)
        assert [one.at for one in handle.history() if one.type == "TimerFired"] == [
            start + timedelta(days=1)
        ]
        env.skip(DAYS_7)
        assert handle.status() == "completed"
        assert handle.describe().closed_at == start + timedelta(days=2)
        assert env.now == start + timedelta(days=8)
        with pytest.raises(UsageError, match="backwards"):
            env.skip(-1)


def test_a_signal_ends_a_wait_and_its_time_out_otherwise(workflow_env: Env) -> None:
    handle = workflow_env.start(shop.approved, ORDER, id="a")
    workflow_env.skip(days=6)
    handle.signal("approve", {"by": "ana"})
    assert handle.result() == "p-o by ana"
    late = workflow_env.start(shop.approved, ORDER, id="b")
    with pytest.raises(WorkflowFailed, match="TimeoutError"):
        late.result()


def test_a_result_waited_for_with_a_bound_waits_so_long_on_this_clock(workflow_env: Env) -> None:
    handle, before = workflow_env.start(shop.timers, 1, 24), workflow_env.now
    with pytest.raises(TimeoutError):
        handle.result(timeout=timedelta(hours=2))
    assert workflow_env.now - before == timedelta(hours=2)
    assert handle.result(timeout=timedelta(hours=22)) == 1


def test_a_run_that_waits_for_the_test_says_for_what(workflow_env: Env) -> None:
    handle = workflow_env.start(shop.patient, id="p")
    with pytest.raises(WorkflowStuck) as stuck:
        handle.result()
    assert "p is running, and nothing is due any more; it waits for:" in str(stuck.value)
    assert "signal 'go': handle.signal('go', …)" in str(stuck.value)
    assert "patient (tests/testing/shop.py:" in str(stuck.value)
    hold = workflow_env.hold(shop.charge)
    with pytest.raises(WorkflowStuck, match=r"step 1 tests.testing.shop.charge, attempt 1: held"):
        workflow_env.start(shop.paid, ORDER, id="q").result()
    assert len(hold.attempts) == 1


def test_permits_and_rates_work_inside_and_a_stuck_run_says_which_it_waits_for(
    workflow_env: Env,
) -> None:
    first = workflow_env.start(shop.one_by_one, "till", id="a")
    second = workflow_env.start(shop.one_by_one, "till", id="b")
    state = shop.orc.permits("till")
    assert [each.holder.workflow_id for each in state.holders] == ["a"]
    assert [holder.workflow_id for holder in state.waiters] == ["b"]
    with pytest.raises(WorkflowStuck, match=r"permit 1 of 'till'; see orc.permits\(\)"):
        second.result()
    first.signal("leave")
    second.signal("leave")
    assert second.result() - first.result() >= timedelta(hours=1).total_seconds()


def test_a_run_without_end_is_not_waited_for_without_end(
    workflow_env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.testing.world._JUMPS_MAX", 100)
    with pytest.raises(WorkflowStuck, match="after 100 timers no end is in sight"):
        workflow_env.start(shop.for_ever).result()


def test_children_run_and_end(workflow_env: Env) -> None:
    handle = workflow_env.start(shop.parent, 3, id="p")
    assert handle.result() == 4
    assert workflow_env.run("p.1.child-1").result() == 3


# --- what goes wrong ---------------------------------------------------------------------------


def test_a_failed_assertion_in_a_workflow_fails_the_test_where_it_happened(
    workflow_env: Env,
) -> None:
    handle = workflow_env.start(shop.wrong, 1, id="w")
    with pytest.raises(AssertionError, match="the books do not balance") as failed:
        handle.result()
    assert failed.traceback[-1].name == "wrong"
    assert failed.value.__notes__ == ["w run 1 is blocked by it"]
    assert handle.status() == "blocked", "it is told of once"


@pytest.mark.parametrize("ask", ["settle", "status", "skip"])
def test_whatever_the_test_asks_tells_it(workflow_env: Env, ask: str) -> None:
    handle = workflow_env.start(shop.buggy)
    asks = {
        "settle": workflow_env.settle,
        "status": handle.status,
        "skip": workflow_env.skip,
    }
    with pytest.raises(KeyError, match="missing") as failed:
        asks[ask]()
    assert failed.traceback[-1].name == "buggy"


def test_a_failed_assertion_counts_also_where_bugs_only_fail_the_run(workflow_env: Env) -> None:
    with pytest.raises(AssertionError) as failed:
        workflow_env.start(shop.wrong_but_fails, 1).result()
    assert failed.traceback[-1].name == "wrong_but_fails"


def test_a_failed_assertion_counts_in_every_version_of_a_workflow(workflow_env: Env) -> None:
    assert workflow_env.start(shop.versioned, 1).result() == 1
    with pytest.raises(AssertionError) as failed:
        workflow_env.start(shop.versioned_before, 1).result()
    assert failed.traceback[-1].name == "versioned_before"


def test_a_failed_assertion_in_a_group_of_tasks_is_found(workflow_env: Env) -> None:
    with pytest.raises(AssertionError, match="do not balance"):
        workflow_env.start(shop.wrong_in_a_group).result()


def test_a_failed_assertion_in_a_body_or_in_its_place_fails_the_test(workflow_env: Env) -> None:
    with pytest.raises(AssertionError, match="a step's own assertion"):
        workflow_env.start(shop.single, shop.asserts.name).result()

    def fake(order_id: str) -> None:
        assert order_id == "another"

    workflow_env.mock(shop.ship, fake)
    with pytest.raises(AssertionError) as failed:
        workflow_env.start(shop.shipped, "o").result()
    assert failed.traceback[-1].name == "fake"


def test_a_blocked_run_may_be_looked_at_where_the_test_wants_it() -> None:
    with WorkflowEnvironment(shop.orc, raise_blocked=False) as env:
        handle = env.start(shop.buggy)
        assert handle.status() == "blocked"
        with pytest.raises(WorkflowStuck, match="mended code: it is blocked, bug: KeyError"):
            handle.result()


# --- the orchestrator -----------------------------------------------------------------------------


def test_a_killed_orchestrator_replays_and_the_run_goes_on(workflow_env: Env) -> None:
    handle = workflow_env.start(shop.approved, ORDER)
    workflow_env.settle()
    workflow_env.crash()
    handle.signal("approve", {"by": "ana"})
    workflow_env.crash()
    assert handle.result() == "p-o by ana"
    assert len(workflow_env.attempts()) == 1


def test_replay_after_every_commit_finds_code_that_looks_elsewhere() -> None:
    for replays in (False, True):
        shop.OUTSIDE.clear()
        with WorkflowEnvironment(shop.orc, replay_every_turn=replays) as env:
            handle = env.start(shop.unsteady)
            handle.status()
            shop.OUTSIDE.append(True)
            handle.signal("go")
            if replays:
                with pytest.raises(Exception, match=r"nondeterminism: .*TimerStarted") as failed:
                    handle.result()
                assert "is blocked by it" in failed.value.__notes__[0]
            else:
                handle.result()


def test_everything_works_the_same_when_it_is_replayed_all_along() -> None:
    with WorkflowEnvironment(shop.orc, replay_every_turn=True) as env:
        assert env.start(shop.paid, ORDER).result() == ["p-o", 500]
        assert env.start(shop.timers, 20, 1).result() == 20
        assert env.start(shop.parent, 2).result() == 3
        waits = env.start(shop.patient)
        assert waits.query("length") == 2
        waits.signal("go", 1)
        assert waits.result() == 1


def test_time_passes_over_a_start_that_is_put_off_and_over_time_outs(workflow_env: Env) -> None:
    before = workflow_env.now
    soon = shop.patient.options(start_delay=DAYS_7, run_timeout=DAYS_7)
    handle = soon.start("word", id="w")
    with pytest.raises(WorkflowFailed, match="run_timeout was over"):
        handle.result()
    assert workflow_env.now - before >= 2 * DAYS_7
