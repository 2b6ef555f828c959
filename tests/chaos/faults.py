"""Which faults a storm has, and when: drawn from a seed before anything runs.

F1  The same seed and length give the same faults, in the same order, at the same instants.  What a
    fault meets depends on real time, and so does everything that follows from it.
F2  Every storm kills, and stops and continues, each kind of victim at least once; one orchestrator
    and one worker are stopped for longer than a lease or claim lasts.
"""

import random
from dataclasses import dataclass, replace
from enum import Enum

from orchestrator.core.limits import CLAIM_TTL_MS, LEASE_TTL_MS

#: One fault every so often, on average: a worker that starts takes two seconds to be of use.
GAP_S = 2.0
#: Nothing happens to a storm's processes before; orders are then under way.
CALM_S = 1.5
#: Whatever was held is another's by then.
_HELD_S = max(LEASE_TTL_MS, CLAIM_TTL_MS) / 1000
LONG_STOP_S = (_HELD_S + 1.0, _HELD_S + 3.0)


class Victim(Enum):
    """What is hit."""

    CHILD = "worker child"
    WORKER = "worker"
    ORCHESTRATOR = "orchestrator"
    SERVER = "server"


class Action(Enum):
    """What is done to it."""

    KILL = "killed"  #: SIGKILL; another one is started after a while, children by their worker
    STOP = "stopped"  #: SIGSTOP; SIGCONT after a while


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Args:
        at_s: Since the beginning of the storm.
        victim: See `Victim`.
        action: See `Action`.
        which: Chooses among the victims there are then, modulo their number.
        lasting_s: Until it is started again, or continued.
    """

    at_s: float
    victim: Victim
    action: Action
    which: int
    lasting_s: float

    def __str__(self) -> str:
        return f"{self.at_s:6.2f} s  {self.victim.value} {self.action.value}, {self.lasting_s} s"


#: How often, beyond the first of each.
_WEIGHTS = {
    (Victim.CHILD, Action.KILL): 5,
    (Victim.CHILD, Action.STOP): 2,
    (Victim.WORKER, Action.KILL): 3,
    (Victim.WORKER, Action.STOP): 2,
    (Victim.ORCHESTRATOR, Action.KILL): 3,
    (Victim.ORCHESTRATOR, Action.STOP): 3,
    (Victim.SERVER, Action.KILL): 1,
    (Victim.SERVER, Action.STOP): 1,
}
KINDS = tuple(_WEIGHTS)


def draw_faults(rng: random.Random, seconds: float) -> list[Fault]:
    """Return the faults of a storm of so many seconds, earliest first (F1, F2)."""
    count = max(len(KINDS), round((seconds - CALM_S) / GAP_S))
    more = rng.choices(KINDS, weights=list(_WEIGHTS.values()), k=count - len(KINDS))
    # Long stops first, so that they are over when the storm is.
    first = [kind for kind in KINDS if _is_stopped_long(*kind)]
    rest = [kind for kind in KINDS if not _is_stopped_long(*kind)] + more
    rng.shuffle(first)
    rng.shuffle(rest)
    slot_s = (seconds - CALM_S) / count
    faults = []
    for number, (victim, action) in enumerate([*first, *rest]):
        at_s = CALM_S + slot_s * (number + rng.random())
        fault = Fault(
            at_s=round(at_s, 2),
            victim=victim,
            action=action,
            which=rng.randrange(1000),
            lasting_s=_lasting_s(rng, victim, action),
        )
        if number < len(first):
            fault = replace(fault, lasting_s=round(rng.uniform(*LONG_STOP_S), 2))
        faults.append(fault)
    return faults


def _is_stopped_long(victim: Victim, action: Action) -> bool:
    return action is Action.STOP and victim in (Victim.ORCHESTRATOR, Victim.WORKER)


def _lasting_s(rng: random.Random, victim: Victim, action: Action) -> float:
    if action is Action.KILL:
        return round(rng.uniform(0.1, 3.0), 2)
    if victim is Victim.SERVER:
        # Silent for less, or a little more, than a client waits for an answer.
        return round(rng.choice([rng.uniform(0.2, 2.0), rng.uniform(5.2, 6.0)]), 2)
    return round(rng.choice([rng.uniform(0.3, 3.0), rng.uniform(*LONG_STOP_S)]), 2)
