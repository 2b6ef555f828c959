"""The interval is Young and Daly's, from what was measured, within its bounds, and says why."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.training.chunks import CHUNK_SECONDS_MIN, chunk_size
from orchestrator.training.errors import BadHyperparameter, BadRecord
from orchestrator.training.interval import (
    Adaptive,
    EveryEpochs,
    Interval,
    Observed,
    choose,
    observed_from_json,
    young_daly,
)

SECONDS = st.floats(0, 1e6, allow_nan=False)
FREE = Adaptive(tau_min_s=0.001, tau_max_s=1e9)


@pytest.mark.parametrize(
    ("cost_s", "mtbf_s", "tau_s"),
    # Worked by hand from Daly's series; the last two are at and beyond its edge.
    [
        (2, 1800, 83.5),
        (30, 7200, 637.5),
        (120, 1800, 579.7),
        (3600, 1800, 1800),
        (4000, 1800, 1800),
    ],
)
def test_the_interval_is_dalys(cost_s: float, mtbf_s: float, tau_s: float) -> None:
    assert young_daly(cost_s, mtbf_s) == pytest.approx(tau_s, abs=0.1)


@given(st.floats(0.01, 500), st.floats(3600, 1e6))
def test_no_interval_near_it_wastes_less(cost_s: float, mtbf_s: float) -> None:
    # Daly's complete model of the run time, of which the interval is the minimum to 2 %.
    def factor(tau_s: float) -> float:
        return math.expm1((tau_s + cost_s) / mtbf_s) * mtbf_s / tau_s

    tau_s = young_daly(cost_s, mtbf_s)
    best = min(factor(tau_s * part) for part in (0.5, 0.8, 0.9, 1.1, 1.25, 2.0))
    assert factor(tau_s) <= best * 1.0001


def test_measurements_are_means_that_follow_the_newest() -> None:
    found = Observed().observe_save(2.0).observe_chunk(30.0, steps=10).observe_chunk(60.0, steps=10)
    assert found.blocked_s == found.save_s == 2.0
    assert found.step_s == pytest.approx(0.7 * 3 + 0.3 * 6)
    assert found.worked_s == 92.0
    found = found.observe_save(4.0, whole_s=9.0)
    assert found.blocked_s == pytest.approx(2.6)
    assert found.save_s == pytest.approx(4.1)
    assert found.worked_s == 96.0
    assert found.observe_failure(10.0) == replace(found, failures=1, worked_s=106.0)


@pytest.mark.parametrize("failures", [0, 1, 5])
def test_time_between_failures_is_the_posterior_mean(failures: int) -> None:
    observed = Observed(blocked_s=2.0, worked_s=3600.0, failures=failures)
    assert choose(FREE, observed).mtbf_s == (4 * 3600 + 3600) / (1 + failures)


def test_money_counts_as_the_workers_time_it_would_buy() -> None:
    # 10 GB for a day at 0.023 a GB and month, on a worker at 3 an hour: 9.2 s more a save.
    policy = replace(FREE, money_per_save=0.00767, money_per_hour=3.0)
    found = choose(policy, Observed(blocked_s=2.0, failures=1))
    assert found.save_cost_s == pytest.approx(11.2, abs=0.01)
    assert found.money_per_hour == pytest.approx(3.0 * (found.waste or 0))
    free = choose(replace(FREE, money_per_save=0.00767), Observed(blocked_s=2.0, failures=1))
    assert (free.save_cost_s, free.money_per_hour) == (2.0, None)


def test_overhead_is_bounded_only_until_something_failed() -> None:
    slow = Observed(blocked_s=120.0)
    assert choose(FREE, slow).tau_s == pytest.approx(120 / 0.035)
    assert "nothing failed yet" in choose(FREE, slow).reason
    failed = slow.observe_failure()
    assert choose(FREE, failed).tau_s == pytest.approx(young_daly(120, 7200))
    assert "Young and Daly" in choose(FREE, failed).reason


@pytest.mark.parametrize(
    ("observed", "tau_s", "reason"),
    [
        (Observed(), 10.0, "no save was measured yet"),
        (Observed(blocked_s=0.001, failures=9), 10.0, "the shortest allowed"),
        (Observed(blocked_s=0.0), 10.0, "the shortest allowed"),
        (Observed(blocked_s=300.0), 1800.0, "the longest allowed"),
        (Observed(blocked_s=0.01, save_s=45.0), 45.0, "one is in flight"),
        (Observed(blocked_s=0.01, save_s=4000.0), 4000.0, "one is in flight"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bounds_hold_and_are_named(observed: Observed, tau_s: float, reason: str) -> None:
    found = choose(Adaptive(), observed)
    assert found.tau_s == tau_s
    assert reason in found.reason


@given(SECONDS, SECONDS, SECONDS, st.integers(0, 1000))
def test_whatever_was_measured_gives_an_interval_within_its_bounds(
    blocked_s: float, save_s: float, worked_s: float, failures: int
) -> None:
    policy = Adaptive(money_per_save=0.01, money_per_hour=2.0)
    observed = Observed(blocked_s=blocked_s, save_s=save_s, worked_s=worked_s, failures=failures)
    found = choose(policy, observed)
    assert found.tau_s is not None
    assert policy.tau_min_s <= found.tau_s <= max(policy.tau_max_s, save_s)
    assert found.tau_s >= save_s
    assert found.waste is not None
    assert math.isfinite(found.waste)
    assert choose(policy, observed_from_json(json.loads(json.dumps(observed.as_json())))) == found


def test_expected_waste_adds_saves_repeated_work_and_restarts() -> None:
    found = choose(FREE, Observed(blocked_s=2.0, worked_s=3600.0 * 4, failures=3))
    mtbf_s, tau_s = 7200.0, found.tau_s or 0
    assert found.mtbf_s == mtbf_s
    assert found.waste == pytest.approx(2 / tau_s + tau_s / 2 / mtbf_s + 90 / mtbf_s)


def test_a_save_is_due_when_the_work_has_reached_the_interval() -> None:
    found = choose(Adaptive(), Observed(blocked_s=0.001, failures=9))
    assert not found.is_due(work_s=9.99, epochs=100)
    assert found.is_due(work_s=10.0, epochs=0)


def test_every_n_epochs_counts_epochs_and_nothing_else() -> None:
    found = choose(EveryEpochs(3), Observed(blocked_s=100.0, failures=9))
    assert (found.tau_s, found.epochs, found.reason) == (None, 3, "every 3 epochs, as ordered")
    assert not found.is_due(work_s=1e9, epochs=2.5)
    assert found.is_due(work_s=0.0, epochs=3)
    assert choose(EveryEpochs(), Observed()).reason == "every epoch, as ordered"


@pytest.mark.parametrize(
    "make",
    [
        lambda: EveryEpochs(0),
        lambda: EveryEpochs(True),  # noqa: FBT003
        lambda: Adaptive(prior_mtbf_s=0),
        lambda: Adaptive(overhead=0.0),
        lambda: Adaptive(tau_min_s=0.0),
        lambda: Adaptive(tau_min_s=60.0, tau_max_s=30.0),
        lambda: Adaptive(money_per_hour=-1.0),
        lambda: Adaptive(restart_s=math.nan),
        lambda: Adaptive(detect_s=math.inf),
    ],
)
def test_a_policy_that_cannot_be_is_refused(make: Any) -> None:
    with pytest.raises(BadHyperparameter):
        make()


@pytest.mark.parametrize(
    "change",
    [
        {"failures": 1.5},
        {"failures": None},
        {"failures": -1},
        {"failures": True},
        {"worked_s": None},
        {"step_s": math.inf},
        {"step_s": "1"},
        {"blocked_s": -1.0},
        {"save_s": 10**400},
        {"more": 1},
    ],
    ids=str,
)
def test_what_nothing_observed_is_refused(change: Any) -> None:
    shown: Any = {**dict(Observed(blocked_s=1.0).as_json()), **change}  # type: ignore[arg-type]
    with pytest.raises(BadRecord):
        observed_from_json(shown)


def due(tau_s: float) -> Interval:
    """Return an interval of `tau_s`."""
    return Interval(tau_s=tau_s, epochs=None, reason="given")


@pytest.mark.parametrize(
    ("interval", "step_s", "per_epoch", "steps", "epochs"),
    [
        (due(60), None, 45, 0, 1),
        (due(60), 0.6, 45, 0, 1),  # an epoch of 27 s: within half the interval
        (due(60), 1.0, 45, 23, 0),  # of 45 s: two pieces
        (due(60), 10.0, 45, 3, 0),  # of 450 s: pieces of 30 s
        (due(60), 500.0, 45, 1, 0),  # a step beyond the interval is a chunk
        (due(60), 100.0, 1, 0, 1),  # and cannot be cut
        (due(60), 0.0006, 45, 0, 38),  # of 27 ms: a second of them
        (due(60), 0.0, 45, 0, 100),
        (due(0.05), 0.0002, 45, 0, 2),  # no more than half an interval
        (EveryEpochs(5), 0.0006, 45, 0, 3),  # two of five are done
        (EveryEpochs(2), 0.0006, 45, 0, 1),  # overdue
        (EveryEpochs(5), 500.0, 45, 0, 1),
    ],
)
def test_a_chunk_is_worth_its_task_and_ends_before_a_save_is_late(
    interval: Any, step_s: float | None, per_epoch: int, steps: int, epochs: int
) -> None:
    chosen = choose(interval, Observed()) if isinstance(interval, EveryEpochs) else interval
    found = chunk_size(chosen, step_s=step_s, steps_per_epoch=per_epoch, epochs_since_save=2)
    assert (found.steps, found.epochs) == (steps, epochs)
    assert found.reason


@given(st.floats(0.01, 1e4), st.floats(0, 1e3), st.integers(1, 10_000))
def test_no_chunk_makes_a_save_later_than_half_an_interval_and_a_step(
    tau_s: float, step_s: float, per_epoch: int
) -> None:
    found = chunk_size(due(tau_s), step_s=step_s, steps_per_epoch=per_epoch)
    steps = found.steps or found.epochs * per_epoch
    assert steps >= 1
    assert (found.steps == 0) != (found.epochs == 0)
    assert found.steps <= per_epoch
    assert steps * step_s <= tau_s / 2 * (1 + 1e-9) + step_s
    if found.epochs > 1:
        assert (found.epochs - 1) * per_epoch * step_s <= CHUNK_SECONDS_MIN
