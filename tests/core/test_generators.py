"""Numpy's random numbers replay, and a numpy that draws otherwise is found (G1, G2, ST1-ST5)."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core import generators
from orchestrator.core.errors import (
    ActivationFailed,
    ApplicationError,
    ForbiddenInWorkflow,
    NondeterminismError,
)
from orchestrator.core.events import (
    GeneratorDrawn,
    GeneratorOpened,
    RunCompleted,
    UpdateReceived,
)
from orchestrator.core.flags import FIRST
from orchestrator.core.update_face import on_update
from orchestrator.core.values import digest
from tests.core.driver import Driver, drawn_in, kinds

numpy = pytest.importorskip("numpy", reason="numpy is not installed")

Drive = Callable[..., Driver]


@pytest.fixture(autouse=True)
def _forget_the_probe() -> Iterator[None]:
    yield
    generators.probe.cache_clear()


async def draws() -> Any:
    first = workflow.rng("batches").integers(1000, size=3).tolist()
    await workflow.step("a")
    other = workflow.rng("noise").integers(1000, size=3).tolist()
    return [first, other, workflow.rng("batches").integers(1000, size=3).tolist()]


def test_draws_follow_from_seed_and_name_and_go_on_across_activations(drive: Drive) -> None:
    run = drive(draws)
    assert kinds(run.started) == ["GeneratorOpened", "GeneratorDrawn", "StepScheduled"]
    batches, opened, noise, ended = run.complete(1)
    assert isinstance(batches, GeneratorDrawn)
    assert isinstance(opened, GeneratorOpened)
    assert isinstance(noise, GeneratorDrawn)
    assert [one.name for one in (batches, opened, noise)] == ["batches", "noise", "noise"]
    assert opened.scheme == "philox-spawn-1"
    assert isinstance(ended, RunCompleted)
    whole = generators.generator("c0ffee", "batches").integers(1000, size=3).tolist()
    assert isinstance(ended.result, list)
    first, other, rest = ended.result
    assert first == whole != other
    assert rest not in (first, other)
    assert run.replayed().pending == []


def test_streams_are_those_of_every_later_version() -> None:
    # Recorded runs depend on these: a red line here means a new scheme, not new figures.
    known = generators.generator("c0ffee", "batches").integers(1000, size=4).tolist()
    assert known == [733, 830, 912, 63]
    assert (
        generators.generator("c0ffee", "batches").random()
        != generators.generator("c0ffef", "batches").random()
    )


def test_drawing_from_one_name_shifts_no_other(drive: Drive) -> None:
    async def shifted() -> Any:
        workflow.rng("noise").random(100)
        return workflow.rng("batches").integers(1000, size=3).tolist()

    (*_, ended) = drive(shifted).started
    assert isinstance(ended, RunCompleted)
    expected = generators.generator("c0ffee", "batches").integers(1000, size=3).tolist()
    assert ended.result == expected


def test_a_numpy_that_draws_otherwise_is_found_on_replay(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = drive(draws)
    run.complete(1)
    with monkeypatch.context() as changed:
        changed.setattr(generators, "probe", lambda: "another numpy")
        with pytest.raises(NondeterminismError, match=r"GeneratorOpened.*\[differs in probe\]"):
            run.replayed()


def test_without_numpy_the_run_rests_with_a_sentence_on_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ActivationFailed, match="numpy is not installed; install it, or use"):
        Driver(draws)


# --- where streams stand -------------------------------------------------------------------------


def test_a_stream_that_stood_still_leaves_no_event_and_half_a_word_does(drive: Drive) -> None:
    async def halves() -> None:
        rng = workflow.rng("halves")
        await workflow.step("nothing drawn")
        rng.random()
        await workflow.step("one word")
        await workflow.step("nothing drawn")
        for _ in range(2):
            rng.integers(2**32, dtype=numpy.uint32)
            await workflow.step("half a word")

    run = drive(halves)
    assert kinds(run.started) == ["GeneratorOpened", "StepScheduled"]
    for step in range(1, 6):
        run.complete(step)
    assert drawn_in(run.history) == [("halves", 1), ("halves", 2), ("halves", 2)]
    assert len({one.digest for one in run.history if isinstance(one, GeneratorDrawn)}) == 3


def test_seed_name_and_words_lead_to_where_a_stream_stands(drive: Drive) -> None:
    async def five() -> None:
        workflow.rng("five").random(5)
        await workflow.step("a")

    (_, drawn, _) = drive(five).started
    assert isinstance(drawn, GeneratorDrawn)
    rebuilt = generators.generator("c0ffee", "five")
    rebuilt.bit_generator.random_raw(drawn.words)
    assert generators.position(rebuilt) == (5, drawn.digest)
    # Whoever has the seed can tell, in any language: this is what is digested.
    state: Any = rebuilt.bit_generator.state
    key, counter = (state["state"][part].tolist() for part in ("key", "counter"))
    assert drawn.digest == digest([key, counter, state["buffer"].tolist()[1:], None])[:16]


def test_streams_stand_before_what_was_ordered_and_behind_their_opening(drive: Drive) -> None:
    async def mixed() -> None:
        old, older = workflow.rng("old"), workflow.rng("older")
        await workflow.step("a")
        older.random()
        old.random(2)
        workflow.rng("new").random()
        await workflow.step("b", workflow.rng("newer").random())

    run = drive(mixed)
    commands = run.complete(1)
    assert [getattr(one, "name", "") for one in commands] == [
        *("old", "older", "new", "new", "newer", "newer", ""),
    ]
    assert kinds(commands) == [
        *("GeneratorDrawn", "GeneratorDrawn", "GeneratorOpened", "GeneratorDrawn"),
        *("GeneratorOpened", "GeneratorDrawn", "StepScheduled"),
    ]


def another_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one distribution eat more of its stream than it did; the probe does not ask for it."""

    class Hungry(numpy.random.Generator):  # type: ignore[name-defined]
        def gamma(self, *args: Any, **kwargs: Any) -> Any:
            self.bit_generator.random_raw()
            return super().gamma(*args, **kwargs)

    made = generators.generator
    monkeypatch.setattr(
        generators, "generator", lambda seed, name: Hungry(made(seed, name).bit_generator)
    )
    generators.probe.cache_clear()


