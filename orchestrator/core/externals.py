"""What a run says to other runs: signals, requests to stop, the wait for a result.

EX1  Each is a command, numbered from 1, in a row of its own; what became of it is an input.
EX2  The other run knows a repeated one again by the sender's run and the number.
EX3  Whoever is cancelled while he waits waits no more; what he asked for is not taken back.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ApplicationError, ExternalWorkflowError
from orchestrator.core.events import (
    Command,
    ExternalCancelSent,
    ExternalCompleted,
    ExternalFailed,
    ExternalResultAwaited,
    ExternalSignalSent,
)
from orchestrator.core.loop import WorkflowLoop
from orchestrator.core.values import Json, digest


class Host(Protocol):
    """What externals need of the execution they belong to."""

    definition: WorkflowDefinition
    loop: WorkflowLoop
    now_ms: int

    def issue(self, command: Command) -> None:
        """Record a command."""
        ...


class Externals:
    """What one run has asked of others, and who waits for the answers."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._count = 0
        self._waiting: dict[int, asyncio.Future[ExternalCompleted | ExternalFailed]] = {}

    def settle(self, event: ExternalCompleted | ExternalFailed) -> None:
        """Hand an answer to who waits for it."""
        future = self._waiting.pop(event.external, None)
        if future is not None and not future.done():
            future.set_result(event)

    async def signal(self, id: str, run: int, name: str, payload: Json) -> None:
        """Send a signal, and wait until it has been recorded there."""
        await self._ask(
            id,
            lambda number: ExternalSignalSent(
                at_ms=self._host.now_ms,
                external=number,
                id=id,
                run=run,
                signal=name,
                payload_digest=digest(payload),
                payload=payload,
            ),
        )

    async def cancel(self, id: str, run: int, reason: str) -> None:
        """Ask a run to stop, and wait until the request has been recorded there."""
        await self._ask(
            id,
            lambda number: ExternalCancelSent(
                at_ms=self._host.now_ms, external=number, id=id, run=run, reason=reason
            ),
        )

    async def result(self, id: str, run: int, type: Any) -> Any:
        """Wait for a run's end, and return its result as `type`, or as JSON."""
        ended = await self._ask(
            id,
            lambda number: ExternalResultAwaited(
                at_ms=self._host.now_ms, external=number, id=id, run=run
            ),
        )
        return self._host.definition.codec.decode(type, ended.result)

    def ask(
        self, command: Callable[[int], Command]
    ) -> asyncio.Future[ExternalCompleted | ExternalFailed]:
        """Issue the command of the next number; return what its answer resolves."""
        future = self._host.loop.create_future()
        if not self._host.loop.is_shut:
            number = self._count + 1
            self._host.issue(command(number))
            self._count = number
            self._waiting[number] = future
        return future

    async def _ask(self, id: str, command: Callable[[int], Command]) -> ExternalCompleted:
        answer = await self.ask(command)
        if isinstance(answer, ExternalCompleted):
            return answer
        assert isinstance(answer, ExternalFailed)
        failure = answer.failure
        cause = ApplicationError(
            failure.message, failure.type, failure.non_retryable, None, failure.details
        )
        raise ExternalWorkflowError(id, answer.run, answer.kind, failure) from cause
