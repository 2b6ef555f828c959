"""How often to save: what is known of a run, and the work after which a save pays.

I1  Pure: seconds come in as arguments and nothing is measured here.  What was chosen and from what
    is written into the log; a replay reads it and never computes it again.
I2  Saving is due at the first boundary of a chunk where the work since the last save has reached
    the interval.  How the chunks were cut changes no bit of the result.
I3  The bound on overhead holds only while no failure was seen.  Held to afterwards it turns 59 %
    of waste into 242 % where machines fail every half hour and a save takes two minutes
    (tests/training/test_interval_simulation.py): a run that fails often must save often.
I4  The interval is never shorter than a whole save takes: one is in flight at a time.

Source: Young 1974 and Daly 2006 for the interval; Du et al. for the threshold at the end of an
iteration; the mean time between failures is the posterior of an exponential with a Gamma prior.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import TypeAlias, assert_never

from orchestrator.core.values import Json
from orchestrator.training.errors import BadHyperparameter, BadRecord

#: How much the newest measurement counts in a mean.
EWMA_WEIGHT = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a run has shown so far; all in seconds.  `None` is not measured yet.

    `blocked_s` is how long a save keeps training waiting, `save_s` how long it takes until it is
    durable; they differ where saving goes on beside training.
    """

    blocked_s: float | None = None
    save_s: float | None = None
    step_s: float | None = None
    worked_s: float = 0.0
    failures: int = 0

    def observe_save(self, blocked_s: float, *, whole_s: float | None = None) -> "Observed":
        """Return what is known after one more save; `whole_s` is until it was durable."""
        whole = blocked_s if whole_s is None else whole_s
        return replace(
            self,
            blocked_s=_mean(self.blocked_s, blocked_s),
            save_s=_mean(self.save_s, whole),
            worked_s=self.worked_s + _seconds(blocked_s),
        )

    def observe_chunk(self, seconds: float, *, steps: int) -> "Observed":
        """Return what is known after `steps` more steps, which took `seconds`."""
        assert steps >= 1, steps
        return replace(
            self,
            step_s=_mean(self.step_s, seconds / steps),
            worked_s=self.worked_s + _seconds(seconds),
        )

    def observe_failure(self, lost_s: float = 0.0) -> "Observed":
        """Return what is known after a worker died unwarned, and `lost_s` of work with it.

        A preemption that was saved in time loses nothing, and is none.
        """
        return replace(self, failures=self.failures + 1, worked_s=self.worked_s + _seconds(lost_s))

    def as_json(self) -> Json:
        """Return what `observed_from_json` reads."""
        found: Json = asdict(self)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """Save as often as the measured cost of a save and the failures seen make it pay.

    Money is in one currency: `money_per_save` is what a checkpoint costs to write and keep,
    `money_per_hour` what the worker costs.  Both are needed for either to count.
    """

    #: Expected time between failures before any was seen; counts like one failure.  Simulated over
    #: 12 h, against an interval that knows the truth: 4 h cost up to 2.0 points of waste, and 7
    #: where failures come every half hour and a save takes two minutes; 24 h cost 10 and 20 there.
    prior_mtbf_s: float = 4 * 3600.0
    #: The share of time that saving may take while nothing has failed (I3).
    overhead: float = 0.035
    #: Shorter is below what a task and its messages take; longer loses more than a person accepts.
    tau_min_s: float = 10.0
    tau_max_s: float = 30 * 60.0
    #: From a worker's death until another is training, and until the death is noticed.
    restart_s: float = 60.0
    detect_s: float = 30.0
    money_per_save: float = 0.0
    money_per_hour: float = 0.0

    def __post_init__(self) -> None:
        _check("prior_mtbf_s", self.prior_mtbf_s, low=1.0)
        _check("overhead", self.overhead, low=1e-6)
        _check("tau_min_s", self.tau_min_s, low=0.001)
        _check("tau_max_s", self.tau_max_s, low=self.tau_min_s)
        for name in ("restart_s", "detect_s", "money_per_save", "money_per_hour"):
            _check(name, getattr(self, name), low=0.0)


@dataclass(frozen=True, slots=True)
class EveryEpochs:
    """Save at the end of every `epochs`-th epoch, whatever it costs."""

    epochs: int = 1

    def __post_init__(self) -> None:
        if type(self.epochs) is not int or self.epochs < 1:
            raise BadHyperparameter("epochs", repr(self.epochs)[:80], "a whole number from 1")


