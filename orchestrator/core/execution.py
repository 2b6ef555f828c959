"""One run in memory: an input goes in, commands come out.

X1  One input, one activation: it is applied alone, then the loop is drained.
X2  What user code must not swallow is kept, and raised by `Execution.apply` after the drain.
X3  No ending is issued while a compensation runs, or while an open saga has something to undo.
X4  After an end, or once closed, no user code runs but to be unwound.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from random import Random
from typing import Any, cast

from orchestrator.core import endings, guard, randomness
from orchestrator.core.compensation import SagaRecord, SagaState
from orchestrator.core.conditions import Conditions
from orchestrator.core.deadlines import failure_of_timeout
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import (
    ActivationFailed,
    ActivationInterrupted,
)
from orchestrator.core.events import (
    CancelRequested,
    ChildCompleted,
    ChildFailed,
    ChildStarted,
    Command,
    ExternalCompleted,
    ExternalFailed,
    Input,
    PermitGranted,
    RunCancelled,
    RunCompleted,
    RunContinuedAsNew,
    RunFailed,
    RunStarted,
    RunTerminated,
    RunTimedOut,
    ScheduleTimesComputed,
    SignalReceived,
    StepCompleted,
    StepFailed,
    TerminateRequested,
    TimerFired,
    UpdateReceived,
)
from orchestrator.core.externals import Externals
from orchestrator.core.flags import STREAMS
from orchestrator.core.handlers import Handlers
from orchestrator.core.intercepting import main_of
from orchestrator.core.limits import CALLBACKS_PER_ACTIVATION_MAX
from orchestrator.core.mailbox import Mailbox
from orchestrator.core.orders import Orders
from orchestrator.core.patches import Patches
from orchestrator.core.permits import Permits
from orchestrator.core.queries import Queries
from orchestrator.core.run_info import RunInfo
from orchestrator.core.streams import Streams
from orchestrator.core.updates import Updates
from orchestrator.core.values import Json


class Execution(Orders):
    """See the module.

    Args:
        definition: The workflow.
        info: Which run of it.
        replaying: Whether recorded inputs are applied: then loggers are silent, and the author's
            source line is noted for each command.
    """

    def __init__(
        self, definition: WorkflowDefinition, info: RunInfo, *, replaying: bool = False
    ) -> None:
        salt = hashlib.sha256(f"{info.workflow_id}:{info.run}".encode()).digest()
        super().__init__(salt=int.from_bytes(salt[:4], "big"), replaying=replaying)
        self.definition = definition
        self.info = info
        #: Number of the event that is applied now; set by who applies it.
        self.seq = 0
        self.is_finished = False
        #: What follows the end that its code makes: recorded while the run was blocked, or undid.
        self.late: list[Input] = []
        self.mailbox = Mailbox()
        self.queries = Queries()
        self.handlers = Handlers()
        self.updates = Updates(self)
        self.externals = Externals(self)
        self.permits: Permits = Permits(self)
        self.conditions = Conditions()
        self.patches = Patches()
        #: Values asked for so far, and those that a history has for what is replayed, by number.
        self.side_effects = 0
        self.side_effect_values: dict[int, Json] = {}
        self.random: Random | None = None
        self.seed = ""
        #: The engine's decisions that the run was born with; see `core.flags`.
        self.flags: frozenset[int] = frozenset()
        self.streams = Streams(self)
        self.published: object = None
        self._sagas: list[SagaRecord] = []
        self._saga_count = 0
        self._cancel_reason: str | None = None
        self._is_cancelled = False
        self._early_end: BaseException | None = None
        self._ending: Command | None = None
        guard.adopt_once(definition.function)

    # --- the engine's side ---------------------------------------------------------------------

    def apply(self, event: Input) -> list[Command]:
        """Apply one input, run the workflow until it waits, and return what it ordered.

        Every command carries the input's ``at_ms``.

        Raises:
            ActivationFailed: The run cannot go on with this code; the execution is useless now:
                close it.
        """
        assert self.is_usable, "an execution that failed, or was closed, takes no input"
        commands: list[Command] = []
        self._commands = commands
        self.places = []
        self.patches.activation += 1
        if self.is_finished or self._is_for_the_next_run(event):
            self.late.append(event)
            return commands
        self.is_usable = False
        self.now_ms = self.loop.now_ms = event.at_ms
        try:
            with self.loop:
                _APPLY[type(event)](self, event)
                self._rest()
        except ActivationFailed as failed:
            self._fail(failed)
        except ActivationInterrupted as error:
            self.interrupted(error)
        if self._failed is not None:
            raise self._failed
        self.is_usable = True
        return commands

    def published_state(self) -> Json | None:
        """Return the published model as JSON, as it is now; None if nothing was published.

        Raises:
            ActivationFailed: It has no JSON form.
        """
        if self.published is None:
            return None
        try:
            return self.definition.codec.encode(self.published)
        except (TypeError, ValueError) as error:
            raise endings.bug(error) from error

    def query(self, name: str, args: list[Json]) -> Json:
        """Return the answer of the query's handler, as JSON.

        Whoever gets an error looks at `is_usable` afterwards: a handler that tried to order
        something may have left half of it behind.

        Raises:
            UnknownQuery: No such query.
            InvalidPayload: The arguments do not validate.
            ForbiddenInWorkflow: The handler did more than read.
            ApplicationError: The handler raised, with the type and message of what it raised.
        """
        with self.loop, self.loop.only_reading("query"), self.streams.still():
            return self.queries.answer(name, args, self)

    def close(self) -> None:
        """Let the run leave memory: its coroutines are unwound and order nothing.  Idempotent."""
        self.is_usable = False
        self.loop.shut()

    def take_complaints(self) -> list[str]:
        """Return, once, what went wrong in background tasks that nobody awaited; for a log."""
        complaints = list(self.loop.complaints)
        self.loop.complaints.clear()
        return complaints

    @property
    def is_silent(self) -> bool:
        """Whether what user code logs now was logged before, or is not to happen at all."""
        return self.replaying or self.loop.is_shut

    # --- the workflow's side -------------------------------------------------------------------

    def open_saga(self, *, is_parallel: bool) -> SagaRecord:
        """Return the record of a new saga, entered by the current task."""
        self._saga_count += 1
        is_mains = asyncio.current_task() is self.loop.main
        saga = SagaRecord(self, self._saga_count, is_parallel=is_parallel, is_mains=is_mains)
        self._sagas.append(saga)
        return saga

    def saga_left(self, saga: SagaRecord) -> bool:
        """Take note that the block of `saga` is left.

        Return whether a cancellation that it held back now hits the task that left it.
        """
        saga.close()
        if saga in self._sagas:
            self._sagas.remove(saga)
        return self._deliver_cancellation() and asyncio.current_task() is self.loop.main

    @property
    def has_open_saga(self) -> bool:
        """Whether a saga is neither committed nor undone."""
        return any(saga.state is SagaState.OPEN for saga in self._sagas)

    def compensation_over(self) -> None:
        """See `compensation.Host`; the end, if it waits for this, is looked at after the drain."""

    def handler_failed(self, error: BaseException) -> None:
        """End the run as if `error` had left the workflow function."""
        if self._early_end is None:
            self._early_end = error
            self.loop.halt = True

    def stop(self, failed: ActivationFailed) -> None:
        """Let the activation fail for this, whatever becomes of it in user code."""
        self._fail(failed)

    def fail(self, error: BaseException) -> None:
        """Block the run for `error`, a bug, whatever becomes of it in user code."""
        self._fail(endings.bug(error))

    # --- inside --------------------------------------------------------------------------------

    def _start(self, event: RunStarted) -> None:
        definition = self.definition
        self.started, self.seed = event, event.seed
        self.random = randomness.stream(event.seed)
        self.flags = frozenset(event.flags)
        self.streams.begin(event.seed, is_recorded=STREAMS in self.flags)
        if event.is_withdrawn:
            return
        try:
            args, kwargs = definition.decode_input(event.args, event.kwargs)
            coro = cast("Any", main_of(self, args, kwargs))
            main = self.loop.create_task(coro, name="main", context=Context())
        except Exception as error:
            raise endings.bug(error) from error
        self.loop.main = cast("Any", main)

    def _settle(self, event: StepCompleted | StepFailed) -> None:
        step = self._steps.pop(event.step, None)
        if step is None:
            return
        step.outcome = event
        if step.follower is not None:
            step.follower.step_settled(step)
        if step.future is not None and not step.future.done():
            step.future.set_result(None)

    def _answer_times(self, event: ScheduleTimesComputed) -> None:
        future = self.times_wanted.pop(event.request, None)
        if future is not None and not future.done():
            future.set_result(event)

    def _update(self, event: UpdateReceived) -> None:
        if self._ending is not None:
            self.updates.reject(event, "the run is ending")
        else:
            self.updates.receive(event)

    def _cancel(self, event: CancelRequested) -> None:
        if self._cancel_reason is None:
            self._cancel_reason = event.reason
            if self.loop.main is None:  # It was withdrawn before it began.
                self._end(RunCancelled(at_ms=0, reason=event.reason))
            self._deliver_cancellation()
            if self.loop.lingers:
                self.handlers.cancel_waited_for()

    def _is_for_the_next_run(self, event: Input) -> bool:
        goes_on = isinstance(self._ending, RunContinuedAsNew)
        return goes_on and isinstance(event, CancelRequested | TerminateRequested)

    def _deliver_cancellation(self) -> bool:
        """Cancel the main task, once, unless a saga holds that back; return whether it did."""
        if self._cancel_reason is None or self._is_cancelled or self.loop.main is None:
            return False
        for saga in self._sagas:
            if saga.state is SagaState.COMMITTED or (saga.is_mains and saga.is_compensating):
                return False
        self._is_cancelled = True
        return self.loop.main.cancel()

    def _stop(self, ending: Command) -> None:
        if self._ending is None:
            self._end(ending)

    def _rest(self) -> None:
        left = CALLBACKS_PER_ACTIVATION_MAX
        while True:
            try:
                left -= self.loop.drain(left)
            except SystemExit as error:
                raise endings.bug(error) from error
            if self._failed is not None:
                return
            if left <= 0:
                raise ActivationFailed(
                    "limit", f"more than {CALLBACKS_PER_ACTIVATION_MAX} callbacks in one activation"
                )
            if self.handlers.begin_to_linger(self.loop, cancel_reason=self._cancel_reason):
                continue
            if self._ending is None and self._has_ended():
                self._end(self._ending_of_main())
            if self._ending is not None:
                break
            if not self.conditions.resolve(self.loop):
                self.streams.record()
                return
        self._issue_ending()

    def _has_ended(self) -> bool:
        main = self.loop.main
        if self._early_end is not None or main is None or not main.done():
            return self._early_end is not None
        return not (self.loop.lingers and self.handlers.are_waited_for)

    def _ending_of_main(self) -> Command:
        """Return the command that ends the run, not yet stamped."""
        try:
            if self._early_end is not None:
                raise self._early_end
            assert self.loop.main is not None
            result = self.definition.codec.encode(self.loop.main.result())
        except ActivationInterrupted:
            raise
        except BaseException as error:  # noqa: BLE001 - it is the run's end, or raised again
            return endings.ending_for(self.definition, error, self._cancel_reason)
        return RunCompleted(at_ms=0, result=result)

    def _end(self, ending: Command) -> None:
        self._ending = ending
        self.streams.record()  # What code draws while it is unwound leads to nothing.
        if not isinstance(ending, RunTerminated):
            self.loop.complaints.extend(self.handlers.complaints())
        self.conditions = Conditions()
        self.loop.shut()

    def _issue_ending(self) -> None:
        """Compensate what is open, newest saga first; then issue the ending (X3)."""
        assert self._ending is not None
        while self._sagas:
            saga = self._sagas[-1]
            if saga.state is SagaState.OPEN:
                saga.compensate(f"{type(self._ending).__name__}: the saga was still open")
            if saga.is_compensating:
                return
            self._sagas.pop()
        self.issue(replace(self._ending, at_ms=self.now_ms))
        self.is_finished = True


_APPLY: dict[type, Callable[[Execution, Any], None]] = {
    RunStarted: Execution._start,
    StepCompleted: Execution._settle,
    StepFailed: Execution._settle,
    ChildStarted: Execution.settle_child,
    ChildCompleted: Execution.settle_child,
    ChildFailed: Execution.settle_child,
    ScheduleTimesComputed: Execution._answer_times,
    TimerFired: lambda x, event: x.loop.fire(event.timer),
    SignalReceived: lambda x, event: x.mailbox.receive(event),
    UpdateReceived: Execution._update,
    ExternalCompleted: lambda execution, event: execution.externals.settle(event),
    ExternalFailed: lambda execution, event: execution.externals.settle(event),
    PermitGranted: lambda execution, event: execution.permits.settle(event),
    CancelRequested: Execution._cancel,
    TerminateRequested: lambda x, event: x._stop(RunTerminated(at_ms=0, reason=event.reason)),
    RunTimedOut: lambda x, event: x._stop(RunFailed(at_ms=0, failure=failure_of_timeout(event))),
}
