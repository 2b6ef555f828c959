"""The language of random workflows: each instruction says how it grows, and what it does.

A program is JSON: ``[name, operand, …]``, operands being numbers, texts or programs.  To add an
instruction, write its two functions and add one line to `INSTRUCTIONS`.  `grow` draws a new one;
`run` carries it out, in workflow code.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from orchestrator import workflow
from orchestrator.core.context import current
from orchestrator.core.errors import ApplicationError, StepError, UsageError
from orchestrator.core.rates import Rate
from orchestrator.core.retry import Retry
from tests.simulation.bodies import ACT, UNDO
from tests.simulation.permits import KEYS, RATES

#: Signals that a program may wait for, with the type of their payload.
SIGNALS: dict[str, Any] = {"go": int, "count": int}
DEPTH_MAX = 3
#: A chain has so many runs at most.
CHAIN_MAX = 3
_STEPS = ("step", "saga_step")
_ROUND_MS = (500, 1_000, 2_000, 5_000)
#: What "try" catches: what a careful author would.
_CAUGHT = (ApplicationError, StepError, TimeoutError)


class Seedling:
    """Grows a program.

    Args:
        rng: Draws it.
        has_bugs: Whether there is code that a bad deploy breaks.
        is_slow: Whether bodies mostly take their time.
    """

    def __init__(self, rng: Random, *, has_bugs: bool, is_slow: bool) -> None:
        self.rng = rng
        self.labels = 0
        #: Bounds the whole program: histories stay readable.
        self.left = rng.choice((3, 6, 10, 16))
        #: How many of the keys are taken around what grows, or come before one that is.
        self._keys_taken = 0
        self._has_bugs = has_bugs
        self._is_slow = is_slow
        self._hurry = rng.choice((0.05, 0.05, 0.4))

    def grow(self, depth: int = 0, *, in_saga: bool = False) -> list[Any]:
        """Return a program."""
        self.left -= 1
        names, weights = [], []
        for name, one in INSTRUCTIONS.items():
            is_fit = (depth < DEPTH_MAX and self.left > 0) or not one.is_nested
            is_fit = is_fit and (self._keys_taken < len(KEYS) or not one.needs_key)
            if is_fit and (self._has_bugs or not one.is_bug) and (in_saga or not one.needs_saga):
                names.append(name)
                weights.append(one.weight * (4 if self._is_slow and name in _STEPS else 1))
        name = self.rng.choices(names, weights)[0]
        return [name, *INSTRUCTIONS[name].grow(self, depth + 1, in_saga)]

    def some(self, depth: int, most: int, *, in_saga: bool = False) -> list[Any]:
        """Return one to `most` programs."""
        return [self.grow(depth, in_saga=in_saga) for _ in range(self.rng.randint(1, most))]

    def ms(self) -> int:
        """Return a duration: mostly short, and often one of a few, so that timers coincide."""
        rng = self.rng
        if rng.random() < 0.4:
            return rng.choice(_ROUND_MS)
        return rng.choice((rng.randint(1, 50), rng.randint(100, 2_000), rng.randint(2_000, 9_000)))

    def key(self) -> str:
        """Return a key that whoever stands here may ask for."""
        return self.rng.choice([*KEYS][self._keys_taken :])

    def held(self, depth: int, *, in_saga: bool) -> list[Any]:
        """Return a key, and a program that is carried out while a permit of it is held."""
        before, key = self._keys_taken, self.key()
        self._keys_taken = [*KEYS].index(key) + 1
        body = self.grow(depth, in_saga=in_saga)
        self._keys_taken = before
        return [key, body]

    def step(self, *, shares: bool = True) -> list[Any]:
        """Return the label, the manner and the settings of a step; whether it `shares` keys."""
        self.labels += 1
        rng = self.rng
        manner = {
            "ms": rng.choice((0, rng.randint(1, 300), rng.randint(500, 9_000))[self._is_slow :]),
            "flaky": rng.choice((0, 0, 0.3, 0.6)),
            "unwilling": rng.random() < 0.1,
            "undo_flaky": rng.choice((0, 0, 0.4)),
        }
        settings: dict[str, Any] = {"attempts": rng.choice((1, 2, 3, 5))}
        for name in ("schedule_to_start", "start_to_close", "schedule_to_close", "heartbeat"):
            if rng.random() < self._hurry:
                settings[name] = rng.choice((rng.randint(500, 12_000), *_ROUND_MS))
        if rng.random() < 0.2:
            settings["local"] = True
        if shares and self._keys_taken < len(KEYS) and rng.random() < 0.15:
            settings["concurrency_key"] = self.key()
        if shares and rng.random() < 0.1:
            settings["rate_limit"] = rng.choice([*RATES])
        return [f"s{self.labels}", manner, settings]


class Run:
    """What the instructions of one run share."""

    def __init__(self, *, is_buggy: bool, tree: list[Any], part: int) -> None:
        self.is_buggy = is_buggy
        self.tree = tree
        #: Which run of its chain it is, from 1 on.
        self.part = part
        self.state: dict[str, Any] = workflow.publish({"trace": [], "count": 0})
        self.tasks: list[asyncio.Task[Any]] = []

    def note(self, what: str) -> None:
        """Add to the trace, which is published and queried."""
        self.state["trace"].append(what)

    async def do(self, program: list[Any], saga: Any = None) -> Any:
        """Carry out one instruction, inside the block of `saga` if there is one."""
        return await INSTRUCTIONS[program[0]].run(self, saga, *program[1:])


#: Settings of a step that are no durations.
_NO_TIMES = ("attempts", "local", "concurrency_key", "rate_limit")


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        name: timedelta(milliseconds=value)
        for name, value in given.items()
        if name not in _NO_TIMES
    }
    initial = timedelta(milliseconds=700)
    settings["retry"] = Retry(attempts=given["attempts"], initial=initial)
    if given.get("local"):
        settings["local"] = True
    if (key := given.get("concurrency_key")) is not None:
        settings |= {"concurrency_key": key, "concurrency_limit": KEYS[key]}
    if (key := given.get("rate_limit")) is not None:
        settings["rate_limit"] = _rate(key)
    return settings


def _rate(key: str) -> Rate:
    count, per_ms = RATES[key]
    return Rate(key, count, per=timedelta(milliseconds=per_ms))


async def _step(run: Run, _saga: Any, label: str, manner: Any, settings: Any) -> None:
    await workflow.step(ACT, label, manner, **_settings(settings))
    run.note(label)


async def _saga_step(run: Run, saga: Any, step: list[Any], undo_attempts: int) -> None:
    label, manner, settings = step
    retry = Retry(attempts=undo_attempts or None, initial=timedelta(milliseconds=500))
    try:
        await saga.step(ACT, label, manner, undo=UNDO, undo_retry=retry, **_settings(settings))
    except UsageError:
        run.note(f"{label} came too late")  # The block was left meanwhile: a task of its own.
    else:
        run.note(label)


async def _saga(run: Run, _saga: Any, is_parallel: bool, body: list[Any]) -> None:  # noqa: FBT001
    async with workflow.saga(parallel=is_parallel) as saga:
        for one in body:
            await run.do(one, saga)
    run.note("saga")


async def _commit(run: Run, saga: Any) -> None:
    try:
        saga.commit()
    except UsageError:
        run.note("committed before")


async def _all(run: Run, saga: Any, body: list[Any]) -> None:
    for one in body:
        await run.do(one, saga)


async def _gather(run: Run, saga: Any, body: list[Any], is_lenient: bool) -> None:  # noqa: FBT001
    asked = [run.do(one, saga) for one in body]
    await asyncio.gather(*asked, return_exceptions=is_lenient)


async def _group(run: Run, saga: Any, body: list[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for one in body:
            group.create_task(run.do(one, saga))


async def _race(run: Run, saga: Any, body: list[Any], is_patient: bool) -> None:  # noqa: FBT001
    tasks = [asyncio.create_task(run.do(one, saga)) for one in body]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    if is_patient:
        await asyncio.gather(*others, return_exceptions=True)
    for task in done:
        await task


async def _spawn(run: Run, _saga: Any, body: Any) -> None:
    # Nobody waits for it: it may outlive everything but the run.
    task = asyncio.create_task(run.do(body))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    run.tasks.append(task)


class _Later:
    """A coroutine that is made when it is awaited: where code is unwound it may never be."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._make = make

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._make().__await__()


