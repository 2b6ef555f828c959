"""Those who run bodies: workers, and orchestrators their local steps.

They keep the protocol of `orchestrator.worker`: claim, run, renew meanwhile, post the outcome, and
ask a store that does not answer again and again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.limits import CLAIM_RENEW_INTERVAL_MS, CLAIM_TTL_MS, OUTCOME_POST_MS_MAX
from orchestrator.core.values import Json
from orchestrator.store.ports import AttemptKey, ClaimAnswer, PostAnswer
from tests.simulation.bodies import Body
from tests.simulation.broker import Broker
from tests.simulation.scheduler import Action, Actor, Scheduler
from tests.simulation.service import Service
from tests.simulation.session import Session
from tests.simulation.watch import Acknowledged, Watch
from tests.simulation.weather import Weather

_POLL_MS = 2_000
_PAUSE_MS = (50, 2_000)


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What everybody who runs bodies needs."""

    scheduler: Scheduler
    service: Service
    watch: Watch
    weather: Weather
    rng: Random
    #: Told who enters a body.
    entered: Callable[[Actor], None] = lambda _: None


@dataclass(slots=True, eq=False)
class Running:
    """An attempt whose body is running."""

    key: AttemptKey
    token: str
    body: Body
    has_ended: bool = False


class Bench:
    """The bodies that one process runs."""

    def __init__(
        self, actor: Actor, session: Session, around: Surroundings, ended: Callable[[Running], None]
    ) -> None:
        self.running: dict[AttemptKey, Running] = {}
        self._actor = actor
        self._session: Any = session
        self._around = around
        self._ended = ended

    def enter(self, key: AttemptKey, token: str, message: Mapping[str, Any]) -> None:
        """Enter the body of an attempt that is claimed under `token`."""
        around = self._around
        around.watch.enter(key, self._actor.name, message["idempotency_key"])
        around.entered(self._actor)
        body = Body.of(message, is_calm=not around.weather.storm_ms)
        running = self.running[key] = Running(key, token, body)
        effect_ms, all_ms = body.effect_ms(around.rng), int(body.manner["ms"])
        around.scheduler.after(effect_ms, self._actor, lambda: self._act(running))
        around.scheduler.after(all_ms, self._actor, lambda: self._end(running))
        if around.rng.random() < 0.5:
            self._beat_soon(running)

    def stop(self, key: AttemptKey) -> None:
        """Stop a body that is no longer wanted, and say so."""
        running = self.running.get(key)
        if running is not None and not running.has_ended:
            self._leave(running, running.body.stopped(ran=True))

    def _act(self, running: Running) -> None:
        if not running.has_ended:
            running.body.act(self._around.service, self._around.rng)

    def _end(self, running: Running) -> None:
        if not running.has_ended:
            self._leave(running, running.body.outcome())

    def _leave(self, running: Running, outcome: dict[str, Json]) -> None:
        running.has_ended = True
        self.post(running.key, running.token, outcome, lambda: self._forget(running))

    def _forget(self, running: Running) -> None:
        self.running.pop(running.key, None)
        self._ended(running)

    def _beat_soon(self, running: Running) -> None:
        def beat() -> None:
            if running.has_ended:
                return
            try:
                answer = self._session.heartbeat(running.key, running.token, {"beat": 1})
            except StoreUnavailable:
                answer = ClaimAnswer.GRANTED
            if answer is ClaimAnswer.GRANTED:
                self._beat_soon(running)
            else:
                self.stop(running.key)

        self._around.scheduler.after(self._around.rng.randint(300, 1_500), self._actor, beat)

    def post(
        self, key: AttemptKey, token: str, outcome: dict[str, Json], then: Action = lambda: None
    ) -> None:
        """Post an outcome until that is answered, or for as long as a worker does."""

        def answered(answer: PostAnswer) -> None:
            is_safe = answer in (PostAnswer.POSTED, PostAnswer.REPEATED)
            if is_safe and not (self._session.is_stale and self._around.watch.has_lost_tail):
                self._around.watch.acknowledge(
                    Acknowledged(
                        kind="outcome",
                        workflow_id=key.workflow_id,
                        run=key.run,
                        name=str(key),
                        body={**outcome, "step": key.step, "attempt": key.attempt},
                    )
                )
            then()

        self.ask(lambda: self._session.post_outcome(key, token, outcome), answered, then)

    def ask(
        self, call: Callable[[], Any], answered: Callable[[Any], None], given_up: Action
    ) -> None:
        """Ask the store until it answers; see `orchestrator.worker.patience`."""
        scheduler = self._around.scheduler
        until_ms = scheduler.now_ms + OUTCOME_POST_MS_MAX

        def again(pause_ms: int) -> None:
            try:
                answer = call()
            except StoreUnavailable:
                if scheduler.now_ms + pause_ms > until_ms:
                    given_up()
                else:
                    longer_ms = min(_PAUSE_MS[1], pause_ms * 2)
                    scheduler.after(pause_ms, self._actor, lambda: again(longer_ms))
            else:
                answered(answer)

        again(_PAUSE_MS[0])


