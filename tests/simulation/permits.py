"""What runs share: never more inside than the limit says, in growing fences, nothing kept.

The model is fed by commits, in their order: a permit is held from the commit that records its grant
to the one that gives it back, or that ends its run.  Fences are looked at where they are given.
After a lost tail it looks no more: what was granted then is held by runs that know nothing of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.store.ports import RunKey
from tests.simulation import histories
from tests.simulation.attempts import Call
from tests.simulation.broken import Broken
from tests.simulation.histories import Event

#: The keys that programs name, each with its limit.  Who is inside one asks only for later ones:
#: so nobody waits for somebody who waits for him.
KEYS: Mapping[str, int] = {"k1": 1, "k2": 2, "k3": 1}
#: Rates: slots, and the stretch in which there are so many.
RATES: Mapping[str, tuple[int, int]] = {"r1": (2, 3_000), "r2": (1, 1_500)}


@dataclass(slots=True)
class PermitModel:
    """See the module.

    Attributes:
        asked: The key of what a run has asked for, by its number of the permit.
        inside: Who holds a permit of a key.
        fences: The highest fence given so far, by key, and of every holder his own.
    """

    asked: dict[tuple[RunKey, int], str] = field(default_factory=dict)
    inside: dict[str, set[tuple[RunKey, int]]] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    fences: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    def passed(self, call: Call, answer: Any) -> None:
        """Look at the fences that a change of a key has given.

        Raises:
            Broken: One is not higher than all before it.
        """
        if call.name not in ("request_permit", "release_permit"):
            return
        key = call.args[0]
        for grant in answer:
            given = self.fences.setdefault((key, str(grant.holder)), set())
            if grant.fence in given:
                continue  # Told again.
            highest = self.highest.get(key, 0)
            if grant.fence <= highest:
                raise Broken("P2", f"fence of {key}", f"more than {highest}", grant.fence)
            self.highest[key] = grant.fence
            given.add(grant.fence)

    def recorded(self, run: RunKey, event: Event) -> None:
        """Look at an event that was just committed.

        Raises:
            Broken: It lets in more than the limit says, or under a fence that nobody gave.
        """
        name = event["type"]
        if name in histories.ENDINGS:
            for those in self.inside.values():
                those -= {one for one in those if one[0] == run}
        if "permit" not in event:
            return
        holder = run, event["permit"]
        if name == "PermitRequested" and event["kind"] == "permit":
            self.asked[holder] = event["key"]
        elif name == "PermitGranted" and holder in self.asked:
            self._enter(self.asked[holder], holder, event["fence"])
        elif name == "PermitReleased":
            self.inside.get(self.asked[holder], set()).discard(holder)

    def _enter(self, key: str, holder: tuple[RunKey, int], fence: int) -> None:
        inside = self.inside.setdefault(key, set())
        inside.add(holder)
        if len(inside) > KEYS[key]:
            found = sorted(f"{one}.{permit}" for one, permit in inside)
            raise Broken("P2", f"holders of {key}", f"{KEYS[key]} at most", found)
        run, number = holder
        if fence not in self.fences.get((key, f"{run}.{number}"), set()):
            raise Broken("P2", f"fence of {key} for {run}", "one that was given", fence)