async def _within(run: Run, saga: Any, ms: int, body: Any, is_wait_for: bool) -> None:  # noqa: FBT001
    if is_wait_for:
        await asyncio.wait_for(_Later(lambda: run.do(body, saga)), ms / 1000)
        return
    async with asyncio.timeout(ms / 1000):
        await run.do(body, saga)


async def _sleep(run: Run, _saga: Any, ms: int) -> None:
    await workflow.sleep(timedelta(milliseconds=ms))
    run.note(f"slept {ms}")


async def _signal(run: Run, _saga: Any, name: str, ms: int) -> None:
    timeout = timedelta(milliseconds=ms) if ms else None
    payload = await workflow.signal(name, timeout=timeout)
    run.note(f"{name} {payload}")


async def _condition(run: Run, _saga: Any, count: int, ms: int) -> None:
    timeout = timedelta(milliseconds=ms) if ms else None
    await workflow.wait_condition(lambda: run.state["count"] >= count, timeout)
    run.note(f"counted {count}")


async def _try(run: Run, saga: Any, body: Any, otherwise: Any, finally_: Any) -> None:
    try:
        await run.do(body, saga)
    except _CAUGHT as error:
        run.note(type(error).__name__)
        await run.do(otherwise, saga)
    finally:
        await run.do(finally_, saga)


async def _fail(_run: Run, _saga: Any, reason: str) -> None:
    raise ApplicationError(reason)


