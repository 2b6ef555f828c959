"""One seed's world: a server, orchestrators, workers, clients, and the weather over them.

W1  The seed decides everything: which programs, which faults, who acts when.  Each of these has
    numbers of its own, so that a change in one leaves the others as they were.
W2  After the storm comes the quiet time: no faults, sound code, at least one orchestrator and one
    worker, people who decide.  Then everything must come to an end (P5).  Sound code comes a moment
    before, while calls still fail.
"""

from random import Random

from orchestrator.core import guard
from orchestrator.core.limits import BALANCE_INTERVAL_MS, LEASE_TTL_MS
from tests.engine.world import MemoryBlobs
from tests.simulation import programs
from tests.simulation.broken import Broken
from tests.simulation.broker import Broker
from tests.simulation.clients import Client, Desk, Person, plan
from tests.simulation.inboxes import Inboxes
from tests.simulation.nodes import LocalBodies, Node
from tests.simulation.scheduler import Actor, Scheduler
from tests.simulation.server import Server
from tests.simulation.service import Service
from tests.simulation.session import Network, Session
from tests.simulation.story import Story
from tests.simulation.watch import CLOCK_ERROR_MS, Watch
from tests.simulation.weather import Weather
from tests.simulation.workers import Bench, Surroundings, Worker

PARTITIONS = 2
#: Every run must have ended after so long a quiet time; a message that was lost again and again is
#: sent again after up to five minutes.
QUIET_MS_MAX = 45 * 60_000
#: In the quiet time no partition is without an owner for so long.
TAKEOVER_MS_MAX = LEASE_TTL_MS + 2 * BALANCE_INTERVAL_MS + 5_000
_LOOK_MS = 2_000
_HELP_MS = 3_000
#: What was still under way when the last run ended: late outcomes, messages held back.
_DRAIN_MS = 30_000


