"""One process's way to the store, on which everything can go wrong.

The store itself is sound: a call is carried out whole, or not at all.  What goes wrong lies between
the caller and the store, and is drawn anew for each call; see `weather.CALL_FAULTS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.values import loads
from orchestrator.store.ports import Commit
from tests.simulation.attempts import Call
from tests.simulation.inboxes import Inboxes
from tests.simulation.scheduler import DEPTH_MAX, Actor, Killed, Scheduler
from tests.simulation.server import Server
from tests.simulation.story import Story
from tests.simulation.watch import Watch
from tests.simulation.weather import Weather, pause_ms

#: How long a call may wander before it is carried out after all.
_LATE_MS_MAX = 9_000


@dataclass(slots=True)
class Network:
    """What all sessions of a world share.

    Attributes:
        thaw_ms: Returns how long until the next frozen process goes on; None for none.
        away_until_ms: Nobody reaches the store before.
        posted: Told whenever something may have arrived in an inbox.
        sent: Told whenever messages may have gone to the broker.
        wires: Carries out calls whose caller has given up; nobody's actor.
    """

    server: Server
    scheduler: Scheduler
    weather: Weather
    watch: Watch
    inboxes: Inboxes
    story: Story
    rng: Random
    posted: Callable[[], None]
    sent: Callable[[], None] = lambda: None
    thaw_ms: Callable[[], int | None] = lambda: None
    away_until_ms: int = 0
    wires: Actor = field(default_factory=lambda: Actor("network"))

    def carry_out(self, who: str, call: Call) -> Any:
        """Have the store carry out a call, and watch it."""
        taken = self.inboxes.touched(call)
        answer = getattr(self.server, call.name)(*call.args, **call.kwargs)
        self.watch.passed(who, call.name, call, answer, self.scheduler.now_ms)
        if call.name in _TOLD and self.story.is_told:
            for line in _TOLD[call.name](call, answer):
                self.story.tell(who, line)
        self.inboxes.check(taken)
        if call.name == "post_outcome":
            self.inboxes.check_late(call, answer)
        elif call.name == "post":
            self.inboxes.check_open(call, answer)
        if call.name in _POSTING:
            self.posted()
        elif call.name == "commit":
            self.sent()
        return answer


class Session:
    """A store for one actor.  `is_spared` keeps the faults of single calls away."""

    def __init__(self, network: Network, actor: Actor, *, is_spared: bool = False) -> None:
        self._network = network
        self._actor = actor
        self._is_spared = is_spared
        #: Commits sent so far.
        self.commits = 0
        actor.epoch = network.server.epoch

    @property
    def is_stale(self) -> bool:
        """Whether the last answer came from a server that was restarted since."""
        return self._actor.epoch != self._network.server.epoch

    @property
    def partitions(self) -> int:
        """See `OwnerStore.partitions`."""
        return self._network.server.partitions

    def __getattr__(self, name: str) -> Any:
        def send(*args: Any, **kwargs: Any) -> Any:
            return self._send(Call(name, args, kwargs))

        self.__dict__[name] = send
        return send

    def _send(self, call: Call) -> Any:
        network = self._network
        self._check_line(call)
        weather = network.weather
        self.commits += call.name == "commit"
        if self._is_spared or not weather.rate:
            return network.carry_out(self._actor.name, call)
        if call.name == "commit" and any(map(_presumes, call.args[0])):
            fault = self._fault_of_presumption()
        elif network.rng.random() < weather.rate:
            fault = network.rng.choice(weather.calls)
        else:
            fault = None
        if fault is None:
            return network.carry_out(self._actor.name, call)
        if fault in ("cut", "unknown") and (call.name != "commit" or not call.args[0]):
            fault = "outage" if fault == "cut" else "lost"
        if fault == "late" and call.name == "start":
            # A start is known as a repetition for as long as its run is the latest of the id.
            fault = "lost"
        network.story.fault(self._actor.name, f"{fault.replace('_', ' ')}: {call.name}")
        return _FAULTS[fault](self, call)

    def _fault_of_presumption(self) -> str | None:
        """Return the fault of a commit that presumes something: here races are lost or won."""
        network = self._network
        if network.rng.random() < 0.3:
            return None
        if "pause_before" in network.weather.calls and network.rng.random() < 0.8:
            return "pause_before"
        return network.rng.choice(network.weather.calls)

    def _check_line(self, call: Call) -> None:
        """Raise unless the server can be reached, over a connection that it knows."""
        network, actor = self._network, self._actor
        if actor.is_doomed:
            raise Killed
        if max(network.away_until_ms, actor.cut_until_ms) > network.scheduler.now_ms:
            raise StoreUnavailable(call.name, "no connection")
        if actor.epoch != network.server.epoch:
            actor.epoch = network.server.epoch
            raise StoreUnavailable(call.name, "connection reset")

    def _carry_out(self, call: Call) -> Any:
        return self._network.carry_out(self._actor.name, call)

    def _outage(self, call: Call) -> Any:
        raise StoreUnavailable(call.name, "not sent")

    def _lost(self, call: Call) -> Any:
        self._carry_out(call)
        raise StoreUnavailable(call.name, "the answer was lost")

    def _late(self, call: Call) -> Any:
        network = self._network
        delay_ms, epoch = network.rng.randint(1, _LATE_MS_MAX), network.server.epoch
        frozen = replace(call, args=_frozen(call.args))

        def arrive() -> None:
            # What a restarted server had not read is gone with its connections.
            if epoch == network.server.epoch:
                network.story.fault(self._actor.name, f"{call.name} arrives after all")
                self._carry_out(frozen)

        network.scheduler.after(delay_ms, network.wires, arrive)
        raise StoreUnavailable(call.name, "timed out")

    def _echo(self, call: Call) -> Any:
        self._carry_out(call)
        return self._carry_out(call)

    def _cut(self, call: Call) -> Any:
        commits: Sequence[tuple[str, Commit]] = call.args[0]
        self._carry_out(replace(call, args=(commits[: self._network.rng.randrange(len(commits))],)))
        raise StoreUnavailable(call.name, "cut off in the middle")

    def _unknown(self, call: Call) -> Any:
        return [None if self._network.rng.random() < 0.5 else one for one in self._carry_out(call)]

    def _kill_before(self, _call: Call) -> Any:
        raise Killed

    def _kill_after(self, call: Call) -> Any:
        self._carry_out(call)
        raise Killed

    def _pause_before(self, call: Call) -> Any:
        self._pause()
        self._check_line(call)
        return self._carry_out(call)

    def _pause_after(self, call: Call) -> Any:
        answer = self._carry_out(call)
        self._pause()
        return answer

    def _pause(self) -> None:
        network = self._network
        if network.scheduler.depth >= DEPTH_MAX:
            return
        ms = pause_ms(network.rng)
        thaw_ms = network.thaw_ms()
        if thaw_ms is not None and network.rng.random() < 0.8:
            # Until just after somebody else goes on: what he does then meets what is sent here.
            ms = thaw_ms + network.rng.randint(1, 40)
        network.story.fault(self._actor.name, f"stopped for {ms} ms")
        network.scheduler.run_until(network.scheduler.now_ms + ms)
        network.story.tell(self._actor.name, "goes on")
        if self._actor.is_doomed:
            raise Killed


_FAULTS: Mapping[str, Callable[[Session, Call], Any]] = {
    "outage": Session._outage,
    "lost": Session._lost,
    "late": Session._late,
    "echo": Session._echo,
    "cut": Session._cut,
    "unknown": Session._unknown,
    "kill_before": Session._kill_before,
    "kill_after": Session._kill_after,
    "pause_before": Session._pause_before,
    "pause_after": Session._pause_after,
}

#: Calls after which somebody has something to do.
_POSTING = frozenset({"start", "post", "post_outcome", "release_lease"})


def _presumes(sent: tuple[str, Commit]) -> bool:
    """Return whether faults come often to a commit.

    One that gives an attempt up: there the races are.  One that lets a blocked run move: nothing
    else may ever arrive for it.
    """
    commit = sent[1]
    is_moving = commit.blocked is False
    return bool(commit.given_up or commit.unposted or commit.unclaimed or is_moving)


def _frozen(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments as they are on the wire: no longer the caller's to change."""
    return tuple(list(one) if isinstance(one, list) else one for one in args)