async def _go_on(run: Run, _saga: Any, rest: Any) -> None:
    if run.part == CHAIN_MAX:
        run.note("stays")
        return
    try:
        workflow.continue_as_new(rest or run.tree, run.part + 1)
    except UsageError:
        run.note("stays for its saga")


async def _permit(run: Run, saga: Any, key: str, body: list[Any]) -> None:
    limit = KEYS[key]
    async with workflow.semaphore(key, limit=limit) if limit > 1 else workflow.mutex(key):
        run.note(f"inside {key}")
        await run.do(body, saga)


async def _slot(run: Run, _saga: Any, key: str) -> None:
    rate = _rate(key)
    await workflow.rate_limit(key, rate.limit, timedelta(milliseconds=rate.per_ms))
    run.note(f"slot of {key}")


async def _random(run: Run, _saga: Any) -> None:
    run.note(str(workflow.random().randint(0, 99)))
    run.note(str(workflow.uuid4())[:8])
    run.note(str(workflow.now().microsecond // 1000))


async def _bug(run: Run, _saga: Any) -> None:
    if run.is_buggy:
        # Refused, and kept: whatever catches it, the run is blocked.
        os.urandom(1)
    run.note("mended")


async def _swap(run: Run, saga: Any, step: list[Any]) -> None:
    # What a bad version would have ordered in the place of what history has: only on replay, so
    # that the good version finds its own commands.
    label = "swapped" if run.is_buggy and current("swap").replaying else step[0]
    await _step(run, saga, label, *step[1:])


Grow = Callable[[Seedling, int, bool], list[Any]]


@dataclass(frozen=True, slots=True)
class Instruction:
    """How an instruction grows, what it does, and where it may stand."""

    weight: int
    run: Callable[..., Awaitable[Any]]
    grow: Grow = field(default=lambda _seedling, _depth, _in_saga: [])
    is_nested: bool = False
    needs_saga: bool = False
    needs_key: bool = False
    is_bug: bool = False


def _nested(seedling: Seedling, depth: int, in_saga: bool) -> list[Any]:  # noqa: FBT001
    return seedling.grow(depth, in_saga=in_saga)


def _many(seedling: Seedling, depth: int, in_saga: bool) -> list[Any]:  # noqa: FBT001
    return seedling.some(depth, 3, in_saga=in_saga)


INSTRUCTIONS: dict[str, Instruction] = {
    "step": Instruction(8, _step, lambda s, d, i: s.step()),
    "saga_step": Instruction(
        20,
        _saga_step,
        lambda s, d, i: [s.step(), s.rng.choice((0, 0, 0, 1, 3))],
        needs_saga=True,
    ),
    "commit": Instruction(2, _commit, needs_saga=True),
    "saga": Instruction(
        8,
        _saga,
        lambda s, d, i: [s.rng.random() < 0.3, s.some(d, 4, in_saga=True)],
        is_nested=True,
    ),
    "all": Instruction(6, _all, lambda s, d, i: [_many(s, d, i)], is_nested=True),
    "gather": Instruction(
        3, _gather, lambda s, d, i: [_many(s, d, i), s.rng.random() < 0.5], is_nested=True
    ),
    "group": Instruction(3, _group, lambda s, d, i: [_many(s, d, i)], is_nested=True),
    "race": Instruction(
        3, _race, lambda s, d, i: [_many(s, d, i), s.rng.random() < 0.5], is_nested=True
    ),
    "spawn": Instruction(1, _spawn, lambda s, d, i: [s.grow(d)], is_nested=True),
    "within": Instruction(
        4,
        _within,
        lambda s, d, i: [s.ms(), _nested(s, d, i), s.rng.random() < 0.5],
        is_nested=True,
    ),
    "sleep": Instruction(3, _sleep, lambda s, d, i: [s.ms()]),
    "signal": Instruction(
        4, _signal, lambda s, d, i: ["go", s.rng.choice((0, s.ms(), s.ms() * 3))]
    ),
    "condition": Instruction(
        3, _condition, lambda s, d, i: [s.rng.randint(1, 2), s.rng.choice((0, s.ms()))]
    ),
    "try": Instruction(
        4,
        _try,
        lambda s, d, i: [_nested(s, d, i), _nested(s, d, i), _nested(s, d, i)],
        is_nested=True,
    ),
    "fail": Instruction(2, _fail, lambda s, d, i: [f"reason {s.rng.randint(1, 9)}"]),
    "permit": Instruction(
        4, _permit, lambda s, d, i: s.held(d, in_saga=i), is_nested=True, needs_key=True
    ),
    "slot": Instruction(1, _slot, lambda s, d, i: [s.rng.choice([*RATES])]),
    "random": Instruction(2, _random),
    "go_on": Instruction(
        3, _go_on, lambda s, d, i: [s.grow(d) if s.rng.random() < 0.5 else None], is_nested=True
    ),
    "bug": Instruction(2, _bug, is_bug=True),
    # It waits for nothing between the look at its version and the order.
    "swap": Instruction(4, _swap, lambda s, d, i: [s.step(shares=False)], is_bug=True),
}
