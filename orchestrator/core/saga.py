"""Sagas: a block of steps that is finished, or undone.

    async with workflow.saga() as saga:
        reservation = await saga.step(reserve, order, undo=release)
        await saga.step(charge, order, undo=refund)

Leaving the block in good order commits the saga, unless `Saga.commit` did so before.  A failure
that leaves it undoes what may have taken effect, newest first, before it goes on.
Cancellations and time-outs that arrive meanwhile wait until that is done.
"""

import asyncio
import inspect
from dataclasses import replace
from types import TracebackType
from typing import Any

from orchestrator.core import endings
from orchestrator.core.compensation import SagaRecord, SagaState, Undo
from orchestrator.core.context import current, outcome_of, split_options
from orchestrator.core.errors import RunEvicted, UsageError
from orchestrator.core.execution import Execution
from orchestrator.core.options import StepOptions
from orchestrator.core.permits import Both, given_back_on_error
from orchestrator.core.retry import RETRY_UNTIL_DONE, Retry
from orchestrator.core.steps import OPTION_NAMES, function_of, order_of, takes_result, task_name


class Saga:
    """See the module.  Made by `workflow.saga()`; entered once."""

    def __init__(self, *, parallel: bool = False) -> None:
        current("saga()")
        self._is_parallel = parallel
        self._entered: tuple[Execution, SagaRecord] | None = None

    async def __aenter__(self) -> "Saga":
        if self._entered is not None:
            raise UsageError("a saga is entered once; make a new one with workflow.saga()")
        execution = current("saga()")
        self._entered = execution, execution.open_saga(is_parallel=self._is_parallel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        execution, record = self._record()
        if execution.loop.is_shut:
            return
        if record.state is SagaState.OPEN:
            await self._settle(execution, record, error)
        if execution.saga_left(record) and error is None:
            # The run's cancellation was held back: it comes here, before the next step is ordered.
            await asyncio.sleep(0)

    async def step(
        self,
        task: Any,
        /,
        *args: Any,
        undo: Any = None,
        undo_retry: Retry | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the result of `task`, as `workflow.step` does, and know how to undo it.

        Args:
            task: See `workflow.step`.
            args: The task's.
            undo: The task that undoes it.  It gets the step's own arguments, and the step's
                result (JSON; None if unknown) as ``result`` if it has a parameter of that name.
            undo_retry: Its retries; until it works unless given.
            kwargs: The task's, and the settings of the step.

        Raises:
            UsageError: The saga's block is left, or not yet entered; else as `workflow.step`.
        """
        execution, record = self._record()
        if current("saga") is not execution:
            raise UsageError("this saga belongs to another run")
        options: StepOptions | None = None
        names_retry = kwargs.get("retry") is not None
        if not OPTION_NAMES.isdisjoint(kwargs):
            options, kwargs = split_options(kwargs)
        hold = await execution.permits.taken_for(options)
        with given_back_on_error(hold):
            if record.state is SagaState.COMMITTED:
                options = replace(options or StepOptions(), until_done=True)
                if not names_retry:
                    options = replace(options, retry=RETRY_UNTIL_DONE)
            elif record.state is not SagaState.OPEN and not execution.loop.is_shut:
                raise UsageError(f"saga {record.number} takes no more steps: its block was left")
            order = order_of(execution.definition.codec, task, args, kwargs, options)
            undoing = None if undo is None else _undo_of(undo, undo_retry)
            ordered = execution.order_step(
                order,
                saga=record.number,
                undo=undoing.task if undoing is not None else None,
                follower=record if hold is None else Both(record, hold),
            )
        if not execution.loop.is_shut:
            # What code orders while it is unwound is forgotten: the end must not wait for it.
            record.add(ordered, undoing)
        return await outcome_of(execution, ordered)

    def commit(self) -> None:
        """Pass the point of no return: from here on the saga is driven forward, never undone.

        Further steps are tried until they work, unless they name their own retry; a cancellation
        of the run waits until the block is left.

        Raises:
            UsageError: Not inside the block, or committed already.
        """
        execution, record = self._record()
        if execution.loop.is_shut:
            return
        if record.state is not SagaState.OPEN:
            raise UsageError(f"saga {record.number} is {record.state.value}: commit() comes once")
        record.commit()

    def _record(self) -> tuple[Execution, SagaRecord]:
        if self._entered is None:
            raise UsageError("use a saga as a block: async with workflow.saga() as saga")
        return self._entered

    async def _settle(
        self, execution: Execution, record: SagaRecord, error: BaseException | None
    ) -> None:
        if error is None:
            if record.has_undo:
                # Left without a failure: from here on nobody may undo it, and history says so.
                record.commit()
            return
        if not endings.is_failure(execution.definition, error):
            # Undoing because of a bug would undo good work; going on would leave it half done.
            # Nor do coroutines that leave memory, closed or collected, order anything.
            if not isinstance(error, (RunEvicted, GeneratorExit)) and record.has_undo:
                execution.fail(error)
            return
        record.compensate(endings.reason_in(error))
        while record.is_compensating:
            waiter = execution.loop.create_future()
            record.when_over(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                # Absorbed: half an undo is worse than none.  What left the block goes on after.
                continue


def _undo_of(undo: Any, retry: Retry | None) -> Undo:
    is_local = inspect.isroutine(undo)
    options = StepOptions(retry=retry or RETRY_UNTIL_DONE, until_done=True, local=is_local)
    return Undo(
        task=task_name(undo, local=is_local),
        options=options.as_json(),
        wants_result=not isinstance(undo, str) and takes_result(function_of(undo)),
    )
