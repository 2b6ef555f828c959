"""What a run's code has ordered: the commands of one activation, the steps outstanding.

O1  Steps, children, timers and sagas are numbered from 1, each in a row of their own, in the order
    of asking.
O2  What user code asks for while it only may read is refused; while it is unwound, it is forgotten.
"""

import asyncio
from dataclasses import replace
from typing import NoReturn

from orchestrator.core import endings
from orchestrator.core.children import Child, ChildOrder
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ActivationFailed, ActivationInterrupted, ForbiddenInWorkflow
from orchestrator.core.events import (
    ChildCancelRequested,
    ChildCompleted,
    ChildFailed,
    ChildScheduled,
    ChildStarted,
    Command,
    RunStarted,
    ScheduleTimesComputed,
    ScheduleTimesRequested,
    StepCancelRequested,
    StepScheduled,
    TimerCancelled,
    TimerStarted,
)
from orchestrator.core.externals import Externals
from orchestrator.core.intercepting import ordered_child, ordered_step
from orchestrator.core.limits import COMMANDS_PER_ACTIVATION_MAX, SCHEDULE_TIMES_MAX
from orchestrator.core.loop import WorkflowLoop
from orchestrator.core.places import Place, in_words, place_of_caller, place_of_traceback
from orchestrator.core.run_info import RunInfo
from orchestrator.core.steps import Follower, Order, Step
from orchestrator.core.values import Json, digest