class Worker(Actor):
    """A Celery worker with a few slots."""

    def __init__(
        self,
        name: str,
        session_of: Callable[[Actor], Session],
        broker: Broker,
        around: Surroundings,
        slots: int,
    ) -> None:
        super().__init__(name)
        self._session: Any = session_of(self)
        self._broker = broker
        self._around = around
        self._slots = slots
        self._taken = 0
        self._tokens = 0
        self._is_idle = True
        self.bench = Bench(self, self._session, around, lambda _: self._slot_free())

    def begin(self) -> None:
        """Begin to consume, and to renew."""
        self._around.scheduler.after(0, self, self._poll)
        self._around.scheduler.after(CLAIM_RENEW_INTERVAL_MS, self, self._renew)

    def wake(self) -> None:
        """There may be a message."""
        if self._is_idle and self._taken < self._slots:
            self._is_idle = False
            self._around.scheduler.after(self._around.rng.randint(0, 4), self, self._take)

    def lose_child(self) -> None:
        """Kill one of its children; half of the time the main process notices, and says so."""
        running = [one for one in self.bench.running.values() if not one.has_ended]
        if not running:
            return
        victim = self._around.rng.choice(running)
        victim.has_ended = True
        self.bench.running.pop(victim.key)
        self._taken -= 1
        if self._around.rng.random() < 0.5:
            failure: Json = {"type": "WorkerLost", "message": "its process died"}
            self.bench.post(victim.key, f"{self.name}/", {"kind": "lost", "failure": failure})

    def _poll(self) -> None:
        self.wake()
        self._around.scheduler.after(_POLL_MS, self, self._poll)

    def _take(self) -> None:
        self._is_idle = True
        if self._taken >= self._slots:
            return
        message = self._broker.take()
        if message is not None:
            self._taken += 1
            self._claim(message)
        if self._broker.queue:
            self.wake()

    def _slot_free(self) -> None:
        self._taken -= 1
        self.wake()

    def _claim(self, message: dict[str, Any]) -> None:
        key = AttemptKey.parse(message["key"])
        self._tokens += 1
        token = f"{self.name}/{self._tokens}"

        def answered(claim: Any) -> None:
            if claim.answer is ClaimAnswer.GRANTED:
                self.bench.enter(key, token, message)
            elif claim.answer is ClaimAnswer.CANCELLED:
                stopped = Body.of(message, is_calm=True).stopped(ran=False)
                self.bench.post(key, token, stopped, self._slot_free)
            else:
                self._slot_free()

        self.bench.ask(
            lambda: self._session.claim(key, token, ttl_ms=CLAIM_TTL_MS), answered, self._slot_free
        )

    def _renew(self) -> None:
        self._around.scheduler.after(CLAIM_RENEW_INTERVAL_MS, self, self._renew)
        claims = {one.key: one.token for one in self.bench.running.values() if not one.has_ended}
        if not claims:
            return
        try:
            answers = self._session.renew(claims, ttl_ms=CLAIM_TTL_MS)
        except StoreUnavailable:
            return  # Renewed again soon; what expires meanwhile is attempted elsewhere.
        for key, answer in answers.items():
            if answer is not ClaimAnswer.GRANTED:
                self.bench.stop(key)