Policy: TypeAlias = Adaptive | EveryEpochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What was chosen, why, and what it is expected to cost.

    Exactly one of `tau_s` (work since the last save) and `epochs` decides.  `waste` is the share of
    time that goes into saves, into work done twice, and into restarts.
    """

    tau_s: float | None
    epochs: int | None
    reason: str
    save_cost_s: float | None = None
    mtbf_s: float | None = None
    waste: float | None = None
    money_per_hour: float | None = None

    def is_due(self, *, work_s: float, epochs: float) -> bool:
        """Return whether to save now, at the end of a chunk (I2); counted since the last save."""
        if self.tau_s is not None:
            return work_s >= self.tau_s
        return self.epochs is not None and epochs >= self.epochs

    def as_json(self) -> Json:
        """Return it as the event that records it has it (I1)."""
        found: Json = asdict(self)
        return found


def choose(policy: Policy, observed: Observed) -> Interval:
    """Return the interval that `policy` makes of what was observed."""
    match policy:
        case Adaptive():
            return _adaptive(policy, observed)
        case EveryEpochs():
            every = "every epoch" if policy.epochs == 1 else f"every {policy.epochs} epochs"
            return Interval(tau_s=None, epochs=policy.epochs, reason=f"{every}, as ordered")
        case _:
            assert_never(policy)


def young_daly(save_cost_s: float, mtbf_s: float) -> float:
    """Return the work between two saves that wastes least, in seconds (Daly's higher order)."""
    if save_cost_s >= 2 * mtbf_s:
        return mtbf_s
    part = save_cost_s / (2 * mtbf_s)
    return math.sqrt(2 * save_cost_s * mtbf_s) * (1 + math.sqrt(part) / 3 + part / 9) - save_cost_s


def _adaptive(policy: Adaptive, observed: Observed) -> Interval:
    mtbf_s = (policy.prior_mtbf_s + observed.worked_s) / (1 + observed.failures)
    if observed.blocked_s is None:
        reason = "no save was measured yet: as early as allowed"
        return Interval(tau_s=policy.tau_min_s, epochs=None, reason=reason, mtbf_s=mtbf_s)
    cost_s = observed.blocked_s + _money_s(policy)
    tau_s, reason = young_daly(cost_s, mtbf_s), "least waste by Young and Daly"
    floor_s = cost_s / policy.overhead
    if observed.failures == 0 and tau_s < floor_s:
        tau_s, reason = floor_s, f"nothing failed yet: saving takes {policy.overhead:.1%} at most"
    if tau_s < policy.tau_min_s:
        tau_s, reason = policy.tau_min_s, "the shortest allowed"
    elif tau_s > policy.tau_max_s:
        tau_s, reason = policy.tau_max_s, "the longest allowed"
    if observed.save_s is not None and tau_s < observed.save_s:
        tau_s, reason = observed.save_s, "as long as one save takes: one is in flight at a time"
    lost_s = policy.restart_s + policy.detect_s
    waste = _share(cost_s, tau_s) + tau_s / (2 * mtbf_s) + lost_s / mtbf_s
    return Interval(
        tau_s=tau_s,
        epochs=None,
        reason=reason,
        save_cost_s=cost_s,
        mtbf_s=mtbf_s,
        waste=waste,
        money_per_hour=waste * policy.money_per_hour if policy.money_per_hour else None,
    )


def _money_s(policy: Adaptive) -> float:
    """Return the worker's time that a checkpoint's money would buy, in seconds."""
    if not policy.money_per_hour:
        return 0.0
    return policy.money_per_save / (policy.money_per_hour / 3600)


def _share(cost_s: float, tau_s: float) -> float:
    return cost_s / tau_s if tau_s else 0.0


def observed_from_json(value: Json) -> Observed:
    """Return what `Observed.as_json` wrote.

    Raises:
        BadRecord: Not such JSON.
    """
    names = {"blocked_s", "save_s", "step_s", "worked_s", "failures"}
    if not isinstance(value, dict) or value.keys() != names:
        raise BadRecord("what was observed", repr(value)[:60], f"an object of {sorted(names)}")
    for name, part in value.items():
        number = type(part) in (int, float) and math.isfinite(float(str(part)))
        if not (number and float(str(part)) >= 0) and not (part is None and name in _OPTIONAL):
            raise BadRecord(f"what was observed, {name}", repr(part)[:60], "a number from 0")
    if type(value["failures"]) is not int:
        raise BadRecord("what was observed, failures", repr(value["failures"])[:60], "a count")
    fields: dict[str, object] = {**value}
    return Observed(**fields)  # type: ignore[arg-type]  # checked above, by name


_OPTIONAL = ("blocked_s", "save_s", "step_s")


def _seconds(value: float) -> float:
    assert math.isfinite(value), value
    assert value >= 0, value
    return value


def _mean(before: float | None, newest: float) -> float:
    if before is None:
        return _seconds(newest)
    return (1 - EWMA_WEIGHT) * before + EWMA_WEIGHT * _seconds(newest)


def _check(name: str, value: float, *, low: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < math.inf:
        raise BadHyperparameter(name, repr(value)[:80], f"a number from {low}")
