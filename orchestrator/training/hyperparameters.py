"""What a trainer can be told, by name: which values fit, which may change while it trains.

HP1  What is in force is complete: every name the trainer knows has a value, no other name is there.
HP2  A *structural* value (the sizes of layers, of a batch) is fixed for a run: the tensors of its
     checkpoints have their shapes from it, and the positions of its batches.
HP3  An order that does not fit changes nothing: it is checked whole before any of it is taken.
     Checks are pure and import nothing heavy: a workflow makes them where an order arrives, so that
     none is acknowledged that a worker would refuse.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.core.values import Json
from orchestrator.training.errors import BadHyperparameter

#: Values by name, as JSON has them.
Values: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameter:
    """One thing a trainer can be told; `wanted` says in words what `accepts` decides."""

    name: str
    default: Json
    wanted: str
    accepts: Callable[[Json], bool]
    structural: bool = False

    def check(self, value: Json) -> None:
        """Refuse a value that does not fit.

        Raises:
            BadHyperparameter: With what was found and what would fit.
        """
        if not self.accepts(value):
            raise BadHyperparameter(self.name, repr(value)[:80], self.wanted)


class Hyperparameters:
    """Everything one trainer can be told.

    Args:
        known: Each by itself.
        together: Refuses, with `BadHyperparameter`, complete values of which each fits by itself.
    """

    def __init__(
        self, *known: Hyperparameter, together: Callable[[Values], None] = lambda values: None
    ) -> None:
        self._known = {one.name: one for one in known}
        self._together = together
        assert len(self._known) == len(known), "two hyperparameters share a name"
        for one in known:
            one.check(one.default)

    def __iter__(self) -> Iterator[Hyperparameter]:
        return iter(self._known.values())

    def complete(self, given: Values) -> dict[str, Json]:
        """Return `given` with the defaults of all that it does not name (HP1).

        Raises:
            BadHyperparameter: A name the trainer does not know, a value that does not fit, or
                values that do not fit together.
        """
        for name, value in given.items():
            if name not in self._known:
                raise BadHyperparameter(name, "a name unknown here", self._names())
            self._known[name].check(value)
        found = {one.name: given.get(one.name, one.default) for one in self}
        self._together(found)
        return found

    def changed(self, before: Values, change: Values) -> dict[str, Json]:
        """Return what is in force after `change` to the complete values `before` (HP2, HP3).

        Raises:
            BadHyperparameter: As `complete`; and a structural value that would change.
        """
        after = self.complete({**before, **change})
        for one in self:
            if one.structural and after[one.name] != before[one.name]:
                raise BadHyperparameter(
                    one.name,
                    f"{after[one.name]!r} in a run that has {before[one.name]!r}",
                    "it is fixed for a run: start another run with it",
                )
        return after

    def _names(self) -> str:
        return f"known: {', '.join(sorted(self._known)) or 'none'}"


def number(
    name: str, default: float, *, low: float, high: float, structural: bool = False
) -> Hyperparameter:
    """Return a finite number between `low` and `high`, both included."""

    def accepts(value: Json) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # Compared as it is: a whole number may be too large for a float.
        return abs(value) <= sys.float_info.max and low <= value <= high

    return Hyperparameter(
        name=name,
        default=default,
        wanted=f"a number from {low:g} to {high:g}",
        accepts=accepts,
        structural=structural,
    )


def whole(
    name: str, default: int, *, low: int, high: int, structural: bool = False
) -> Hyperparameter:
    """Return a whole number between `low` and `high`, both included."""

    def accepts(value: Json) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return Hyperparameter(
        name=name,
        default=default,
        wanted=f"a whole number from {low} to {high}",
        accepts=accepts,
        structural=structural,
    )


def one_of(name: str, *choices: str, structural: bool = False) -> Hyperparameter:
    """Return a choice; the first is the default."""
    return Hyperparameter(
        name=name,
        default=choices[0],
        wanted=f"one of {', '.join(choices)}",
        accepts=lambda value: value in choices,
        structural=structural,
    )


def sizes(name: str, *default: int, high: int, count_max: int) -> Hyperparameter:
    """Return a list of layer sizes, each from 1 to `high`; always structural."""

    def accepts(value: Json) -> bool:
        if not isinstance(value, list) or not 1 <= len(value) <= count_max:
            return False
        return all(type(size) is int and 1 <= size <= high for size in value)

    return Hyperparameter(
        name=name,
        default=list(default),
        wanted=f"a list of 1 to {count_max} whole numbers from 1 to {high}",
        accepts=accepts,
        structural=True,
    )
