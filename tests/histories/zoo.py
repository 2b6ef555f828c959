"""A small zoo: workflows that use each word of the vocabulary, for their histories to be kept.

Never change what one of these orders: add another one.  The recorded histories beside this file
stand for those of everybody's running workflows.
"""

import asyncio
from datetime import timedelta
from typing import Any

from celery import Celery
from pydantic import BaseModel

from orchestrator import (
    ApplicationError,
    ChildWorkflowError,
    ExternalWorkflowError,
    Orchestrator,
    Retry,
    workflow,
)
from orchestrator.core.errors import StepError

app = Celery("zoo", broker="redis://127.0.0.1:1/0", set_as_current=False)
orc = Orchestrator(app)


class Word(BaseModel):
    """What a signal brings."""

    text: str


class Mood(BaseModel):
    """What a run publishes."""

    words: list[str] = []
    is_content: bool = False


@orc.workflow(name="zoo-together")
async def together(count: int) -> list[int]:
    """Steps side by side: gather, a task group, as_completed, wait."""
    doubled = await asyncio.gather(*(workflow.step("zoo.double", n) for n in range(count)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(workflow.step("zoo.double", n)) for n in doubled]
    found = [task.result() for task in tasks]
    for each in workflow.as_completed([workflow.step("zoo.double", n) for n in found]):
        found.append(await each)
    waiting = [asyncio.ensure_future(workflow.step("zoo.double", n)) for n in (1, 2)]
    done, _ = await workflow.wait(waiting)
    return [*found, *(task.result() for task in done)]


@orc.workflow(name="zoo-time")
async def in_time() -> list[str]:
    """Timers: one that fires, one that is cancelled, one that cuts a step short."""
    told = []
    began = workflow.time()
    await workflow.sleep(timedelta(hours=1))
    told.append(f"{workflow.time() - began:g}")
    try:
        async with asyncio.timeout(30):
            await workflow.step("zoo.hang")
    except TimeoutError:
        told.append("cut short")
    async with asyncio.timeout(3600):
        told.append(str(await workflow.step("zoo.double", 4)))
    try:
        await asyncio.wait_for(workflow.signal("never"), 5)
    except TimeoutError:
        told.append(workflow.now().isoformat())
    return told


@orc.workflow(name="zoo-talk", signals={"say": Word, "enough": None, "nudge": None})
async def talk() -> Mood:
    """Signals by handler, by iterator and one by one; a condition; a query; a published model."""
    mood = workflow.publish(Mood())

    @workflow.on_signal("nudge")
    async def nudged(payload: Any) -> None:
        mood.words.append(str(await workflow.step("zoo.echo", payload)))

    @workflow.on_query("words")
    def words() -> list[str]:
        return mood.words

    try:
        await workflow.wait_condition(lambda: len(mood.words) > 1, timeout=timedelta(minutes=1))
    except TimeoutError:
        mood.words.append("nobody nudged twice")
    async for word in workflow.signals("say", Word):
        mood.words.append(word.text)
        if word.text == "bye":
            break
    mood.words.append(str(await workflow.signal("enough", timeout=60)))
    mood.is_content = True
    return mood


@orc.workflow(name="zoo-saga")
async def undo(how: str) -> str:
    """Sagas: undone in parallel, undone in reverse with a clean-up of its own, committed."""
    try:
        async with workflow.saga(parallel=True) as both:
            await both.step("zoo.double", 1, undo="zoo.undo")
            await both.step("zoo.double", 2, undo="zoo.undo")
            raise ApplicationError("no", type="First")
    except ApplicationError:
        pass
    async with workflow.saga() as saga:
        await saga.step("zoo.double", 3, undo="zoo.undo")
        if how == "commit":
            saga.commit()
            await workflow.step("zoo.echo", "kept")
            return "committed"
        await saga.step("zoo.break", undo="zoo.undo")
    return "not here"


@orc.workflow(name="zoo-parent")
async def parent() -> list[Any]:
    """Children: a result, a failure, one that is cancelled, one that is abandoned."""
    found: list[Any] = [await workflow.child(child, "well")]
    try:
        await workflow.child("zoo-child", "ill", id="zoo-ill")
    except ChildWorkflowError as error:
        found.append([error.status, error.type])
    slow = asyncio.create_task(workflow.child(child, "slow"))
    abandoned = workflow.child.options(id="zoo-left", parent_close_policy="abandon")
    left = asyncio.create_task(abandoned(child, "slow"))
    await workflow.sleep(1)
    slow.cancel()
    try:
        await slow
    except asyncio.CancelledError:
        found.append("cancelled")
    found.append(left.done())
    return found


@orc.workflow(name="zoo-child")
async def child(how: str) -> str:
    """See `parent`."""
    if how == "ill":
        raise ApplicationError("ill", type="Ill")
    if how == "slow":
        await workflow.signal("go")
    return f"{how} {await workflow.step('zoo.double', 5)}"


@orc.workflow(name="zoo-chance")
async def chance() -> list[Any]:
    """The run's own numbers, ids and numpy generators."""
    drawn: list[Any] = [workflow.random().randint(1, 1000), str(workflow.uuid4())]
    drawn.append(await workflow.step("zoo.double", workflow.random().randint(1, 9)))
    drawn.append(int(workflow.rng("sampling").integers(1, 1_000_000)))
    drawn.append(await workflow.step("zoo.echo", int(workflow.rng("other").integers(1, 1_000_000))))
    drawn.append(int(workflow.rng("sampling").integers(1, 1_000_000)))
    return drawn


@orc.workflow(name="zoo-stop")
async def stopped() -> str:
    """Cancelled from outside: shielded work, clean-up in finally."""
    inner = asyncio.create_task(workflow.step("zoo.echo", "shielded"))
    try:
        await asyncio.shield(inner)
        await workflow.step("zoo.hang")
    finally:
        await workflow.step("zoo.echo", "tidy")
    return "not here"


@orc.workflow(name="zoo-order")
async def in_order() -> list[int]:
    """Lock, semaphore, queue and event of asyncio; a step that is local, and one with options."""
    lock, few, queue = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Queue[int]()
    ready = asyncio.Event()

    async def work(number: int) -> None:
        await ready.wait()
        async with few:
            doubled = await workflow.step("zoo.double", number)
        async with lock:
            await workflow.step("zoo.echo", doubled)
        queue.put_nowait(doubled)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(work(number))
        ready.set()
    found = [queue.get_nowait() for _ in range(4)]
    call = workflow.step.options(retry=Retry(attempts=2), start_to_close=timedelta(seconds=9))
    try:
        await call("zoo.break")
    except StepError as error:
        found.append(error.attempt)
    return found


@orc.workflow(name="zoo-large")
async def large() -> int:
    """A result that is too large for the history."""
    value = await workflow.step("zoo.large")
    await workflow.step("zoo.echo", len(value))
    return len(value)


@orc.workflow(name="zoo-mended")
async def mended(text: str) -> str:
    """Once had a bug, was blocked by it, and went on once it was mended."""
    said = await workflow.step("zoo.echo", text)
    await workflow.signal("go")
    return str(await workflow.step("zoo.echo", f"{said}!"))


@orc.workflow(name="zoo-told")
async def told() -> list[Any]:
    """Updates: taken, refused by a validator, failed; handlers of both kinds; texts for people."""
    found: list[Any] = []
    workflow.upsert_search_attributes({"animal": "parrot", "age": 7})
    workflow.upsert_memo({"cage": "open"})
    workflow.set_current_details("waits to be told")

    @workflow.on_update("learn")
    async def learn(word: str) -> int:
        found.append(await workflow.step("zoo.echo", word, summary="repeats it"))
        if word == "rude":
            raise ApplicationError("not that", type="Rude")
        return len(found)

    @learn.validator
    def is_word(word: str) -> None:
        if not word.isalpha():
            raise ValueError("a word has letters alone")

    @workflow.on_signal(None)
    def anything(name: str, payload: Any) -> None:
        found.append([name, payload])

    await workflow.wait_condition(lambda: len(found) == 3)
    await workflow.wait_condition(workflow.all_handlers_finished)
    await workflow.sleep(60, summary="a nap")
    return found


@orc.workflow(name="zoo-neighbour")
async def neighbour() -> list[Any]:
    """Speaks to other runs: a signal, a result that it waits for, a cancellation, nobody there."""
    other = workflow.external("zoo-other")
    waiting = asyncio.create_task(other.result(str))
    await other.signal("go")
    found: list[Any] = [await waiting]
    await workflow.external("zoo-slow").cancel("the neighbours complain")
    try:
        await workflow.external("zoo-nobody").signal("go")
    except ExternalWorkflowError as error:
        found.append(str(error.status))
    return found


@orc.workflow(name="zoo-round")
async def round_and_round(laps: int) -> int:
    """Goes on as new, lap by lap."""
    await workflow.signal("lap")
    await workflow.step("zoo.echo", laps)
    if laps == 3:
        return laps
    workflow.continue_as_new(laps + 1)


@orc.workflow(name="zoo-patched")
async def patched() -> list[Any]:
    """Takes the new branch of one patch, and knows another that is deprecated."""
    workflow.deprecate_patch("older")
    found: list[Any] = []
    if workflow.patched("louder"):
        found.append(await workflow.step("zoo.echo", "HELLO"))
    found += await workflow.map("zoo.double", [1, 2, 3], max_parallel=2)
    return found


@orc.workflow(name="zoo-looks")
async def looks() -> list[Any]:
    """Values from outside of the workflow, recorded where it asked for them."""
    seen = [workflow.side_effect(lambda: {"home": 1})]
    await workflow.step("zoo.echo", seen[0])
    seen.append(workflow.side_effect(lambda: "twice", str))
    return seen


@orc.workflow(name="zoo-keeper")
async def keeper() -> list[Any]:
    """One at a time, and not too fast: a permit, a slot of a rate; a child that is spoken to."""
    async with workflow.mutex("cage"):
        await workflow.rate_limit("feeding", 1, timedelta(seconds=10))
        await workflow.rate_limit("feeding", 1, timedelta(seconds=10))
        fed = await workflow.step("zoo.echo", "hay")
    child = await workflow.child.start(zoo_lap)
    await child.signal("lap")
    return [fed, await child]


@orc.workflow(name="zoo-lap")
async def zoo_lap() -> str:
    """Runs when it is told."""
    await workflow.signal("lap")
    return "done"


@orc.workflow(name="zoo-sleeper")
async def sleeper() -> None:
    """Sleeps longer than its run may take."""
    await workflow.step("zoo.echo", "good night")
    await workflow.sleep(timedelta(hours=1))


@orc.workflow(name="zoo-streams", signals={"go": None})
async def streams() -> list[Any]:
    """Numpy's streams, recorded where they stand; reseeded, one of them and all of them."""
    coin, dice = workflow.rng("coin"), workflow.rng("dice")
    found: list[Any] = [int(coin.integers(0, 2, dtype="uint32")), float(dice.exponential())]
    await workflow.step("zoo.echo", "nobody draws")
    for _ in range(3):
        await workflow.signal("go")
        found.append(float(dice.normal()))
        found.append(await workflow.step("zoo.echo", float(coin.random())))
    found.append(int(workflow.rng("late").integers(1, 1_000_000)))
    return found
