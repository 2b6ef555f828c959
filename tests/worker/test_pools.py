"""Promise: steps run the same in every pool.

Claimed, renewed, and told to stop where that is possible.
"""

import pytest

from tests.worker.bench import Bench

POOLS = [("-P", "threads", "-c", "2"), ("-P", "solo")]


@pytest.mark.parametrize("pool", POOLS, ids=["threads", "solo"])
def test_steps_run_and_report(bench: Bench, pool: tuple[str, ...]) -> None:
    with bench.worker(*pool):
        assert bench.outcome(bench.send("add", 1, 2))["result"] == 3
        assert bench.outcome(bench.send("aio", 4, step=2))["result"]["value"] == 4
        assert bench.outcome(bench.send("fail", "no", step=3))["failure"]["type"] == "ValueError"
        assert bench.outcome(bench.send("audited", 5, step=4))["result"] == 5
        assert bench.outcome(bench.send("nobody.knows", step=5))["ran"] is False
        assert bench.outcome(bench.send("again", step=6))["failure"]["next_retry_delay_ms"] == 7000


@pytest.mark.parametrize("pool", POOLS, ids=["threads", "solo"])
def test_claim_lives_and_a_cancelled_body_can_see_it(bench: Bench, pool: tuple[str, ...]) -> None:
    with bench.worker(*pool):
        key = bench.send("stubborn", 60)
        bench.next_note()
        bench.watch_renewals(key, times=2)
        bench.commit(steps_cancelled=[1])
        assert bench.outcome(key)["result"] == "told to stop"


def test_cancelled_coroutine_is_stopped_in_a_thread(bench: Bench) -> None:
    with bench.worker("-P", "threads", "-c", "2"):
        key = bench.send("aio_sleep")
        bench.next_note()
        bench.commit(steps_cancelled=[1])
        assert bench.outcome(key)["kind"] == "cancelled"
        assert bench.diary() == ["aio cleans up"]


def test_refused_copy_does_not_run_in_a_thread(bench: Bench) -> None:
    with bench.worker("-P", "threads", "-c", "4"):
        key = bench.send("nap", 1)
        for _ in range(3):
            bench.push(bench.message(key, "nap", 1))
        assert bench.outcome(key)["result"] == "rested"
        assert bench.outcome(bench.send("add", 1, step=2))["result"] == 1
    assert [line.split()[0] for line in bench.diary()] == ["nap", "nap", "add"]


def test_spawned_children_run_steps_too(bench: Bench) -> None:
    with bench.worker("-c", "1", STEPS_POOL_START="spawn"):
        assert bench.outcome(bench.send("add", 1, 2))["result"] == 3
        key = bench.send("nap", 60, step=2)
        bench.next_note()
        bench.next_note()
        bench.commit(steps_cancelled=[2])
        assert bench.outcome(key)["kind"] == "cancelled"
