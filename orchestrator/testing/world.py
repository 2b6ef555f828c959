"""Time and the orchestrator of a test: what happens by now, what is due next, what went wrong.

TO1  The orchestrator keeps its name when it is killed, so that the next one has its leases at once:
     what a takeover costs in time is not what a test of a workflow is about.
TO2  A run that is blocked is told of once, as the exception that blocked it (TE3).
"""

import asyncio
import functools
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.core import events as e
from orchestrator.core import guard
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ActivationFailed, UsageError, WorkflowStuck
from orchestrator.core.events import decode
from orchestrator.core.values import loads
from orchestrator.core.versions import of_version
from orchestrator.engine.leases import Leases
from orchestrator.engine.owner import Owner
from orchestrator.engine.process import engine_version
from orchestrator.engine.settings import EngineSettings
from orchestrator.engine.turn import Tools
from orchestrator.store.clocks import ManualClock
from orchestrator.store.ports import RunKey
from orchestrator.testing.store import EnvironmentStore, MemoryBlobs
from orchestrator.testing.waiting import what_it_waits_for
from orchestrator.testing.workers import Dispatcher, Workers

T = TypeVar("T")

#: Leases of a test never run out: ten thousand years, in milliseconds.
_FOR_EVER_MS = 10_000 * 365 * 86_400_000
#: A client's wait of so long is one without end.
WAIT_MS_MAX = _FOR_EVER_MS
#: Turns at one instant; a world that needs more goes round in circles.
_TURNS_MAX = 100_000
#: Jumps of the clock in one wait; a run that needs more will hardly ever end.
_JUMPS_MAX = 50_000
#: What is due and was not done rests so long: a run whose blob is missing, for instance.
_REST_MS = 1_000
_OWNER_ID = "test"


class World:
    """See `store.Mover`.

    Args:
        registry: The app's workflows.
        replays: Whether every run leaves memory after every commit.
        raises_blocked: Whether a blocked run is raised.
    """

    def __init__(
        self,
        store: EnvironmentStore,
        workers: Workers,
        blobs: MemoryBlobs,
        registry: Mapping[str, WorkflowDefinition],
        *,
        replays: bool,
        raises_blocked: bool,
    ) -> None:
        guard.install()
        clock = store.clock
        assert isinstance(clock, ManualClock)
        self._told_before = self._jumps = 0
        self._clock = clock
        self._store = store
        self._workers = workers
        self._blobs = blobs
        self._registry = Registry(registry, workers.assertions)
        self._replays = replays
        self._raises_blocked = raises_blocked
        self._rng = random.Random(0)  # noqa: S311 - seeds of runs and jitter, the same every time
        self._failures: dict[str, ActivationFailed] = {}
        self._told: set[RunKey] = set()
        self._owner = self._new_owner()
        store.mover = self

    def close(self) -> None:
        """End the orchestrator; coroutines are unwound."""
        self._store.mover = None
        self._owner.cache.drop_where(lambda run: True)

    def crash(self) -> None:
        """Kill the orchestrator, and its local steps with it; the next one replays (TO1)."""
        self._owner.cache.drop_where(lambda run: True)
        self._workers.die_with_orchestrator()
        self._owner = self._new_owner()

    # --- what happens -----------------------------------------------------------------------------

    def settle(self) -> None:
        """See `Mover.settle`.

        Raises:
            BaseException: What went wrong in workflow code, or a failed assertion in a step (TE3).
            UsageError: It never comes to rest.
        """
        with self._store.moving() as is_ours:
            if is_ours:
                _off_loop(self._settle)

    def turn_engine(self) -> None:
        """See `Mover.turn_engine`; also tells what has begun whether it is wanted."""
        with self._store.moving():
            _off_loop(self._turn)
            self._workers.renew()

    def _settle(self) -> None:
        for _ in range(_TURNS_MAX):
            count = self._turn()
            self._raise_what_went_wrong()
            count += self._workers.renew() + self._workers.work()
            self._raise_what_went_wrong()
            if not count:
                return
        raise UsageError("the world does not come to rest: do two runs write to each other?")

    def _turn(self) -> int:
        self._owner.look_now()
        count = self._owner.cycle(block_ms=0)
        if self._replays:
            self._owner.cache.drop_where(lambda run: True)
        return count

    # --- time -------------------------------------------------------------------------------------

    def skip(self, duration_ms: int) -> None:
        """Let time pass; whatever is due on the way happens at its instant.

        Raises:
            UsageError: Time does not run backwards, nor while a body runs.
        """
        if duration_ms < 0:
            raise UsageError(f"time does not run backwards: {duration_ms} ms were to be skipped")
        until_ms = self._clock.now_ms + duration_ms
        self._move(lambda: False, until_ms, "")

    def wait(self, is_over: Callable[[], bool], wait_ms: int, workflow_id: str) -> None:
        """See `Mover.wait`.

        Raises:
            WorkflowStuck: It has no bound, and nothing is due any more, or no end is in sight.
        """
        until_ms = None if wait_ms >= WAIT_MS_MAX else self._clock.now_ms + wait_ms
        self._move(is_over, until_ms, workflow_id)

    def _move(self, is_over: Callable[[], bool], until_ms: int | None, workflow_id: str) -> None:
        with self._store.moving() as is_ours:
            if not is_ours:
                raise UsageError("a step's body cannot wait for the world in which it runs")
            _off_loop(lambda: self._jump(is_over, until_ms, workflow_id))

    def _jump(self, is_over: Callable[[], bool], until_ms: int | None, workflow_id: str) -> None:
        self._settle()
        while not is_over():
            due_ms = self._store.due_at_ms(self._workers.begun)
            if due_ms is not None and due_ms <= self._clock.now_ms:
                due_ms = self._clock.now_ms + _REST_MS
            if until_ms is not None and (due_ms is None or due_ms > until_ms):
                self._set_clock(max(self._clock.now_ms, until_ms))
                return
            if due_ms is None:
                raise self._stuck(workflow_id, "nothing is due any more")
            if until_ms is None:
                self._count_jump(workflow_id)
            self._set_clock(due_ms)

    def _count_jump(self, workflow_id: str) -> None:
        """Count what was jumped to since the test last told a run something.

        Raises:
            WorkflowStuck: So often that it will go on like this.
        """
        if self._store.told != self._told_before:
            self._told_before, self._jumps = self._store.told, 0
        if self._jumps >= _JUMPS_MAX:
            raise self._stuck(workflow_id, f"after {self._jumps} timers no end is in sight")
        self._jumps += 1

    def _set_clock(self, now_ms: int) -> None:
        self._clock.now_ms = now_ms
        # First, as in time: a worker renews long before a claim expires.
        self._workers.renew()
        self._settle()

    # --- what went wrong --------------------------------------------------------------------------

    def _stuck(self, workflow_id: str, why: str) -> WorkflowStuck:
        row = self._store.find_row(workflow_id)
        assert row is not None, "the client has looked it up"
        key = RunKey(workflow_id=workflow_id, run=int(row["run"]))
        waits = what_it_waits_for(
            key,
            of_version(self._registry, row.get("type", ""), row.get("version", "")),
            self._history(key),
            self._blobs,
            self._workers.held,
        )
        return WorkflowStuck(workflow_id, row["status"], why, waits)

    def _history(self, key: RunKey) -> list[e.Event]:
        stored = self._store.read_history(key)
        return [decode(loads(event.data)) for event in stored]  # type: ignore[arg-type]

    def _raise_what_went_wrong(self) -> None:
        if self._workers.assertions:
            error = self._workers.assertions[0]
            self._workers.assertions.clear()
            raise error
        blocked = self._store.blocked_runs()
        self._told.intersection_update(blocked)
        for key in blocked:
            if self._raises_blocked and key not in self._told:
                self._told.add(key)
                raise self._reason(key)

    def _reason(self, key: RunKey) -> BaseException:
        noted = self._failures.pop(str(key), None)
        error: BaseException | None = noted.__cause__ if noted and noted.kind == "bug" else None
        if error is None:
            blocks = [one for one in self._history(key) if isinstance(one, e.RunBlocked)]
            said = blocks[-1]
            error = ActivationFailed(
                said.kind, said.message, said.where, said.traceback, said.recorded, said.issued
            )
        error = _assertion_in(error) or error
        error.add_note(f"{key.workflow_id} run {key.run} is blocked by it")
        return error

    def _watch(self, subject: str, activate: Callable[[], T]) -> T:
        """See `engine.turn.Watch`; a debugger may take its time."""
        try:
            return activate()
        except ActivationFailed as failed:
            self._failures[subject] = failed
            raise

    # --- the orchestrator -------------------------------------------------------------------------

    def _new_owner(self) -> Owner:
        settings = EngineSettings(lease_ttl_ms=_FOR_EVER_MS, orchestrator_ttl_ms=_FOR_EVER_MS)
        tools = Tools(
            registry=self._registry,
            dispatcher=Dispatcher(),
            blobs=self._blobs,
            rng=self._rng,
            owner_id=_OWNER_ID,
            engine_version=engine_version(),
            watch=self._watch,
            now_ms=self._store.now_ms,
            read_step=self._store.read_step,
            read_history=self._store.read_history,
        )
        leases = Leases(self._store, _OWNER_ID, settings)
        owner = Owner(self._store, leases, tools, self._workers, settings, clock=self._store.now_ms)
        with self._store.moving():
            owner.balance(self._store.now_ms())
        return owner


