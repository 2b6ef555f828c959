"""Random programs: a tree of nodes as JSON, and one workflow that carries it out.

A further word of the vocabulary is one more class here: how it is drawn, and what it does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol, get_args

from celery import Celery
from hypothesis import strategies as st

from orchestrator import (
    ApplicationError,
    ChildWorkflowError,
    Orchestrator,
    Retry,
    StepError,
    UsageError,
    step,
    workflow,
)
from orchestrator.core.children import ChildCancellation

app = Celery("programs", broker="redis://127.0.0.1:1/0")
orc = Orchestrator(app)

Spec = dict[str, Any]
Run = Callable[[Spec], Awaitable[Any]]
Trees = st.SearchStrategy[Spec]

SIGNALS = ("a", "b")
STREAMS = ("x", "y")
SECONDS = st.sampled_from([0, 1, 5, 60])


@app.task
def works(number: int) -> int:
    return number


@app.task
def flaky(number: int) -> int:
    info = step.current()
    if info is not None and info.attempt == 1:
        raise ValueError("the first attempt fails")
    return number


@app.task
def fails(number: int) -> int:
    raise ValueError(f"{number} fails")


@app.task
def undo(number: int) -> None:
    return None


TASKS = {"works": works, "flaky": flaky, "fails": fails}
FAILURES = (StepError, ChildWorkflowError, ApplicationError, TimeoutError, ExceptionGroup)


class Node(Protocol):
    """One word: `leaf` or `tree` draws it, `run` does it."""

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        """Carry out `spec`; `run` carries out what is in it."""
        ...


class Step:
    leaf: ClassVar[Trees] = st.fixed_dictionaries(
        {"task": st.sampled_from(sorted(TASKS)), "number": st.integers(0, 9)}
    )

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        retry = Retry(attempts=2)
        return await workflow.step(TASKS[spec["task"]], spec["number"], retry=retry)


class Sleep:
    leaf: ClassVar[Trees] = st.fixed_dictionaries({"seconds": SECONDS})

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        await workflow.sleep(spec["seconds"])
        return workflow.now().isoformat()


class Signal:
    leaf: ClassVar[Trees] = st.fixed_dictionaries({"name": st.sampled_from(SIGNALS)})

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        return await workflow.signal(spec["name"], timeout=timedelta(minutes=10))


class Chance:
    leaf: ClassVar[Trees] = st.just({})

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        return [str(workflow.uuid4()), workflow.random().random()]


class Draw:
    """Numpy's numbers, of a stream that others draw from as well; some take half a word."""

    leaf: ClassVar[Trees] = st.fixed_dictionaries(
        {"name": st.sampled_from(STREAMS), "task": st.sampled_from(sorted(TASKS))}
    )

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        rng = workflow.rng(spec["name"])
        number = int(rng.integers(10, dtype="uint32"))
        await workflow.step(TASKS[spec["task"]], number, retry=Retry(attempts=2))
        return float(rng.gamma(2.0))


class Sequence:
    @staticmethod
    def tree(inner: Trees) -> Trees:
        return st.fixed_dictionaries({"parts": st.lists(inner, max_size=3)})

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        return [await run(part) for part in spec["parts"]]


class Gather(Sequence):
    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        return list(await asyncio.gather(*(run(part) for part in spec["parts"])))


class Group(Sequence):
    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_raising(part, run)) for part in spec["parts"]]
        return [task.result() for task in tasks]


class Cancel:
    @staticmethod
    def tree(inner: Trees) -> Trees:
        return st.fixed_dictionaries({"part": inner, "seconds": SECONDS})

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        task = asyncio.create_task(_raising(spec["part"], run))
        await workflow.sleep(spec["seconds"])
        task.cancel()
        await workflow.wait([task])
        return "cancelled" if task.cancelled() else task.result()


class Shield(Cancel):
    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        task = asyncio.create_task(_raising(spec["part"], run))
        try:
            async with asyncio.timeout(spec["seconds"]):
                await asyncio.shield(task)
        except TimeoutError:
            pass
        return await task


class Timeout(Cancel):
    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        async with asyncio.timeout(spec["seconds"]):
            return await run(spec["part"])


class Child:
    @staticmethod
    def tree(inner: Trees) -> Trees:
        policies = st.sampled_from(["terminate", "request_cancel", "abandon"])
        types = st.sampled_from(list(get_args(ChildCancellation)))
        shapes = {"part": inner, "policy": policies, "type": types, "starts": st.booleans()}
        return st.fixed_dictionaries(shapes)

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        call = workflow.child.options(
            parent_close_policy=spec["policy"], cancellation_type=spec["type"]
        )
        if spec["starts"]:
            handle = await call.start("program", spec["part"])
            return await handle
        return await call("program", spec["part"])


class GoOn:
    @staticmethod
    def tree(inner: Trees) -> Trees:
        return st.fixed_dictionaries({"part": inner})

    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        try:
            workflow.continue_as_new(spec["part"])
        except UsageError:
            return await run(spec["part"])  # A saga is open.


class Saga(Sequence):
    @staticmethod
    async def run(spec: Spec, run: Run) -> Any:
        async with workflow.saga() as saga:
            await saga.step(works, len(spec["parts"]), undo=undo)
            values = [await _raising(part, run) for part in spec["parts"]]
            await saga.step(flaky, 1, undo=undo, retry=Retry(attempts=2))
        return values


NODES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(Step, Sleep, Signal, Chance, *([Draw] if find_spec("numpy") else [])),
        *(Sequence, Gather, Group, Cancel, Shield, Timeout, Child, GoOn, Saga),
    )
}


async def _raising(spec: Spec, run: Run) -> Any:
    """Carry out `spec`, and raise where it failed."""
    value = await run(spec)
    if isinstance(value, str) and value.startswith("failed: "):
        raise ApplicationError(value, type="PartFailed")
    return value


async def interpret(spec: Spec) -> Any:
    """Carry out a node; a failure is its value."""
    try:
        return await NODES[spec["kind"]].run(spec, interpret)
    except FAILURES as error:
        return f"failed: {type(error).__name__}"


@orc.workflow
async def program(spec: dict[str, Any]) -> Any:
    return await interpret(spec)


def _named(kind: str, drawn: Trees) -> Trees:
    return drawn.map(lambda spec: {"kind": kind, **spec})


LEAVES = st.one_of(
    *(_named(name, kind.leaf) for name, kind in NODES.items() if hasattr(kind, "leaf"))
)
PROGRAMS: Trees = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        *(_named(name, kind.tree(inner)) for name, kind in NODES.items() if hasattr(kind, "tree"))
    ),
    max_leaves=8,
)
#: A reset to the event at so many hundredths of the history.
RESETS = st.integers(0, 99).map("reset {}".format)
#: What people do meanwhile, after so many seconds: a signal, a reseed, a request to stop, a reset.
PEOPLE = st.lists(
    st.tuples(
        SECONDS,
        st.one_of(st.sampled_from([*SIGNALS, *SIGNALS, "reseed", "cancel", "terminate"]), RESETS),
    ),
    max_size=5,
)