async def gambles() -> None:
    luck = workflow.rng("luck").gamma(2.0)
    await workflow.step("bet", luck)


async def hides_it() -> None:
    workflow.rng("luck").gamma(2.0)
    await workflow.sleep(60)


@pytest.mark.parametrize("function", [gambles, hides_it])
def test_a_distribution_that_eats_another_length_of_its_stream_is_found_by_name(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]
) -> None:
    run = drive(function)
    probe = generators.probe()
    with monkeypatch.context() as changed:
        another_numpy(changed)
        assert generators.probe() == probe, "the probe sees nothing of it"
        with pytest.raises(NondeterminismError) as found:
            run.replayed()
    assert found.value.recorded.startswith("GeneratorDrawn(name='luck', words=")
    assert found.value.issued.endswith("[differs in words, digest]")


def test_code_that_draws_once_more_is_found_though_it_orders_the_same(drive: Drive) -> None:
    extra = 0

    async def sleeper() -> None:
        workflow.rng("luck").random(1 + extra)
        await workflow.sleep(60)

    run = drive(sleeper)
    extra = 1
    with pytest.raises(NondeterminismError, match=r"'luck', words=1,.*'luck', words=2,"):
        run.replayed()
    extra = 0


def test_a_mismatch_behind_the_streams_still_names_its_own_line(drive: Drive) -> None:
    wanted = ["a", "b"]

    async def naps() -> None:
        await workflow.sleep(60)

    async def orders() -> None:
        rng = workflow.rng("luck")
        await workflow.step("first")
        rng.random()
        one = asyncio.create_task(naps())
        await workflow.step(wanted[0])
        await workflow.step(wanted[1])
        await one

    run = drive(orders)
    run.complete(1)
    wanted[0] = "another"
    with pytest.raises(NondeterminismError, match="another") as found:
        run.replayed()
    line = orders.__code__.co_firstlineno + 5
    assert found.value.where == f"tests/core/test_generators.py:{line}"
    wanted[0] = "a"


