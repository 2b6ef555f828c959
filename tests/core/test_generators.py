"""Numpy's random numbers replay, and a numpy that draws otherwise is found (G1, G2)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.core import context as workflow
from orchestrator.core import generators
from orchestrator.core.errors import ActivationFailed, NondeterminismError
from orchestrator.core.events import GeneratorOpened, RunCompleted
from tests.core.driver import Driver, kinds

pytest.importorskip("numpy", reason="numpy is not installed")

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
    assert kinds(run.started) == ["GeneratorOpened", "StepScheduled"]
    opened, ended = run.complete(1)
    assert isinstance(opened, GeneratorOpened)
    assert (opened.name, opened.scheme) == ("noise", "philox-spawn-1")
    assert isinstance(ended, RunCompleted)
    whole = generators.generator("c0ffee", "batches").integers(1000, size=3).tolist()
    assert isinstance(ended.result, list)
    first, noise, rest = ended.result
    assert first == whole != noise
    assert rest not in (first, noise)
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
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    with pytest.raises(ActivationFailed, match="numpy is not installed; install it, or use"):
        Driver(draws)
