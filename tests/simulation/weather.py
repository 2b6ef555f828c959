"""Which faults a seed has, how often, and how long they last.

Every seed draws its own weather: a few kinds of faults, at one rate.  Seeds with all of them at
once would never get far; seeds with few reach deep places.  To add a kind of fault to store calls,
name it in `CALL_FAULTS` and say in `session.Session` what it does; one that comes by itself goes to
`ENVIRONMENT_FAULTS` and to `storm.Storm`.
"""

from dataclasses import dataclass
from random import Random

#: Faults of single store calls.
CALL_FAULTS = (
    "outage",  # not sent: nothing happened, and the caller learns that there is no answer
    "lost",  # carried out, the answer lost
    "late",  # no answer; carried out some time after the caller has given up waiting
    "echo",  # sent twice, as after a lost answer; the second answer counts
    "cut",  # of a pipeline only the first part is carried out
    "unknown",  # of a pipeline some answers are lost
    "kill_before",  # the caller is killed, its call not sent
    "kill_after",  # the caller is killed, its call carried out
    "pause_before",  # the caller is stopped for a while, and then sends
    "pause_after",  # the caller is stopped for a while before it sees the answer
)
#: Faults that come by themselves.
ENVIRONMENT_FAULTS = (
    "kill_node",
    "kill_worker",
    "kill_child",
    "freeze_node",
    "freeze_worker",
    "stop_node",  # a clean stop, and another start: hand-over
    "cut_off",  # one process does not reach the store
    "away",  # nobody does
    "restart",  # the server restarts, with everything it had
    "deploy",  # code with a bug comes, and goes
    "evict",  # the runs in memory leave it
)
#: What the broker does to messages.
BROKER_FAULTS = ("lose", "double", "hold", "reorder")

_RATES: tuple[float, ...] = (0.0, 0.001, 0.003, 0.01, 0.02, 0.05)
_PAUSE_RATES: tuple[float, ...] = (0.02, 0.1, 0.2)


@dataclass(slots=True)
class Weather:
    """The faults of one seed.

    Args:
        rate: Chance of a fault per store call.
        calls: The kinds of `CALL_FAULTS` that occur.
        environment: The kinds of `ENVIRONMENT_FAULTS` that occur.
        is_racy: Everybody stops and goes on, and nobody dies.
        interval_ms: Mean time between two of the environment's faults.
        broker: The kinds of `BROKER_FAULTS` that occur.
        broker_rate: Chance of one per message.
        loses_tail: Whether the server, once, comes back as it was some time ago.
        storm_ms: How long all that lasts.
    """

    rate: float
    calls: tuple[str, ...]
    environment: tuple[str, ...]
    is_racy: bool
    interval_ms: int
    broker: tuple[str, ...]
    broker_rate: float
    loses_tail: bool
    storm_ms: int

    @classmethod
    def drawn(cls, rng: Random) -> "Weather":
        """Return the weather of a seed."""
        calls, rates = _some(rng, CALL_FAULTS), _RATES
        environment = _some(rng, ENVIRONMENT_FAULTS)
        is_racy = rng.random() < 0.25
        if is_racy:
            calls, rates = ("pause_before", "pause_after"), _PAUSE_RATES
            environment = ("freeze_worker", "freeze_worker", "freeze_node", "cut_off")
        return cls(
            rate=rng.choice(rates),
            calls=calls,
            environment=environment,
            is_racy=is_racy,
            interval_ms=rng.choice((1_000, 3_000, 8_000, 20_000)),
            broker=_some(rng, BROKER_FAULTS),
            broker_rate=rng.choice((0.0, 0.05, 0.3)),
            loses_tail=rng.random() < 0.1,
            storm_ms=rng.choice((8_000, 15_000, 30_000, 60_000)),
        )

    def clear(self) -> None:
        """End all faults: the quiet time."""
        self.rate = self.broker_rate = 0.0
        self.environment = ()

    def __str__(self) -> str:
        tail = ", the server loses its tail" if self.loses_tail else ""
        return (
            f"{self.storm_ms / 1000:g} s of storm; {self.rate:.1%} of calls: "
            f"{' '.join(self.calls)}; every {self.interval_ms / 1000:g} s: "
            f"{' '.join(self.environment)}; {self.broker_rate:.0%} of messages: "
            f"{' '.join(self.broker)}{tail}"
        )


def _some(rng: Random, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Return a random part of `kinds`, at least one, mostly a few."""
    count = min(len(kinds), rng.choice((1, 2, 3, 4, len(kinds))))
    return tuple(rng.sample(kinds, count))


def pause_ms(rng: Random) -> int:
    """Return how long a process is stopped: a hiccup, a moment, or longer than a lease lasts."""
    moments = rng.randint(1, 40), rng.randint(1, 900), rng.randint(200, 3_000)
    return rng.choice((*moments, rng.randint(5_000, 16_000)))
