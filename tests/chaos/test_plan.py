"""Promise: what a seed decides is decided before anything runs; a storm has everything in it."""

import pytest

from orchestrator.core.limits import CLAIM_TTL_MS, LEASE_TTL_MS
from tests.chaos.faults import CALM_S, KINDS, Action, Victim
from tests.chaos.orders import Kind
from tests.chaos.storm import Setting

SEEDS = range(50)


def drawn(seed: int, orders: int = 40, seconds: float = 17.0) -> Setting:
    return Setting(orders=orders, seed=seed, seconds=seconds)


@pytest.mark.parametrize("orders", [40, 200])
def test_the_same_seed_draws_the_same_storm(orders: int) -> None:
    assert drawn(7, orders).draw() == drawn(7, orders).draw()
    assert drawn(7, orders).draw() != drawn(8, orders).draw()


def test_every_storm_hits_every_kind_of_victim_in_every_way() -> None:
    for seed in SEEDS:
        _, faults = drawn(seed).draw()
        assert {(fault.victim, fault.action) for fault in faults} == set(KINDS)
        assert all(CALM_S <= fault.at_s <= 17.0 for fault in faults)
        assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)


def test_every_storm_stops_a_worker_and_an_orchestrator_beyond_what_they_hold() -> None:
    for seed in SEEDS:
        _, faults = drawn(seed).draw()
        for victim in (Victim.WORKER, Victim.ORCHESTRATOR):
            stops = [f for f in faults if f.victim is victim and f.action is Action.STOP]
            assert max(stop.lasting_s for stop in stops) > max(LEASE_TTL_MS, CLAIM_TTL_MS) / 1000


def test_every_storm_has_orders_of_every_kind_and_crashes_between_effect_and_outcome() -> None:
    for seed in SEEDS:
        orders, _ = drawn(seed, 200, 80.0).draw()
        assert {plan.kind for plan in orders} == set(Kind)
        assert len({plan.id for plan in orders}) == 200
        modes = {switch.mode.value for plan in orders for switch in plan.switches}
        assert modes >= {"hang", "refuse", "fail", "crash_before", "crash_after"}
        assert any(plan.is_doubled for plan in orders)
        assert {m.is_by_door for plan in orders for m in plan.messages} == {True, False}


def test_no_task_of_an_order_has_two_switches() -> None:
    for seed in SEEDS:
        orders, _ = drawn(seed).draw()
        for plan in orders:
            tasks = [switch.task for switch in plan.switches]
            assert len(tasks) == len(set(tasks)), plan