class Registry(Mapping[str, WorkflowDefinition]):
    """The app's workflows, as they are at each look.

    Where an assertion that fails would only fail the run (``bugs_fail``), it is noted (TE3).
    """

    def __init__(
        self, registry: Mapping[str, WorkflowDefinition], assertions: list[AssertionError]
    ) -> None:
        self._registry = registry
        self._assertions = assertions

    def __getitem__(self, name: str) -> WorkflowDefinition:
        definition = self._registry[name]
        others = tuple(self._watched(each) for each in definition.others)
        return self._watched(replace(definition, others=others) if others else definition)

    def __iter__(self) -> Iterator[str]:
        return iter(self._registry)

    def __len__(self) -> int:
        return len(self._registry)

    def _watched(self, definition: WorkflowDefinition) -> WorkflowDefinition:
        is_failure = definition.bugs_fail or issubclass(AssertionError, definition.failure_types)
        return self._noting(definition) if is_failure else definition

    def _noting(self, definition: WorkflowDefinition) -> WorkflowDefinition:
        function, assertions = definition.function, self._assertions

        @functools.wraps(function)
        async def noting(*args: Any, **kwargs: Any) -> Any:
            try:
                return await function(*args, **kwargs)
            except AssertionError as error:
                assertions.append(error)
                raise

        return replace(definition, function=noting)


def _assertion_in(error: BaseException) -> AssertionError | None:
    """Return the first failed assertion in a group."""
    if isinstance(error, BaseExceptionGroup):
        found = (_assertion_in(one) for one in error.exceptions)
        return next((one for one in found if one is not None), None)
    return error if isinstance(error, AssertionError) else None


def _off_loop(call: Callable[[], T]) -> T:
    """Return what `call` returns, called where no event loop runs: workflows bring their own."""
    if asyncio._get_running_loop() is None:
        return call()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, call).result()
