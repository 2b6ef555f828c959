"""Goal: the adaptive interval wastes little more than one that knows when machines fail.

Method: 12 hours of work on a simulated clock.  Failures come after exponential times, the same ones
for every policy; each costs the work since the last save and a restart of a minute.  Saves are made
at the first end of an epoch where they are due; a failure during one loses it.  What is reported is
wall time beyond the work, as a share of it, mean of the runs.
"""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from orchestrator.training.interval import Adaptive, Interval, Observed, choose, young_daly

WORK_S = 12 * 3600.0
RESTART_S = 60.0
RUNS = 30

#: Given what was observed, the work after which to save.
Policy = Callable[[Observed], float]


def wasted(mtbf_s: float, save_s: float, epoch_s: float, policy: Policy, *, seed: int) -> float:
    """Return the wall time of one run beyond its work, as a share of it."""
    chance = random.Random(seed)
    wall_s, done_s, saved_s = 0.0, 0.0, 0.0
    fails_at_s = chance.expovariate(1 / mtbf_s)
    observed = Observed(blocked_s=save_s, save_s=save_s)
    while saved_s < WORK_S:
        due = done_s - saved_s >= policy(observed) or done_s >= WORK_S
        lasts_s = save_s if due else epoch_s
        if wall_s + lasts_s > fails_at_s:
            observed = observed.observe_failure(fails_at_s - wall_s)
            wall_s, done_s = fails_at_s + RESTART_S, saved_s
            fails_at_s = wall_s + chance.expovariate(1 / mtbf_s)
            continue
        wall_s += lasts_s
        if due:
            saved_s = done_s
            observed = observed.observe_save(save_s)
        else:
            done_s += epoch_s
            observed = observed.observe_chunk(epoch_s, steps=1)
    return wall_s / WORK_S - 1


def mean_wasted(mtbf_s: float, save_s: float, epoch_s: float, policy: Policy) -> float:
    """Return the mean of `wasted` over seeded runs, in percent."""
    runs = [wasted(mtbf_s, save_s, epoch_s, policy, seed=seed) for seed in range(RUNS)]
    return 100 * sum(runs) / RUNS


def adaptive(observed: Observed) -> float:
    """Return the interval under test."""
    found: Interval = choose(Adaptive(restart_s=RESTART_S), observed)
    assert found.tau_s is not None
    return found.tau_s


def knowing(mtbf_s: float, save_s: float) -> Policy:
    """Return the policy that knows the mean time between failures."""
    tau_s = young_daly(save_s, mtbf_s)
    return lambda observed: tau_s


def every(epochs: int, epoch_s: float) -> Policy:
    """Return the policy that saves after so many epochs."""
    return lambda observed: epochs * epoch_s


#: Time between failures, duration of a save, of an epoch; and the points that not knowing may cost.
SETTINGS = [
    (1800.0, 2.0, 30.0, 3.5),
    (1800.0, 30.0, 30.0, 3.5),
    # Twenty failures go by before a prior of 4 h is outweighed, and each interval too long costs
    # most where saves are dearest: 7.2 points, +- 0.4, over 400 runs.
    (1800.0, 120.0, 300.0, 10.0),
    (7200.0, 30.0, 30.0, 3.5),
    (7200.0, 2.0, 600.0, 3.5),
    (8 * 3600.0, 2.0, 30.0, 3.5),
    (48 * 3600.0, 30.0, 30.0, 3.5),
    (48 * 3600.0, 2.0, 30.0, 3.5),
]


@pytest.mark.parametrize(("mtbf_s", "save_s", "epoch_s", "points"), SETTINGS, ids=str)
def test_not_knowing_how_often_machines_fail_costs_few_points(
    mtbf_s: float, save_s: float, epoch_s: float, points: float
) -> None:
    known = mean_wasted(mtbf_s, save_s, epoch_s, knowing(mtbf_s, save_s))
    found = mean_wasted(mtbf_s, save_s, epoch_s, adaptive)
    assert found - known <= points, f"{found:.1f} % against {known:.1f} %"


def test_no_fixed_number_of_epochs_does_as_well_everywhere() -> None:
    def excess(policy: Callable[[float], Policy]) -> float:
        return max(
            mean_wasted(*setting, policy(setting[2])) - mean_wasted(*setting, knowing(*setting[:2]))
            for setting in ((1800.0, 30.0, 30.0), (1800.0, 2.0, 30.0), (48 * 3600.0, 30.0, 30.0))
        )

    for epochs in (1, 10, 50):
        assert excess(lambda epoch_s, n=epochs: every(n, epoch_s)) > 3.5  # type: ignore[misc]


def test_a_bound_on_overhead_that_holds_after_failures_costs_dearly() -> None:
    # Why the bound is soft: the same policy, held to it although machines fail every half hour.
    def held(observed: Observed) -> float:
        return max(adaptive(observed), 120.0 / Adaptive().overhead)

    soft = mean_wasted(1800.0, 120.0, 300.0, adaptive)
    hard = mean_wasted(1800.0, 120.0, 300.0, held)
    assert soft < 70
    assert hard > 2 * soft


def test_the_interval_finds_its_way_from_the_prior_to_the_truth() -> None:
    observed, intervals = Observed(blocked_s=30.0, save_s=30.0), []
    for _ in range(40):
        observed = observed.observe_chunk(1800.0, steps=60).observe_failure()
        intervals.append(adaptive(observed))
    assert all(later < earlier for earlier, later in pairwise(intervals))
    assert intervals[-1] == pytest.approx(young_daly(30.0, 1800.0), rel=0.15)
