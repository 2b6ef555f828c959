"""Promise: weights have the same bits, interrupted anywhere or never.  Real digits, small nets."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.training.numpy_trainer import AutoencoderTrainer, MlpTrainer
from orchestrator.training.session import WarmSessions
from orchestrator.training.testkit import assert_resume_identical
from orchestrator.training.trainer import Cursor
from tests.training.trainers_kit import SMALL, STEPS, branch

#: Steps the references train: three epochs.
TOTAL = 3 * STEPS


@pytest.fixture(scope="module")
def uninterrupted() -> str:
    """Digest after three epochs in one chunk."""
    return branch().through([TOTAL]).digest()


def test_saving_at_every_epoch_leaves_the_bits_alone(uninterrupted: str) -> None:
    assert branch().through([0, STEPS, 2 * STEPS, TOTAL]).digest() == uninterrupted


@settings(deadline=None, max_examples=25)
@given(st.sets(st.integers(0, TOTAL - 1), max_size=6))
def test_chunks_cut_anywhere_give_the_same_bits(uninterrupted: str, cuts: set[int]) -> None:
    assert branch().through([*sorted(cuts), TOTAL]).digest() == uninterrupted


def test_a_fresh_object_and_one_kept_warm_save_the_same_manifests() -> None:
    cuts = [0, 10, STEPS, 61, TOTAL]
    warm = branch(warm=WarmSessions()).through(cuts)
    cold = branch().through(cuts)
    assert [result.warm for result in warm.results] == [False, True, True, True, True]
    assert [result.warm for result in cold.results] == [False] * 5
    assert warm.refs == cold.refs


def test_several_epochs_in_one_chunk_are_the_epochs_one_by_one(uninterrupted: str) -> None:
    found = branch()
    assert found.train(Cursor(3, 0)).stopped_at == Cursor(3, 0)
    assert found.digest() == uninterrupted


def test_the_end_of_an_epoch_and_the_beginning_of_the_next_are_one_place(
    uninterrupted: str,
) -> None:
    found = branch()
    assert found.train(Cursor(0, STEPS)).stopped_at == Cursor(1, 0)
    assert found.through([TOTAL]).digest() == uninterrupted


def test_another_seed_gives_other_bits(uninterrupted: str) -> None:
    other = branch()
    other.order(seed=8)
    assert other.through([TOTAL]).digest() != uninterrupted


def test_another_process_gives_the_same_bits(uninterrupted: str) -> None:
    code = (
        "from tests.training.trainers_kit import branch\n"
        f"print(branch().through([31, {TOTAL}]).digest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == uninterrupted


@pytest.mark.parametrize("trainer", [MlpTrainer, AutoencoderTrainer])
def test_shipped_trainers_resume_after_every_step(trainer: type[MlpTrainer]) -> None:
    assert_resume_identical(trainer, hparams=SMALL, steps=6)


def test_values_are_learned_and_resumed_as_classes_are() -> None:
    assert_resume_identical(MlpTrainer, dataset="diabetes", hparams=SMALL, steps=6)


def test_the_default_net_learns_digits() -> None:
    found = branch()
    found.order(hidden=[64, 32], dropout=0.0)
    result = found.train(Cursor(8, 0))
    evaluated = found.train(Cursor(9, 0), save=None).metrics
    assert evaluated["loss"] < result.metrics["loss"] < 2.0
