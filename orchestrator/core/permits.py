"""Permits of one run: what it asked for, what it was given, what it gave back.

PM1  A request is a command, its grant an input, the giving back a command: replay decides the same.
PM2  Permits are numbered from 1, and a number is asked for once: who keeps them knows a repeated
     request, or release, by the run and the number.
PM3  Whoever stops waiting gives his place back.  What the run still has when it ends, in whatever
     way, the engine gives back in the commit that ends it: code that is unwound orders nothing.
PM4  A step's permit is given back when the step has settled, not when its waiter is cancelled.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from orchestrator.core.errors import UsageError
from orchestrator.core.events import Command, PermitGranted, PermitReleased, PermitRequested
from orchestrator.core.loop import WorkflowLoop
from orchestrator.core.options import StepOptions
from orchestrator.core.rates import Rate
from orchestrator.core.steps import Follower, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A permit that is held.

    `fence` is higher than that of every permit of the key granted before: an outside system that
    refuses a lower one than it has seen is safe from whoever was slow.
    """

    key: str
    fence: int


class Host(Protocol):
    """What permits need of the execution they belong to."""

    loop: WorkflowLoop
    now_ms: int

    def issue(self, command: Command) -> None:
        """Record a command."""
        ...


class Permits:
    """The permits of one run."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._count = 0
        self._outstanding: set[int] = set()
        self._waiting: dict[int, asyncio.Future[PermitGranted]] = {}

    def settle(self, event: PermitGranted) -> None:
        """Hand a grant to who waits for it."""
        future = self._waiting.pop(event.permit, None)
        if future is not None and not future.done():
            future.set_result(event)

    def held(self, key: str, limit: int) -> "Held":
        """Return a block that holds a permit of `key`."""
        return Held(self, key, limit)

    async def wait_for_slot(self, rate: Rate) -> None:
        """Wait until the key's rate lets the caller go on."""
        number, future = self._ask(
            PermitRequested(
                at_ms=self._host.now_ms,
                permit=self._count + 1,
                key=rate.key,
                kind="rate",
                limit=rate.limit,
                per_ms=rate.per_ms,
            )
        )
        try:
            granted = await future
        finally:
            self._outstanding.discard(number)
        wait_ms = granted.go_at_ms - self._host.now_ms
        if wait_ms > 0:
            await asyncio.sleep(wait_ms / 1000)

    async def taken_for(self, options: StepOptions | None) -> "StepHold | None":
        """Wait for what a step's settings ask for; return who gives the permit back (PM4)."""
        if options is None or (options.concurrency_key is None and options.rate_limit is None):
            return None
        hold = None
        if options.concurrency_key is not None:
            granted = await self.take(options.concurrency_key, options.concurrency_limit or 1)
            hold = StepHold(self, granted.permit)
        if options.rate_limit is not None:
            # Last: who waits for a permit behind his slot would go later than his slot says.
            with given_back_on_error(hold):
                await self.wait_for_slot(options.rate_limit)
        return hold

    def release(self, number: int) -> None:
        """Give a permit, or the place of one, back; once."""
        if number in self._outstanding and not self._host.loop.is_shut:
            self._outstanding.discard(number)
            self._host.issue(PermitReleased(at_ms=self._host.now_ms, permit=number))

    async def take(self, key: str, limit: int) -> PermitGranted:
        """Wait for a permit of `key`; `release` gives it back."""
        number, future = self._ask(
            PermitRequested(
                at_ms=self._host.now_ms, permit=self._count + 1, key=key, kind="permit", limit=limit
            )
        )
        try:
            return await future
        except BaseException:
            self.release(number)
            raise

    def _ask(self, command: PermitRequested) -> tuple[int, "asyncio.Future[PermitGranted]"]:
        future = self._host.loop.create_future()
        if self._host.loop.is_shut:
            return 0, future
        self._host.issue(command)
        self._count = command.permit
        self._outstanding.add(command.permit)
        self._waiting[command.permit] = future
        return command.permit, future


class Held:
    """A block that holds a permit.  Entered once."""

    __slots__ = ("_key", "_limit", "_number", "_permits")

    def __init__(self, permits: Permits, key: str, limit: int) -> None:
        self._permits = permits
        self._key = key
        self._limit = limit
        self._number: int | None = None

    async def __aenter__(self) -> Permit:
        if self._number is not None:
            raise UsageError("a block that holds a permit is entered once; make a new one")
        self._number = 0
        granted = await self._permits.take(self._key, self._limit)
        self._number = granted.permit
        return Permit(key=self._key, fence=granted.fence)

    async def __aexit__(self, *_: object) -> None:
        assert self._number is not None, "left before it was entered"
        self._permits.release(self._number)


class StepHold:
    """Gives a permit back when the step that it is for has settled."""

    __slots__ = ("_number", "_permits")

    def __init__(self, permits: Permits, number: int) -> None:
        self._permits = permits
        self._number = number

    def step_settled(self, step: Step) -> None:
        """See `steps.Follower`."""
        self.give_back()

    def give_back(self) -> None:
        """Give it back; once."""
        self._permits.release(self._number)


@contextmanager
def given_back_on_error(hold: StepHold | None) -> Iterator[None]:
    """Give a step's permit back where the step is not ordered after all."""
    try:
        yield
    except BaseException:
        if hold is not None:
            hold.give_back()
        raise


@dataclass(frozen=True, slots=True)
class Both:
    """Two followers of one step."""

    first: Follower
    second: Follower

    def step_settled(self, step: Step) -> None:
        """See `steps.Follower`."""
        self.first.step_settled(step)
        self.second.step_settled(step)
