"""The environment: what a test says to its world, and what it asks."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any
from unittest.mock import _Call

from celery import Celery

from orchestrator.app import Orchestrator
from orchestrator.client.connection import Elsewhere
from orchestrator.client.handle import RunHandle
from orchestrator.client.workflow import Workflow
from orchestrator.core.errors import UsageError
from orchestrator.store.clocks import ManualClock
from orchestrator.testing.attempts import Attempt
from orchestrator.testing.holds import Hold
from orchestrator.testing.plan import Fate, Fault, Plan, name_of
from orchestrator.testing.store import EnvironmentStore, MemoryBlobs
from orchestrator.testing.workers import Workers
from orchestrator.testing.world import WAIT_MS_MAX, World

#: An error as a test may name it: itself, its class, or a message.
Error = BaseException | type[BaseException] | str


class WorkflowEnvironment:
    """A whole engine in memory for one app; ``with WorkflowEnvironment(orc) as env:``.

    While it is open every client of the app (`orc.run`, `order.start`, handles, ``.aio`` too)
    works on it.  A step's body runs in place unless the test put something else there.

    Args:
        app: The app's orchestrator, or the Celery app that has one.
        start_time: What the clock shows first; aware.  A round instant in 2025 unless given.
        replay_every_turn: Drop every run from memory after every commit, as if the orchestrator
            were killed there: what follows comes from a replay, which checks determinism all along.
        raise_blocked: Raise what blocks a run; False for tests of code that is mended later.
    """

    def __init__(
        self,
        app: Orchestrator | Celery,
        *,
        start_time: datetime | None = None,
        replay_every_turn: bool = False,
        raise_blocked: bool = True,
    ) -> None:
        self._orc = app if isinstance(app, Orchestrator) else Orchestrator.of(app)
        self._clock = _clock_at(start_time)
        self._store = EnvironmentStore(self._clock)
        self._blobs = MemoryBlobs()
        self._plan = Plan()
        self._workers = Workers(
            self._orc.app,
            self._store,
            self._blobs,
            self._orc.codec,
            self._plan,
            self._orc.interceptors,
        )
        self._world = World(
            self._store,
            self._workers,
            self._blobs,
            self._orc.driven,
            replays=replay_every_turn,
            raises_blocked=raise_blocked,
        )
        self._open = ExitStack()

    def __enter__(self) -> "WorkflowEnvironment":
        elsewhere = Elsewhere(
            store=self._store,
            blobs=self._blobs,
            clock=lambda: self._clock.now_ms / 1000,
            wait_ms_max=WAIT_MS_MAX,
        )
        self._open.enter_context(self._orc.connection.redirected(elsewhere))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()
        self._world.close()

    # --- runs ------------------------------------------------------------------------------------

    def start(
        self, workflow: Workflow[..., Any], *args: Any, id: str | None = None, **kwargs: Any
    ) -> RunHandle[Any]:
        """Open a run and return its handle; the same as ``workflow.start``."""
        return workflow.start(*args, id=id, **kwargs)

    def run(self, id: str, run: int | None = None) -> RunHandle[Any]:
        """Return a handle on a run, a child for instance; the same as ``orc.run``.

        Its ``result()`` lets time pass from one thing that is due to the next until the run ends;
        where nothing is due any more it raises `WorkflowStuck`, which says what the run waits for.
        Whatever else it tells is how things stand at this instant.
        """
        return self._orc.run(id, run)

    # --- time ------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """What the clock shows; aware, in UTC."""
        return datetime.fromtimestamp(self._clock.now_ms / 1000, tz=UTC)

    def settle(self) -> None:
        """Let everything happen that can by this instant.

        Seldom needed: whoever looks at a run sees it settled.

        Raises:
            BaseException: What went wrong in workflow code; a failed assertion in a step.
        """
        self._world.settle()

    def skip(self, duration: timedelta | float = 0, **parts: float) -> None:
        """Let time pass: ``skip(timedelta(days=7))``, ``skip(30)`` seconds, ``skip(days=7)``.

        Timers, back-offs and time-outs on the way happen at their instants.

        Raises:
            UsageError: Backwards, or from within a step's body.
            BaseException: As `settle`.
        """
        interval = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
        interval += timedelta(**parts)
        self._world.skip(round(interval.total_seconds() * 1000))

    # --- steps -----------------------------------------------------------------------------------

    def mock(self, task: Any, function: Callable[..., Any]) -> None:
        """Run `function`, plain or ``async def``, in the place of the task's body from now on.

        It gets the task's arguments in the types that it declares, or else that the task declares.

        Args:
            task: A task, the function of a local step, or the name of either.
            function: What it returns or raises is the outcome.
        """
        self._plan.replace(task, function)

    def fail(
        self, task: Any, error: Error = "the test wants it so", *, times: int | None = 1
    ) -> None:
        """Have the next `times` attempts raise `error`; None for all.  Retries are the policy's."""
        self._plan.add(task, Fault(Fate.FAIL, _checked(times), error))

    def lose(self, task: Any, *, times: int | None = 1, after_effect: bool = False) -> None:
        """Let the worker die in the next `times` attempts, before the body or right after it.

        The attempt is given up when its claim expires, and the next one follows by the policy.
        """
        fate = Fate.LOSE_AFTER if after_effect else Fate.LOSE_BEFORE
        self._plan.add(task, Fault(fate, _checked(times)))

    def lose_message(self, task: Any, *, times: int | None = 1) -> None:
        """Lose the next `times` messages on their way; they are sent again after a while."""
        self._plan.add(task, Fault(Fate.LOSE_MESSAGE, _checked(times)))

    def duplicate(self, task: Any, *, times: int | None = None) -> None:
        """Deliver messages three times: the copies are refused, and the body runs once."""
        self._plan.add(task, Fault(Fate.DUPLICATE, _checked(times)))

    def hang(self, task: Any, *, times: int | None = 1) -> None:
        """Have the next `times` attempts begin and never end: until a time-out, or cancelled."""
        self._plan.add(task, Fault(Fate.HOLD, _checked(times)))

    def hold(self, task: Any) -> Hold:
        """Have all attempts begin and wait until the test says how they end; see `Hold`."""
        fault = Fault(Fate.HOLD, None)
        self._plan.add(task, fault)
        return Hold(
            name_of(task), fault, self._workers.ends, self._world, lambda: self._plan.remove(fault)
        )

    def attempts(self, task: Any = None) -> list[Attempt]:
        """Return the attempts that workers began, at one task or at all, oldest first."""
        self._world.settle()
        name = None if task is None else name_of(task)
        return [one for one in self._workers.attempts if name in (None, one.task)]

    def calls(self, task: Any) -> list[_Call]:
        """Return the arguments of each attempt at `task`: ``[call(Order(…))]``.

        Arguments are in the types that the task declares; `call` is that of ``unittest.mock``.
        """
        return [one.call for one in self.attempts(task)]

    # --- the orchestrator -------------------------------------------------------------------------

    def crash(self) -> None:
        """Kill the orchestrator where it is; the next one replays every run from its history."""
        self._world.crash()


def _clock_at(instant: datetime | None) -> ManualClock:
    if instant is None:
        return ManualClock()
    if instant.tzinfo is None:
        raise UsageError(f"start_time is {instant}, without a time zone; add tzinfo=UTC")
    return ManualClock(round(instant.timestamp() * 1000))


def _checked(times: int | None) -> int | None:
    if times is not None and times < 1:
        raise UsageError(f"times is {times}; at least 1, or None for all")
    return times