def test_a_run_from_before_records_no_streams_and_replays_as_it_was(drive: Drive) -> None:
    run = drive(draws, flags=[FIRST])
    run.complete(1)
    assert drawn_in(run.history) == []
    assert run.replayed().pending == []


def test_a_run_rebuilt_in_mid_stream_goes_on_with_the_same_numbers(drive: Drive) -> None:
    async def picky() -> list[float]:
        rng = workflow.rng("walk")
        seen = []
        for index in range(6):
            seen.append(float(rng.gamma(2.0)))
            await workflow.step("a", index)
        return seen

    lived, rebuilt = drive(picky), drive(picky)
    for step in range(1, 7):
        replayed = rebuilt.replayed()
        rebuilt.execution.close()
        rebuilt.execution = replayed.execution
        lived.complete(step)
        rebuilt.complete(step)
    assert lived.history == rebuilt.history
    assert kinds(lived.history[-2:]) == ["StepCompleted", "RunCompleted"]  # type: ignore[arg-type]


def test_what_is_drawn_before_the_end_is_recorded_before_it_and_unwinding_records_nothing(
    drive: Drive,
) -> None:
    async def untidy() -> float:
        async def waits() -> None:
            try:
                await workflow.sleep(60)
            finally:
                rng.random(7)

        rng = workflow.rng("luck")
        task = asyncio.create_task(waits())
        await workflow.sleep(1)
        assert not task.done()
        return float(rng.random())

    run = drive(untidy)
    ended = run.fire(1)
    assert kinds(ended)[0] == "GeneratorDrawn"
    assert kinds(ended)[-1] == "RunCompleted"
    assert drawn_in(run.history) == [("luck", 1)]


# --- those who may only read ---------------------------------------------------------------------


async def asked() -> list[float]:
    rng = workflow.rng("luck")
    drawn = [float(rng.random())]

    @workflow.on_query("peek")
    def peek() -> float:
        return float(rng.random())

    @workflow.on_query("caught")
    def caught() -> float:
        rng.random()
        raise ValueError("no")

    @on_update("add")
    def add(count: int) -> float:
        drawn.append(float(rng.random()))
        return drawn[-1]

    @add.validator
    def is_lucky(count: int) -> None:
        if count and rng.random() > 2:
            raise ValueError("bad luck")

    await workflow.wait_condition(lambda: len(drawn) == 2)
    return drawn


def expected_draws(count: int) -> list[float]:
    drawn: list[float] = generators.generator("c0ffee", "luck").random(count).tolist()
    return drawn


def test_a_query_that_draws_is_refused_and_moves_no_stream(drive: Drive) -> None:
    run = drive(asked)
    with pytest.raises(ForbiddenInWorkflow, match=r"drawing from rng\('luck'\) in a query"):
        run.execution.query("peek", [])
    assert not run.execution.is_usable, "it is replayed, whatever else the query did"
    run.execution.close()
    run.execution = run.replayed().execution
    with pytest.raises(ApplicationError, match="no"):
        run.execution.query("caught", [])
    assert run.execution.is_usable
    (*_, ended) = run.apply(UpdateReceived(at_ms=run.now_ms, update="add", update_id="u", args=[0]))
    assert isinstance(ended, RunCompleted)
    assert ended.result == expected_draws(2)


def test_a_validator_that_draws_rejects_its_update_and_moves_no_stream(drive: Drive) -> None:
    run = drive(asked)
    (rejected,) = run.apply(
        UpdateReceived(at_ms=run.now_ms, update="add", update_id="u1", args=[1])
    )
    assert kinds([rejected]) == ["UpdateRejected"]
    moved = generators.generator("c0ffee", "luck")
    moved.random()
    stands = run.execution.streams.generator("luck")
    assert generators.position(stands) == generators.position(moved)
    run.execution.close()
    run.execution = run.replayed().execution
    (*_, ended) = run.apply(
        UpdateReceived(at_ms=run.now_ms, update="add", update_id="u2", args=[0])
    )
    assert isinstance(ended, RunCompleted)
    assert ended.result == expected_draws(2)
