"""Ordered forms of asyncio's functions that iterate sets.

The standard library's ``as_completed`` puts coroutines into a set, whose order follows from their
addresses; its ``wait`` and ``all_tasks`` give sets back.  ``wait_for`` had other rules before
Python 3.12.  These have one behaviour, on every Python.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any

from orchestrator.core.loop import WorkflowLoop


class OrderedFutures(set[Any]):
    """A set of futures that iterates, and pops, in the order in which they were given."""

    def __init__(self, futures: Iterable[Any] = ()) -> None:
        self._order = list(dict.fromkeys(futures))
        super().__init__(self._order)

    def __iter__(self) -> Iterator[Any]:
        # Changes made to the set since show as members that are missing or new; new ones last.
        known = [one for one in self._order if one in self]
        new = [one for one in set.__iter__(self) if one not in self._order]
        return iter(known + new)

    def pop(self) -> Any:
        """Remove and return the first one."""
        for one in self:
            self.discard(one)
            return one
        raise KeyError("pop from an empty set")


async def wait(
    fs: Iterable[asyncio.Future[Any]],
    *,
    timeout: float | None = None,
    return_when: str = asyncio.ALL_COMPLETED,
) -> tuple[OrderedFutures, OrderedFutures]:
    """See `asyncio.wait`; the sets iterate in the order of `fs`."""
    if asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
        raise TypeError(f"wait() wants an iterable of futures, found {type(fs).__name__}")
    futures = list(dict.fromkeys(fs))
    if not futures:
        raise ValueError("wait() got no futures")
    if any(asyncio.iscoroutine(one) for one in futures):
        raise TypeError("wait() takes tasks and futures; make a task of a coroutine first")
    if return_when not in (
        asyncio.ALL_COMPLETED,
        asyncio.FIRST_COMPLETED,
        asyncio.FIRST_EXCEPTION,
    ):
        raise ValueError(f"wait() got an invalid return_when: {return_when}")
    if not _is_enough(futures, return_when):
        await _until_enough(futures, timeout, return_when)
    return (
        OrderedFutures(one for one in futures if one.done()),
        OrderedFutures(one for one in futures if not one.done()),
    )


def _is_enough(futures: list[asyncio.Future[Any]], return_when: str) -> bool:
    done = [one for one in futures if one.done()]
    if len(done) == len(futures):
        return True
    if return_when == asyncio.FIRST_COMPLETED:
        return bool(done)
    return return_when == asyncio.FIRST_EXCEPTION and any(
        not one.cancelled() and one.exception() is not None for one in done
    )


async def _until_enough(
    futures: list[asyncio.Future[Any]], timeout: float | None, return_when: str
) -> None:
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def release(*_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    def look(_: object) -> None:
        if _is_enough(futures, return_when):
            release()

    timer = None if timeout is None else loop.call_later(timeout, release)
    pending = [one for one in futures if not one.done()]
    for one in pending:
        one.add_done_callback(look)
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
        for one in pending:
            one.remove_done_callback(look)


class as_completed:
    """See `asyncio.as_completed`: iterated over with ``for`` or, on every Python, ``async for``.

    Ties are broken by the order in which the awaitables were given.
    """

    def __init__(self, fs: Iterable[Awaitable[Any]], *, timeout: float | None = None) -> None:
        if asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
            raise TypeError(f"as_completed() wants an iterable, found {type(fs).__name__}")
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._done: deque[asyncio.Future[Any] | None] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._todo: dict[asyncio.Future[Any], None] = dict.fromkeys(
            asyncio.ensure_future(one) for one in dict.fromkeys(fs)
        )
        self._left = len(self._todo)
        for one in list(self._todo):
            one.add_done_callback(self._completed)
        if self._todo and timeout is not None:
            self._timer = loop.call_later(timeout, self._timed_out)

    def __iter__(self) -> Iterator[Coroutine[Any, Any, Any]]:
        return self

    def __next__(self) -> Coroutine[Any, Any, Any]:
        if not self._left:
            raise StopIteration
        self._left -= 1
        return self._result()

    def __aiter__(self) -> AsyncIterator[asyncio.Future[Any]]:
        return self

    async def __anext__(self) -> asyncio.Future[Any]:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return await self._future()

    async def _result(self) -> Any:
        return (await self._future()).result()

    async def _future(self) -> asyncio.Future[Any]:
        while not self._done:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        done = self._done.popleft()
        if done is None:
            raise TimeoutError
        return done

    def _completed(self, future: asyncio.Future[Any]) -> None:
        if future not in self._todo:
            return
        del self._todo[future]
        self._hand_out(future)
        if not self._todo and self._timer is not None:
            self._timer.cancel()

    def _timed_out(self) -> None:
        for one in self._todo:
            one.remove_done_callback(self._completed)
        left, self._todo = self._todo, {}
        for _ in left:
            self._hand_out(None)

    def _hand_out(self, future: asyncio.Future[Any] | None) -> None:
        self._done.append(future)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


async def wait_for(fut: Awaitable[Any], timeout: float | None) -> Any:
    """See `asyncio.wait_for`, as of Python 3.12: no task of its own, no lost result."""
    if timeout is not None and timeout <= 0:
        future = asyncio.ensure_future(fut)
        if future.done():
            return future.result()
        future.cancel()
        try:
            return await future
        except asyncio.CancelledError as error:
            raise TimeoutError from error
    async with asyncio.timeout(timeout):
        return await fut


def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
    """See `asyncio.all_tasks`; oldest first."""
    running = asyncio.get_running_loop() if loop is None else loop
    return OrderedFutures(running.tasks() if isinstance(running, WorkflowLoop) else ())


#: What `guard.install` puts in the place of asyncio's own, for loops of ours.
ORDERED: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("wait", wait),
    ("as_completed", as_completed),
    ("wait_for", wait_for),
    ("all_tasks", all_tasks),
)
