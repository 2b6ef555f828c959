"""Run flows on a redis-py client: one class for sync, one for asyncio, no logic in either.

X1  No answer is `StoreUnavailable`, whatever redis-py calls it: what was asked may have happened.
X2  The only thing sent again is a script that the server did not know (after a restart, its cache
    is empty): NOSCRIPT says for certain that it did not run.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from orchestrator.core.errors import StoreUnavailable
from orchestrator.store.calls import Call, Flow

_T = TypeVar("_T")


def _unavailable(calls: Sequence[Call], error: Exception) -> StoreUnavailable:
    return StoreUnavailable(calls[0].operation, f"{type(error).__name__}: {error}")


def _unknown_scripts(calls: Sequence[Call], replies: Sequence[Any]) -> list[int]:
    """Return the indexes of the calls whose script the server did not know."""
    return [
        index
        for index, (call, reply) in enumerate(zip(calls, replies, strict=True))
        if call.script is not None and isinstance(reply, NoScriptError)
    ]


def _loads(calls: Sequence[Call]) -> list[Call]:
    """Return the calls that make the scripts of `calls` known."""
    sources = {call.script.source: call.operation for call in calls if call.script is not None}
    return [Call(operation, ("SCRIPT LOAD", source)) for source, operation in sources.items()]


class Executor:
    """Runs flows on a sync client; from any thread.

    Args:
        client: For everything that answers at once.
        blocking: For calls that wait; see `connect.blocking_twin`.
    """

    def __init__(self, client: Redis, blocking: Redis) -> None:
        self._client = client
        self._blocking = blocking

    def run(self, flow: Flow[_T]) -> _T:
        """Return what `flow` returns.

        Raises:
            StoreUnavailable: No answer (X1).
        """
        try:
            calls = next(flow)
            while True:
                calls = flow.send(self._execute(calls))
        except StopIteration as stop:
            answer: _T = stop.value
            return answer
        finally:
            flow.close()

    def _execute(self, calls: Sequence[Call]) -> list[Any]:
        try:
            replies = self._send(calls)
            missing = _unknown_scripts(calls, replies)
            if missing:
                again = [calls[index] for index in missing]
                self._send(_loads(again))
                for index, reply in zip(missing, self._send(again), strict=True):
                    replies[index] = reply
        except (RedisError, OSError) as error:
            raise _unavailable(calls, error) from error
        return replies

    def _send(self, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1:
            client = self._blocking if calls[0].blocks else self._client
            try:
                return [client.execute_command(*calls[0].command)]  # type: ignore[no-untyped-call]
            except ResponseError as error:
                return [error]
        with self._client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command(*call.command)  # type: ignore[no-untyped-call]
            return list(pipeline.execute(raise_on_error=False))


def _times_cancelled() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


class AsyncExecutor:
    """Runs flows on an asyncio client; see `Executor`."""

    def __init__(self, client: AsyncRedis, blocking: AsyncRedis) -> None:
        self._client = client
        self._blocking = blocking

    async def run(self, flow: Flow[_T]) -> _T:
        """See `Executor.run`."""
        cancelled_before = _times_cancelled()
        try:
            calls = next(flow)
            while True:
                replies = await self._execute(calls)
                # Until Python 3.12, `asyncio.wait_for`, which redis-py sends with, may swallow a
                # cancellation that meets the end of the sending (python/cpython#86296).
                if _times_cancelled() > cancelled_before:
                    raise asyncio.CancelledError
                calls = flow.send(replies)
        except StopIteration as stop:
            answer: _T = stop.value
            return answer
        finally:
            flow.close()

    async def _execute(self, calls: Sequence[Call]) -> list[Any]:
        try:
            replies = await self._send(calls)
            missing = _unknown_scripts(calls, replies)
            if missing:
                again = [calls[index] for index in missing]
                await self._send(_loads(again))
                for index, reply in zip(missing, await self._send(again), strict=True):
                    replies[index] = reply
        except (RedisError, OSError) as error:
            raise _unavailable(calls, error) from error
        return replies

    async def _send(self, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1:
            client = self._blocking if calls[0].blocks else self._client
            try:
                return [await client.execute_command(*calls[0].command)]  # type: ignore[no-untyped-call]
            except ResponseError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command(*call.command)
            return list(await pipeline.execute(raise_on_error=False))
