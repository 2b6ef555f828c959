"""How long work stands still after a worker or an orchestrator was killed, or stopped for long.

Measured from the fault to what anybody can see in Redis: another lease holder of the partition; the
step's next attempt in history.

T1  The time in which nothing else was the matter (see `disturbance`) stays below ``BAR_S``.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError

from orchestrator.core import events as e
from orchestrator.core.limits import CLAIM_TTL_MS, LEASE_TTL_MS
from orchestrator.store.ports import AttemptKey, RunKey
from tests.acceptance.child import Child
from tests.acceptance.stack import PARTITIONS, Stack
from tests.chaos.disturbance import Disturbances
from tests.chaos.faults import Action, Fault

#: Ten at default settings, on a machine that has nothing else to do; which a storm's has.
BAR_S = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """Something that stood still for `seconds`, `quiet_s` of them with nothing else the matter."""

    what: str
    seconds: float
    quiet_s: float


@dataclass(slots=True)
class _Orphans:
    """Partitions whose owner was hit; after `until` it may have them itself again."""

    post: str
    owner: str
    began: float
    until: float
    partitions: set[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hit:
    """An attempt whose worker was killed: when, by this process's clock and by the server's."""

    key: AttemptKey
    began: float
    at_ms: int


class Takeovers:
    """Two threads use it: one hits and tells, the other one looks."""

    def __init__(self, stack: Stack, disturbances: Disturbances) -> None:
        self._stack = stack
        self._disturbances = disturbances
        self._orphans: list[_Orphans] = []
        self._hits: dict[AttemptKey, _Hit] = {}
        #: Of all partitions of an orchestrator together, one for each fault.
        self.of_partitions: list[Takeover] = []

    # --- what is hit -----------------------------------------------------------------------------

    def claims_of(self, worker: Child) -> list[AttemptKey]:
        """Return the attempts that a worker holds.

        Raises:
            RedisError: No answer.
        """
        redis, keys = self._stack.redis, self._stack.keys
        found = []
        for partition in range(PARTITIONS):
            for member in redis.zrange(keys.claims(partition), 0, -1):
                key = AttemptKey.parse(member.decode())
                steps = keys.steps(key.workflow_id, key.run)
                token = redis.hget(steps, f"{key.step}.claim") or b""
                # A claim's token begins with host, pid and a secret of its worker.
                if token.decode().split(":")[1:2] == [str(worker.pid)]:
                    found.append(key)
        return found

    def expect_attempts(self, worker: Child) -> None:
        """Note which attempts a worker holds, just before it, or a child of it, is killed."""
        began = time.monotonic()
        try:
            seconds, micros = self._stack.redis.time()
            for key in self.claims_of(worker):
                at_ms = seconds * 1000 + micros // 1000
                self._hits.setdefault(key, _Hit(key=key, began=began, at_ms=at_ms))
        except RedisError:
            return  # The server has just gone too: there is nothing to be measured.

    def expect_partitions(self, post: str, owner: Child, fault: Fault) -> None:
        """Note which partitions an orchestrator holds, just before it is hit for long enough."""
        if fault.action is Action.STOP and fault.lasting_s * 1000 <= LEASE_TTL_MS:
            return
        try:
            name = self._stack.owner_name(owner)
            held = {number for number, holder in self._leases().items() if holder == name}
        except RedisError:
            return  # as above
        if name and held:
            began = time.monotonic()
            until = began + fault.lasting_s if fault.action is Action.STOP else math.inf
            self._orphans.append(
                _Orphans(post=post, owner=name, began=began, until=until, partitions=held)
            )

    def _leases(self) -> dict[int, str]:
        """Return the owner's name by partition, of those that have one."""
        names = self._stack.redis.mget([self._stack.keys.lease(p) for p in range(PARTITIONS)])
        return {p: name.decode().rpartition("/")[0] for p, name in enumerate(names) if name}

    def note_standstill(self, began: float, ended: float) -> None:
        """The machine stood still between these instants, and nobody could take over."""
        self._disturbances.add_standstill(began, ended)

    # --- what became of it -----------------------------------------------------------------------

    def look(self) -> None:
        """Note which orphaned partitions have another owner by now.

        Raises:
            RedisError: No answer; look again.
        """
        if not self._orphans:
            return
        now, leases = time.monotonic(), self._leases()
        for orphans in list(self._orphans):
            if now >= orphans.until:
                self._orphans.remove(orphans)
                continue
            taken = {p for p in orphans.partitions if leases.get(p, orphans.owner) != orphans.owner}
            orphans.partitions -= taken
            if not orphans.partitions:
                self.of_partitions.append(self._measured(orphans.post, orphans.began, now))
                self._orphans.remove(orphans)

    def of_steps(self, histories: Mapping[RunKey, list[e.Event]]) -> Iterator[Takeover]:
        """Yield how long each attempt that lost its worker took to be followed by what came next.

        An attempt whose outcome came all the same, as its child was not the one, is not among them.
        """
        ends = {
            (key, event.step, event.attempt): event
            for key, events in histories.items()
            for event in events
            if isinstance(event, e.StepAttemptFailed | e.StepFailed)
            and event.kind in ("lost", "timed_out")
        }
        for key, hit in self._hits.items():
            end = ends.get((key.run_key, key.step, key.attempt))
            if end is not None:
                until = hit.began + (end.at_ms - hit.at_ms) / 1000
                yield self._measured(str(key), hit.began, until)

    def _measured(self, what: str, began: float, until: float) -> Takeover:
        # What was hit is the matter itself; a worker's name is no disturbance's.
        disturbed_s = self._disturbances.seconds(began, until, but=what)
        return Takeover(what=what, seconds=until - began, quiet_s=until - began - disturbed_s)


assert CLAIM_TTL_MS < BAR_S * 1000
assert LEASE_TTL_MS < BAR_S * 1000