class World:
    """See the module.

    Attributes:
        ids: The workflows there are.
    """

    def __init__(self, seed: int, *, is_told: bool = False) -> None:
        guard.install()
        self.seed = seed
        self.scheduler = Scheduler()
        self.story = Story(self.scheduler, is_told=is_told)
        self.weather = Weather.drawn(self._numbers("weather"))
        shape = self._numbers("shape")
        self.shape = shape
        #: The environment's faults, also after they have ended.
        self.had = self.weather.environment
        is_elsewhere = shape.random() < 0.15
        self.server = Server(PARTITIONS, clock=self.scheduler.clock, direct=not is_elsewhere)
        self.watch = Watch(PARTITIONS)
        self.service = Service()
        self.network = Network(
            self.server,
            self.scheduler,
            self.weather,
            self.watch,
            Inboxes(self.server, self.watch),
            self.story,
            self._numbers("faults"),
            self._wake_owner,
        )
        self.broker = Broker(
            self.server,
            self.scheduler,
            self.weather,
            self.story,
            self._numbers("broker"),
            is_elsewhere=is_elsewhere,
        )
        self.broker.sent = self.network.sent = self._wake_workers
        self.network.thaw_ms = self._thaw_ms
        self.desk = Desk(self.scheduler, self.watch)
        self.around = self._surroundings()
        self.blobs = MemoryBlobs()
        self.nodes: list[Node] = []
        self.workers: list[Worker] = []
        self.is_buggy = False
        self.run_cache_max = shape.choice((1, 2, 100))
        self.worker_slots = shape.randint(1, 3)
        self.ids = [f"w{number}" for number in range(1, shape.choice((1, 2, 2, 3)) + 1)]
        self._engine_rng = self._numbers("engine")
        self._clocks = self._numbers("clocks")
        self._names = 0
        #: When a partition was first seen without an owner.
        self._ownerless: dict[int, int] = {}
        self._populate(shape)

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            scheduler=self.scheduler,
            service=self.service,
            watch=self.watch,
            weather=self.weather,
            rng=self._numbers("bodies"),
        )

    def _populate(self, shape: Random) -> None:
        for _ in range(shape.choice((1, 2, 2, 3))):
            self.add_node()
        for _ in range(shape.choice((1, 1, 2))):
            self.add_worker()
        self._add_clients()

    def _numbers(self, what: str) -> Random:
        return Random(f"{self.seed}:{what}")

    def _add_clients(self) -> None:
        growing, saying = self._numbers("programs"), self._numbers("starts")
        has_bugs = "deploy" in self.weather.environment
        self.clients = [
            Client(f"client{number}", self._session, self.desk, self._numbers(f"client{number}"))
            for number in range(1, self.shape.randint(1, 3) + 1)
        ]
        plan(
            self.clients,
            self._numbers("plan"),
            self.ids,
            self.weather.storm_ms,
            lambda: (
                programs.drawn(growing, has_bugs=has_bugs, is_slow=self.weather.is_racy),
                programs.said(saying),
            ),
        )
        self.person = Person(
            lambda actor: Session(self.network, actor, is_spared=True),
            self.desk,
            self._numbers("person"),
            self.ids,
            lambda: self.is_calm,
        )
        self.person.soon(1_000, self.person.look)

    @property
    def is_calm(self) -> bool:
        """Whether the storm is over."""
        return not self.weather.storm_ms

    # --- processes -------------------------------------------------------------------------------

    def _session(self, actor: Actor) -> Session:
        return Session(self.network, actor)

    def add_node(self) -> None:
        """Start an orchestrator."""
        self._names += 1
        node = Node(
            f"node{self._names}",
            session_of=self._session,
            scheduler=self.scheduler,
            broker=self.broker,
            blobs=self.blobs,
            rng=self._engine_rng,
            local=self._local_bodies,
            next_due_ms=self._next_due_ms,
            is_buggy=self.is_buggy,
            run_cache_max=self.run_cache_max,
            ahead_ms=self._clocks.choice((0, 0, CLOCK_ERROR_MS)),
        )
        self.nodes.append(node)
        self.story.tell(node.name, "starts, with a bug" if node.is_buggy else "starts")
        node.begin()

    def add_worker(self) -> None:
        """Start a worker."""
        self._names += 1
        name = f"worker{self._names}"
        worker = Worker(name, self._session, self.broker, self.around, self.worker_slots)
        self.workers.append(worker)
        self.story.tell(name, "starts")
        worker.begin()

    def _local_bodies(self, node: Node) -> LocalBodies:
        bench = Bench(node, node.session, self.around, lambda ended: node.bodies.forget(ended.key))
        return LocalBodies(bench)

    def _next_due_ms(self, partitions: list[int]) -> int | None:
        """Return when the next timer or claim of these partitions is due."""
        due = [
            at_ms
            for partition in partitions
            for entries in (
                self.server._parts[partition].timers,
                self.server._parts[partition].claims,
            )
            for at_ms in entries.values()
            if at_ms > self.scheduler.now_ms
        ]
        return min(due, default=None)

    def _thaw_ms(self) -> int | None:
        now_ms = self.scheduler.now_ms
        frozen = [one.frozen_until_ms for one in (*self.workers, *self.nodes) if not one.is_gone]
        return min((until_ms - now_ms for until_ms in frozen if until_ms > now_ms), default=None)

    def _wake_owner(self) -> None:
        for node in self.nodes:
            if not node.is_gone:
                node.wake()

    def _wake_workers(self) -> None:
        for worker in self.workers:
            if not worker.is_gone:
                worker.wake()

    # --- the two times ---------------------------------------------------------------------------

    def storm(self) -> None:
        """Let the storm pass."""
        from tests.simulation.storm import Storm

        self.story.tell("weather", str(self.weather))
        if self.weather.environment:
            Storm(self, self._numbers("storm")).begin()
        self.scheduler.run_until(self.scheduler.now_ms + self.weather.storm_ms)
        if self.is_buggy or any(node.is_buggy for node in self.nodes):
            self._mend()

    def _mend(self) -> None:
        """Deploy sound code while calls still fail: nothing but that moves a blocked run."""
        self.weather.storm_ms = 0
        self.is_buggy = False
        for node in self.nodes:
            node.is_doomed = True
        self.add_node()
        self.scheduler.run_until(self.scheduler.now_ms + TAKEOVER_MS_MAX)

    def quiet(self) -> None:
        """Let everything come to its end.

        Raises:
            Broken: It does not.
        """
        began_at_ms = self._calm_down()
        over_since_ms = 0
        while not over_since_ms or self.scheduler.now_ms - over_since_ms < _DRAIN_MS:
            if self.scheduler.now_ms - began_at_ms > QUIET_MS_MAX:
                self._complain()
            self.scheduler.run_until(self.scheduler.now_ms + _LOOK_MS)
            self._check_owners(began_at_ms)
            self._check_blocked(began_at_ms)
            is_over = self._is_over()
            over_since_ms = (over_since_ms or self.scheduler.now_ms) if is_over else 0

    def _calm_down(self) -> int:
        """End all faults; return when the last process that is frozen goes on."""
        self.story.tell("weather", "the storm is over")
        self.weather.clear()
        self.weather.storm_ms = 0
        self.network.away_until_ms = 0
        for actor in (*self.nodes, *self.workers, *self.clients):
            actor.cut_until_ms = 0
        if not any(map(_stays, self.nodes)):
            self.add_node()
        if not any(map(_stays, self.workers)):
            self.add_worker()
        helper = Client("helper", self._session, self.desk, self._numbers("helper"))
        self._help(helper, _HELP_MS)
        frozen = [node.frozen_until_ms for node in self.nodes if not node.is_gone]
        awake_at_ms = max(self.scheduler.now_ms, *frozen)
        self.watch.attempts.calm_from_ms = awake_at_ms + 3 * TAKEOVER_MS_MAX
        return awake_at_ms

    def _help(self, helper: Client, pause_ms: int) -> None:
        """Send what somebody may be waiting for, again and again, less and less often."""
        helper.soon(pause_ms, lambda: self._help(helper, pause_ms * 6 // 5))
        for workflow_id in self.ids:
            if self._is_awake(workflow_id):
                helper.signal(workflow_id, "go", 7)
                helper.signal(workflow_id, "count", 1)

    def _is_awake(self, workflow_id: str) -> bool:
        """Return whether a run is open, and not blocked: what is blocked moves by itself."""
        row = self.server.find_row(workflow_id)
        is_open = any(workflow_id in part.open for part in self.server._parts)
        return is_open and row is not None and row["status"] != "blocked"

    def _is_over(self) -> bool:
        """Return whether nothing is open, and nothing on its way to be."""
        return not any(part.open or part.inbox for part in self.server._parts)

    def _check_owners(self, began_at_ms: int) -> None:
        """Complain about a partition that nobody has held for too long."""
        now_ms = self.scheduler.now_ms
        for partition in range(PARTITIONS):
            lease = self.watch.leases.get(partition)
            if lease is not None and lease.until_ms >= now_ms:
                self._ownerless.pop(partition, None)
                continue
            since_ms = max(began_at_ms, self._ownerless.setdefault(partition, now_ms))
            if now_ms - since_ms > TAKEOVER_MS_MAX:
                waited = f"none for {now_ms - since_ms} ms without faults"
                raise Broken("P5", f"owner of partition {partition}", "one that lives", waited)

    def _check_blocked(self, began_at_ms: int) -> None:
        """Complain about a run that still rests, although sound code has come."""
        blocked = [str(key) for part in self.server._parts for key in part.blocked]
        if blocked and self.scheduler.now_ms - began_at_ms > 2 * TAKEOVER_MS_MAX:
            raise Broken("P5", "runs that were blocked", "move again with sound code", blocked)

    def _complain(self) -> None:
        from tests.simulation import histories

        found = []
        for part in self.server._parts:
            for workflow_id in part.open:
                row = part.rows[workflow_id]
                key = histories.key_of(workflow_id, int(row["run"]))
                last = [event["type"] for event in histories.decoded(part.logs.get(key, []))[-4:]]
                steps = {
                    n: (s.get("state"), s.get("attempt"))
                    for n, s in part.steps.get(key, {}).items()
                }
                timers = [str(timer) for timer in part.timers if timer.run_key == key]
                found.append(f"{key} {row['status']}, last {last}, steps {steps}, timers {timers}")
            found += [
                f"inbox: {entry.kind.value} of {entry.workflow_id}" for entry in part.inbox.values()
            ]
        raise Broken(
            "P5",
            "what is open at the end of the quiet time",
            f"nothing after {QUIET_MS_MAX // 60_000} minutes without faults",
            "; ".join(found),
        )

    def close(self) -> None:
        """End all processes, silently."""
        for node in self.nodes:
            node.close()


def _stays(actor: Actor) -> bool:
    return not (actor.is_gone or actor.is_doomed or actor.is_leaving)
