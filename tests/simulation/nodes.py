"""Orchestrators of the simulated world: the engine's own loop, turned by hand.

What a process has and one thread must not (a watchdog's thread, a poster's thread, a clock of its
own) is left out; everything else is the engine as it is deployed.
"""

import threading
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.execution import Execution
from orchestrator.core.values import Json
from orchestrator.engine.leases import Leases
from orchestrator.engine.local_steps import LocalSteps
from orchestrator.engine.owner import Owner
from orchestrator.engine.ports import Outgoing
from orchestrator.engine.process import Engine
from orchestrator.engine.relay import OutboxRelay
from orchestrator.engine.settings import EngineSettings
from orchestrator.engine.turn import Tools
from orchestrator.engine.watchdog import unwatched
from orchestrator.store.ports import AttemptKey
from tests.engine.world import MemoryBlobs
from tests.simulation.broker import Broker, SimulatedDispatcher
from tests.simulation.programs import WORKFLOW, definition
from tests.simulation.scheduler import Actor, Scheduler
from tests.simulation.session import Session
from tests.simulation.workers import Bench

#: An idle orchestrator looks again after this long, unless something arrives.
_IDLE_MS = (300, 1_800)
_BACK_OFF_MS = (200, 2_000)


class OneTurn(threading.Event):
    """A stop that comes when the turn is over: the loop goes round once."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s = 0.0
        self.is_over = False

    def is_set(self) -> bool:
        """Return whether the turn is over."""
        return self.is_over

    def wait(self, timeout: float | None = None) -> bool:
        """Note the wait; the scheduler does the waiting."""
        self.waited_s += timeout or 0.0
        return False


class _StoreClock:
    """The store's clock as an orchestrator keeps it between two looks: well, but in whole ms."""

    def __init__(self, scheduler: Scheduler, session: Session, ahead_ms: int) -> None:
        self._scheduler = scheduler
        self._session = session
        self._ahead_ms = ahead_ms

    def __call__(self) -> int:
        return self._scheduler.now_ms + self._ahead_ms

    def set(self) -> int:
        now_ms: int = self._session.now_ms()
        return now_ms


class SimulatedLocalSteps(LocalSteps):
    """Local steps whose ends are posted by the scheduler, and not by a thread."""

    def __init__(self, session: Any, runner: "LocalBodies") -> None:
        self._store = session
        self._runner = runner
        self._tokens = {}
        self._lock = threading.Lock()
        self._renewed_at_ms = 0
        runner.tokens = self._tokens
        self._begin = runner.begin

    def submit(self, outgoing: Outgoing, token: str) -> None:
        """See `LocalSteps.submit`."""
        self._tokens[outgoing.key] = token
        self._begin(outgoing, token)

    def close(self) -> None:
        """See `LocalSteps.close`."""
        self._tokens.clear()


class LocalBodies:
    """Runs the bodies of an orchestrator's local steps, on a bench of its own."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.tokens: dict[AttemptKey, str] = {}

    def begin(self, outgoing: Outgoing, token: str) -> None:
        """Enter the body of a step that is claimed under `token`."""
        message = {
            "task": outgoing.task,
            "args": outgoing.args,
            "idempotency_key": outgoing.idempotency_key,
            "compensates": outgoing.compensates,
        }
        self.bench.enter(outgoing.key, token, message)

    def forget(self, key: AttemptKey) -> None:
        """Take note that the outcome of a step is posted."""
        self.tokens.pop(key, None)

    def submit(self, outgoing: Outgoing, done: Callable[[Mapping[str, Json]], None]) -> None:
        """See `LocalRunner.submit`; not used, as `begin` is told the token too."""
        raise NotImplementedError

    def cancel(self, key: AttemptKey) -> None:
        """See `LocalRunner.cancel`."""
        self.bench.stop(key)

    def close(self) -> None:
        """See `LocalRunner.close`: its process goes on ending, whatever they do."""


class _NoWatchdog:
    def close(self) -> None:
        pass


class SimulatedEngine(Engine):
    """The engine, composed for one thread and a virtual clock."""

    def __init__(self, node: "Node", settings: EngineSettings) -> None:
        session: Any = node.session
        self._store = session
        self._settings = settings
        self.owner_id = node.name
        self._watchdog = _NoWatchdog()  # type: ignore[assignment]
        self._local = SimulatedLocalSteps(session, node.bodies)
        self._leases = Leases(session, node.name, settings)
        self._registry = {WORKFLOW: definition(node.executions.append, is_buggy=node.is_buggy)}
        tools = Tools(
            registry=self._registry,
            dispatcher=SimulatedDispatcher(node.broker),
            blobs=node.blobs,
            rng=node.rng,
            owner_id=node.name,
            engine_version="simulation",
            watch=unwatched,
            now_ms=session.now_ms,
            read_step=session.read_step,
            read_history=session.read_history,
        )
        self._clock = _StoreClock(node.scheduler, session, node.ahead_ms)  # type: ignore[assignment]
        self._owner = Owner(session, self._leases, tools, self._local, settings, clock=self._clock)
        self.relay = OutboxRelay(session, tools.dispatcher, lambda: list(self._leases.tokens))
        self._relay = None  # Its thread is turned by hand as well.
        self._server_id = ""
        self._known_server_id = ""
        self._grace_until_ms = 0
        self._balance_at_ms = 0
        self.has_failed = False

    def turn(self) -> OneTurn:
        """Go round the engine's loop once."""
        stop = OneTurn()
        self.run(stop)
        return stop

    def _turn(self, stop: threading.Event) -> None:
        assert isinstance(stop, OneTurn)
        self.has_failed = True
        try:
            super()._turn(stop)
            self.has_failed = False
        finally:
            stop.is_over = True

    def _hand_over(self) -> None:
        """Not after every turn."""

    def stop(self) -> None:
        """End cleanly: hand the partitions over."""
        super()._hand_over()

    def evict(self) -> None:
        """Let all runs leave memory, as if others had pushed them out of the cache."""
        self._owner.cache.drop_where(lambda run: True)

    @property
    def held(self) -> list[int]:
        """The partitions that it believes to hold."""
        return list(self._leases.tokens)