class Orders:
    """The part of an execution that its user code orders from.  See `loop.Host` too."""

    definition: WorkflowDefinition
    info: RunInfo
    externals: Externals
    #: The first event, once it is applied.
    started: RunStarted

    def __init__(self, *, salt: int, replaying: bool) -> None:
        self.replaying = replaying
        #: False once the execution can no longer be trusted: drop it and replay the history.
        self.is_usable = True
        #: Whether a validator did more than read: drop it after this activation, and replay.
        self.is_spoiled = False
        self.now_ms = 0
        #: Per command of the last activation, where in the author's code it was asked for; only
        #: while `replaying`.
        self.places: list[Place | None] = []
        # What typeshed calls abstract is refused by `outside`.
        self.loop = WorkflowLoop(self, salt=salt)  # type: ignore[abstract]
        self._commands: list[Command] = []
        self._failed: ActivationFailed | None = None
        self._steps: dict[int, Step] = {}
        self._step_count = 0
        self._children: dict[int, Child] = {}
        self._child_count = 0
        self._timer_count = 0
        #: Of the timer that is about to be started, for people.
        self.timer_summary = ""
        self._times_count = 0
        #: Requests for a schedule's instants that are not answered.
        self.times_wanted: dict[int, asyncio.Future[ScheduleTimesComputed]] = {}

    @property
    def issued(self) -> int:
        """How many commands the activation has."""
        return len(self._commands)

    def issue(self, command: Command, *, index: int | None = None) -> None:
        """Record a command; last, or before that of the activation which has `index` so far."""
        if self.loop.read_only:
            self.refuse(
                f"ordering something in a {self.loop.read_only}",
                "only read the workflow's state there",
            )
        if len(self._commands) >= COMMANDS_PER_ACTIVATION_MAX:
            self._fail(
                ActivationFailed(
                    "limit",
                    f"more than {COMMANDS_PER_ACTIVATION_MAX} commands in one activation",
                    in_words(place_of_caller()),
                )
            )
            # Not an Exception: the code that asks for so much must not be able to go on.
            raise ActivationInterrupted
        at = self.issued if index is None else index
        self._commands.insert(at, command)
        if self.replaying:
            self.places.insert(at, place_of_caller())

    def order_step(
        self,
        order: Order,
        *,
        saga: int | None = None,
        undo: str | None = None,
        compensates: int | None = None,
        follower: Follower | None = None,
    ) -> Step:
        """Order a step; one of user code that is being unwound is never to settle."""
        if self.loop.is_shut and compensates is None:
            return Step(0, order, self.loop.create_future())
        order, headers = self._intercepted(order, is_undo=compensates is not None)
        number = self._step_count + 1
        args, kwargs = order.args, order.kwargs
        self.issue(
            StepScheduled(
                at_ms=self.now_ms,
                step=number,
                task=order.task,
                args_digest=digest([args, kwargs]),
                args=args,
                kwargs=kwargs,
                options=order.options,
                undo=undo,
                compensates=compensates,
                saga=saga,
                summary=order.summary,
                headers=headers,
            )
        )
        self._step_count = number
        future = self.loop.create_future() if compensates is None else None
        step = self._steps[number] = Step(number, order, future, follower)
        return step

    def _intercepted(self, order: Order, *, is_undo: bool) -> tuple[Order, dict[str, Json] | None]:
        try:
            return ordered_step(self, order)
        except Exception as error:
            if not is_undo:
                raise
            # No user code stands around an undoing that could be told.
            self._fail(endings.bug(error))
            return order, None

    def cancel_step(self, step: Step) -> None:
        """Ask an outstanding step to stop; once, and never one that is to be abandoned."""
        if step.order.options.get("cancellation") == "abandon":
            return
        if step.outcome is None and not step.is_cancel_requested and step.number:
            step.is_cancel_requested = True
            self.issue(StepCancelRequested(at_ms=self.now_ms, step=step.number))

    def order_child(self, order: ChildOrder, default_stem: str) -> Child:
        """Order a run of another workflow; without an id it is called after `default_stem`."""
        number = self._child_count + 1
        workflow_id = order.id or f"{default_stem}.child-{number}"
        child = Child(number, workflow_id, order, self.loop.create_future())
        if order.announced:
            child.started = self.loop.create_future()
        if self.loop.is_shut:
            return child
        headers = ordered_child(self, order)
        self.issue(
            ChildScheduled(
                at_ms=self.now_ms,
                child=number,
                workflow=order.workflow,
                id=workflow_id,
                args_digest=digest([order.args, order.kwargs]),
                args=order.args,
                kwargs=order.kwargs,
                parent_close_policy=order.parent_close_policy,
                scheduled=order.scheduled,
                said=order.said,
                announced=order.announced,
                headers=headers,
            )
        )
        self._child_count = number
        self._children[number] = child
        return child

    def cancel_child(self, child: Child, *, terminate: bool = False) -> None:
        """Ask a child that has not ended to stop, or end it; once."""
        if child.number not in self._children or child.is_cancel_requested:
            return
        child.is_cancel_requested = True
        asked = ChildCancelRequested(at_ms=self.now_ms, child=child.number, terminate=terminate)
        if child.order.cancellation_type == "wait_cancellation_requested" and not terminate:
            child.cancel_heard = self.externals.ask(lambda number: replace(asked, external=number))
        else:
            self.issue(asked)

    def settle_child(self, event: ChildStarted | ChildCompleted | ChildFailed) -> None:
        """Take note of what became of a child."""
        if isinstance(event, ChildStarted):
            if event.child in self._children:
                self._children[event.child].begin(event.run)
        elif event.child in self._children:
            self._children.pop(event.child).end(event)

    def ask_times(
        self, schedule: str, spec: dict[str, Json], after_ms: int, missed_until_ms: int
    ) -> "asyncio.Future[ScheduleTimesComputed]":
        """Ask for a schedule's next instants; the engine computes them, and they are recorded."""
        self._times_count += 1
        self.issue(
            ScheduleTimesRequested(
                at_ms=self.now_ms,
                request=self._times_count,
                schedule=schedule,
                spec=spec,
                after_ms=after_ms,
                missed_until_ms=missed_until_ms,
                count=SCHEDULE_TIMES_MAX,
            )
        )
        future = self.times_wanted[self._times_count] = self.loop.create_future()
        return future

    def start_timer(self, duration_ms: int) -> int:
        """See `loop.Host`."""
        timer = self._timer_count + 1
        self.issue(
            TimerStarted(
                at_ms=self.now_ms,
                timer=timer,
                duration_ms=duration_ms,
                due_at_ms=self.now_ms + duration_ms,
                summary=self.timer_summary,
            )
        )
        self._timer_count = timer
        return timer

    def cancel_timer(self, timer: int) -> None:
        """See `loop.Host`."""
        self.issue(TimerCancelled(at_ms=self.now_ms, timer=timer))

    def refuse(self, call: str, instead: str) -> NoReturn:
        """See `loop.Host`; what a query or a validator does is not kept: no history has it."""
        error = ForbiddenInWorkflow(call, instead)
        if self.loop.read_only == "query":
            # A future it resolved may have been left without its waiter.
            self.is_usable = False
        elif self.loop.read_only == "validator":
            self.is_spoiled = True
        elif not self.loop.is_shut:
            self._fail(ActivationFailed("forbidden", str(error), in_words(place_of_caller())))
        raise error

    def interrupted(self, error: BaseException) -> None:
        """See `loop.Host`."""
        where = in_words(place_of_traceback(error.__traceback__))
        self._fail(ActivationFailed("deadline", "the activation held the thread too long", where))

    def _fail(self, failed: ActivationFailed) -> None:
        """Keep why the activation failed, the first time, and stop the loop."""
        if self._failed is None:
            self._failed = failed
        self.loop.halt = True