def _commit_lines(call: Call, answer: Any) -> list[str]:
    lines = []
    for (_, commit), result in zip(call.args[0], answer, strict=True):
        names = " ".join(_short(event.data) for event in commit.events)
        outcome = result.value if result is not None else "unknown"
        lines.append(f"commit {commit.key}: {names or 'no event'} -> {outcome}")
    return lines


def _short(data: bytes) -> str:
    event: Any = loads(data)
    parts = [str(event[name]) for name in ("step", "timer", "signal", "saga") if name in event]
    attempt = f".{event['attempt']}" if "attempt" in event else ""
    return f"{event['type']}({' '.join(parts)}{attempt})" if parts else str(event["type"])


#: How a call and its answer are told.
_TOLD: Mapping[str, Callable[[Call, Any], list[str]]] = {
    "commit": _commit_lines,
    "grant_lease": lambda call, answer: [f"takes partition {call.args[0]}"] if answer else [],
    "renew_leases": lambda call, answer: [f"lost partition {lost}" for lost in sorted(answer)],
    "release_lease": lambda call, answer: [f"gives partition {call.args[0]} back"],
    "claim": lambda call, answer: [f"claims {call.args[0]} -> {answer.answer.value}"],
    "post_outcome": lambda call, answer: [
        f"outcome of {call.args[0]}: {call.args[2]['kind']} -> {answer.value}"
    ],
    "start": lambda call, answer: [
        f"starts {call.args[0]} ({call.kwargs['request_id']}) -> {answer.answer.value} {answer.run}"
    ],
    "post": lambda call, answer: [
        f"{call.args[1].value} to {call.args[0]} -> {answer.answer.value}"
    ],
}
