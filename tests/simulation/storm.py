"""The faults that come by themselves: processes die and are stopped, servers go away and come back.

To add one, name it in `weather.ENVIRONMENT_FAULTS` and give it a function in `_STRIKES`.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import TypeVar

from tests.simulation import tail
from tests.simulation.scheduler import Actor
from tests.simulation.weather import pause_ms
from tests.simulation.world import World

_Actor = TypeVar("_Actor", bound=Actor)


class Storm:
    """Strikes at random instants; mends what it broke after a while."""

    def __init__(self, world: World, rng: Random) -> None:
        self.world = world
        self.rng = rng
        self.sky = Actor("weather")

    def begin(self) -> None:
        """Let the first fault come."""
        self._next()
        self.world.around.entered = self._entered
        if self.world.weather.loses_tail:
            taken_after_ms = self.rng.randint(0, self.world.weather.storm_ms // 2)
            self._later(taken_after_ms, self._remember)

    def _entered(self, actor: Actor) -> None:
        if self.world.weather.is_racy and not self.world.is_calm and self.rng.random() < 0.25:
            self._later(self.rng.randint(0, 500), lambda: self._freeze(actor))

    def _later(self, delay_ms: int, action: Callable[[], None]) -> None:
        self.world.scheduler.after(delay_ms, self.sky, action)

    def _next(self) -> None:
        mean_ms = self.world.weather.interval_ms
        self._later(int(self.rng.expovariate(1 / mean_ms)) + 1, self._strike)

    def _strike(self) -> None:
        if self.world.is_calm:
            return
        self._next()
        _STRIKES[self.rng.choice(self.world.weather.environment)](self)

    def _remember(self) -> None:
        snapshot = tail.taken(self.world.server, self.world.watch)

        def forget() -> None:
            if not self.world.is_calm:
                self.world.story.fault("server", "comes back as it was: its tail is lost")
                tail.restored(self.world.server, self.world.watch, snapshot)

        self._later(self.rng.randint(10, 8_000), forget)

    def _living(self, actors: list[_Actor]) -> _Actor | None:
        living = [one for one in actors if not one.is_gone and not one.is_doomed]
        return self.rng.choice(living) if living else None

    # --- processes -------------------------------------------------------------------------------

    def kill_node(self) -> None:
        """Kill an orchestrator; another one is started some time after."""
        node = self._living(self.world.nodes)
        if node is not None:
            self._kill(node)
        self._later(pause_ms(self.rng), self._replace_node)

    def kill_worker(self) -> None:
        """Kill a worker; another one is started some time after."""
        worker = self._living(self.world.workers)
        if worker is not None:
            self._kill(worker)
        self._later(pause_ms(self.rng), self._replace_worker)

    def _kill(self, actor: Actor) -> None:
        self.world.story.fault(actor.name, "is killed")
        if actor.is_busy:
            actor.is_doomed = True
        else:
            actor.died()

    def _replace_node(self) -> None:
        if sum(not node.is_gone for node in self.world.nodes) < 3:
            self.world.add_node()

    def _replace_worker(self) -> None:
        if sum(not worker.is_gone for worker in self.world.workers) < 2:
            self.world.add_worker()

    def kill_child(self) -> None:
        """Kill a child of a worker."""
        worker = self._living(self.world.workers)
        if worker is not None and not worker.is_busy:
            self.world.story.fault(worker.name, "loses a child")
            self.world.scheduler.after(0, worker, worker.lose_child)

    def stop_node(self) -> None:
        """Stop an orchestrator cleanly, and start another one at once."""
        node = self._living(self.world.nodes)
        if node is not None and not node.is_busy:
            self.world.story.fault(node.name, "is asked to stop")
            node.is_leaving = True
            self.world.scheduler.after(0, node, node.stop)
            self.world.add_node()

    def freeze_node(self) -> None:
        """Stop an orchestrator between two turns of its loop."""
        self._freeze(self._living(self.world.nodes))

    def freeze_worker(self) -> None:
        """Stop a worker; one that is at work, if there is one."""
        at_work = [worker for worker in self.world.workers if worker.bench.running]
        self._freeze(self._living(at_work) or self._living(self.world.workers))

    def _freeze(self, actor: Actor | None) -> None:
        if actor is not None:
            # Mostly long enough for leases and claims to expire, and not much longer.
            ms = self.rng.choice((pause_ms(self.rng), *(self.rng.randint(5_000, 9_000),) * 2))
            self.world.story.fault(actor.name, f"is frozen for {ms} ms")
            until_ms = self.world.scheduler.now_ms + ms
            actor.frozen_until_ms = max(actor.frozen_until_ms, until_ms)

    def evict(self) -> None:
        """Let the runs of an orchestrator leave memory."""
        node = self._living(self.world.nodes)
        if node is not None and not node.is_busy:
            self.world.story.fault(node.name, "evicts all runs")
            node.engine.evict()

    def deploy(self) -> None:
        """Start an orchestrator with the version that has a bug; later one without it."""
        self.world.is_buggy = not self.world.is_buggy
        self.stop_node()

    # --- network and server ----------------------------------------------------------------------

    def cut_off(self) -> None:
        """Cut one process off from the server."""
        actor = self._living([*self.world.nodes, *self.world.workers, *self.world.clients])
        if actor is not None:
            ms = pause_ms(self.rng)
            self.world.story.fault(actor.name, f"is cut off for {ms} ms")
            actor.cut_until_ms = self.world.scheduler.now_ms + ms

    def away(self) -> None:
        """Let nobody reach the server."""
        ms = pause_ms(self.rng)
        self.world.story.fault("server", f"is away for {ms} ms")
        self.world.network.away_until_ms = self.world.scheduler.now_ms + ms

    def restart(self) -> None:
        """Restart the server, which has kept everything."""
        self.away()
        self.world.story.fault("server", "restarts with all it had")
        self.world.server.epoch += 1


_STRIKES: Mapping[str, Callable[[Storm], None]] = {
    "kill_node": Storm.kill_node,
    "kill_worker": Storm.kill_worker,
    "kill_child": Storm.kill_child,
    "freeze_node": Storm.freeze_node,
    "freeze_worker": Storm.freeze_worker,
    "stop_node": Storm.stop_node,
    "evict": Storm.evict,
    "deploy": Storm.deploy,
    "cut_off": Storm.cut_off,
    "away": Storm.away,
    "restart": Storm.restart,
}