class Node(Actor):
    """One orchestrator.

    Args:
        is_buggy: It runs the version with the bug.
        run_cache_max: Runs it keeps in memory.
        ahead_ms: How far its estimate of the store's clock is ahead of that.
    """

    def __init__(  # noqa: PLR0913 - a process and all that is around it
        self,
        name: str,
        *,
        session_of: Callable[[Actor], Session],
        scheduler: Scheduler,
        broker: Broker,
        blobs: MemoryBlobs,
        rng: Random,
        local: Callable[["Node"], LocalBodies],
        next_due_ms: Callable[[list[int]], int | None],
        is_buggy: bool,
        run_cache_max: int,
        ahead_ms: int,
    ) -> None:
        super().__init__(name)
        self.ahead_ms = ahead_ms
        self.scheduler = scheduler
        self.broker = broker
        self.blobs = blobs
        self.rng = rng
        self.is_buggy = is_buggy
        self.executions: list[Execution] = []
        self.session = session_of(self)
        self.bodies = local(self)
        self._next_due_ms = next_due_ms
        self._turn_at_ms = 0
        self._turn_number = 0
        self.engine = SimulatedEngine(self, EngineSettings(run_cache_max=run_cache_max))

    def begin(self) -> None:
        """Take the first turn now."""
        self._come_back(0)
        if self.broker.is_elsewhere:
            self.scheduler.after(20, self, self._relay)

    def wake(self) -> None:
        """Something may have arrived: look soon, as the end of a blocking read would make it."""
        if self._turn_at_ms > self.scheduler.now_ms + 5:
            self._come_back(self.rng.randint(0, 5))

    def stop(self) -> None:
        """End cleanly."""
        self.engine.stop()
        self.is_gone = True
        self.close()

    def died(self) -> None:
        """See `Actor.died`; the coroutines of a killed process run no further."""
        super().died()
        self.close()

    def close(self) -> None:
        """Close every execution that ever began here, silently."""
        for execution in self.executions:
            execution.close()
        self.executions.clear()

    def _come_back(self, delay_ms: int) -> None:
        self._turn_at_ms = self.scheduler.now_ms + delay_ms
        self._turn_number += 1
        number = self._turn_number

        def turn() -> None:
            if number == self._turn_number:
                self._take_turn()

        self.scheduler.after(delay_ms, self, turn)

    def _take_turn(self) -> None:
        self._turn_at_ms = 0
        commits = self.session.commits
        self.engine.turn()
        if self.engine.has_failed:
            self._come_back(self.rng.randint(*_BACK_OFF_MS))
            return
        if self.session.commits != commits:
            self._come_back(1)  # A commit may have posted something itself.
            return
        wait_ms = self.rng.randint(*_IDLE_MS)
        due_ms = self._next_due_ms(self.engine.held)
        if due_ms is not None:
            wait_ms = min(wait_ms, max(1, due_ms - self.scheduler.now_ms))
        self._come_back(wait_ms)

    def _relay(self) -> None:
        try:
            count = self.engine.relay.relay_once()
        except StoreUnavailable:
            count = 0
        self.scheduler.after(5 if count else 200, self, self._relay)
