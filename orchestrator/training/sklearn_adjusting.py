"""What of a scikit-learn estimator may change while it trains, and to which numbers.

AJ1  Said here, and not asked of scikit-learn: a workflow checks an order where it arrives, without
     the library; and the library looks at its parameters no more once something was learned.
AJ2  What is taken here, it would take of a fresh estimator, and the other way round.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.core.values import Json
from orchestrator.training.errors import BadHyperparameter
from orchestrator.training.hyperparameters import Values


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`; `low` itself unless `is_open`."""

    low: float
    high: float = math.inf
    is_open: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a number lies in it."""
        return (self.low < value if self.is_open else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if self.low == -math.inf:
            return "any number"
        if self.high < math.inf:
            return f"{self.low:g} to {self.high:g}"
        return f"above {self.low:g}" if self.is_open else f"{self.low:g} or more"


_ANY, _FROM_0, _ABOVE_0, _SHARE = Range(-math.inf), Range(0), Range(0, is_open=True), Range(0, 1)
_LINEAR = {"alpha": _FROM_0, "eta0": _ABOVE_0, "l1_ratio": _SHARE}
#: Parameters that take effect at the next `partial_fit`, whatever was learned before.
ADJUSTABLE: Mapping[str, Mapping[str, Range]] = {
    "SGDClassifier": {**_LINEAR, "power_t": _ANY},
    "SGDRegressor": {**_LINEAR, "power_t": _ANY},
    "Perceptron": _LINEAR,
    "MLPClassifier": {
        "alpha": _FROM_0,
        "learning_rate_init": _ABOVE_0,
        "momentum": _SHARE,
        "power_t": _FROM_0,
    },
    "MultinomialNB": {"alpha": _FROM_0},
    "MiniBatchDictionaryLearning": {"alpha": _FROM_0},
}
#: The `learning_rate` of those that make their rate of `alpha` where it is "optimal".
_LEARNING_RATES = {"SGDClassifier": "optimal", "SGDRegressor": "invscaling"}


def is_adjustment(value: Json) -> bool:
    """Return whether a value is an object of numbers, which is all that can be said of it alone."""
    return isinstance(value, dict) and all(
        isinstance(to, int | float) and not isinstance(to, bool) and abs(to) <= sys.float_info.max
        for to in value.values()
    )


def check_adjustment(values: Values) -> None:
    """Refuse a parameter that the run's estimator has not, and a number that it does not take.

    Raises:
        BadHyperparameter: With those it has, and what each takes.
    """
    name, adjust, params = values["estimator"], values["adjust"], values["params"]
    assert isinstance(name, str), name
    assert isinstance(adjust, dict), adjust
    assert isinstance(params, dict), params
    known = ADJUSTABLE.get(name, {})
    wanted = ", ".join(f"{one} ({numbers})" for one, numbers in known.items()) or "nothing"
    for one, to in adjust.items():
        assert isinstance(to, int | float), to
        if one not in known or not known[one].holds(to):
            raise BadHyperparameter("adjust", f"{one}={to}"[:80], f"for {name}: {wanted}")
    rate = params.get("learning_rate", _LEARNING_RATES.get(name))
    if name in _LEARNING_RATES and rate == "optimal" and adjust.get("alpha") == 0:
        raise BadHyperparameter("adjust", "alpha=0", "above 0 where learning_rate is 'optimal'")
