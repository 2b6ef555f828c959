"""Promise: an order that does not fit changes nothing and says what would; data is what it was."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.values import Json
from orchestrator.training.datasets import known_datasets, open_dataset
from orchestrator.training.errors import BadHyperparameter, UnknownDataset
from orchestrator.training.hyperparameters import Hyperparameters, number
from orchestrator.training.numpy_trainer import MlpTrainer

KNOWN = MlpTrainer.hyperparameters


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lr": -1}, "'lr': found -1; a number from 0 to 10"),
        ({"lr": True}, "'lr': found True"),
        ({"lr": "0.1"}, "'lr': found '0.1'"),
        ({"lr": float("nan")}, "'lr': found nan"),
        ({"lr": float("inf")}, "'lr': found inf"),
        ({"lr": 10**400}, "'lr': found 1000"),
        ({"lr": None}, "'lr': found None"),
        ({"batch_size": 1.5}, "'batch_size': found 1.5; a whole number"),
        ({"hidden": []}, "'hidden': found"),
        ({"hidden": [0]}, "'hidden': found"),
        ({"hidden": [True]}, "'hidden': found"),
        ({"Lr": 0.1}, "'Lr': found a name unknown here; known: batch_size, beta1"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_words(given: dict[str, Json], said: str) -> None:
    with pytest.raises(BadHyperparameter) as refused:
        KNOWN.complete(given)
    assert said in str(refused.value)


def test_what_is_not_named_has_its_default() -> None:
    found = KNOWN.complete({"lr": 0.5})
    assert found["lr"] == 0.5
    assert found.keys() == {one.name for one in KNOWN}


def test_a_change_is_taken_whole_or_not_at_all() -> None:
    before = KNOWN.complete({})
    kept = dict(before)
    assert KNOWN.changed(before, {"lr": 0.5})["lr"] == 0.5
    with pytest.raises(BadHyperparameter, match="fixed for a run"):
        KNOWN.changed(before, {"lr": 0.5, "hidden": [3]})
    with pytest.raises(BadHyperparameter, match="'dropout'"):
        KNOWN.changed(before, {"lr": 0.5, "dropout": 1})
    assert before == kept


def test_a_structural_value_may_be_repeated() -> None:
    before = KNOWN.complete({"hidden": [3]})
    assert KNOWN.changed(before, {"hidden": [3]}) == before


SCALARS = st.none() | st.booleans() | st.integers() | st.just(-(10**400)) | st.floats() | st.text()


def test_number_without_a_bound_is_one_that_a_float_can_hold() -> None:
    known = Hyperparameters(number("gain", 1, low=-math.inf, high=math.inf))
    assert known.complete({"gain": -(10**300)})["gain"] == -(10**300)
    for bad in (10**400, -(10**400), math.inf, -math.inf, math.nan):
        with pytest.raises(BadHyperparameter):
            known.complete({"gain": bad})


@given(st.recursive(SCALARS, st.lists, max_leaves=4))
def test_any_json_is_taken_or_refused_by_name(value: Json) -> None:
    for one in KNOWN:
        if one.accepts(value):
            assert KNOWN.complete({one.name: value})[one.name] == value
            continue
        with pytest.raises(BadHyperparameter) as refused:
            KNOWN.complete({one.name: value})
        assert refused.value.name == one.name


def test_unknown_data_is_refused_with_what_is_known() -> None:
    with pytest.raises(UnknownDataset, match="'cats'; known: breast_cancer, diabetes, digits"):
        open_dataset("cats")


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits", "iris", "wine"])
def test_bundled_data_is_in_range_and_parted(name: str) -> None:
    found = open_dataset(name)
    whole = found.take(found.ids)
    assert whole.x.dtype == np.float32
    assert whole.x.min() >= 0
    assert whole.x.max() <= 1
    assert not set(found.held_out().ids) & set(found.ids)
    assert found.size == len(found.ids)
    assert name in known_datasets()


def test_split_is_a_function_of_its_seed_and_shows_in_the_fingerprint() -> None:
    one, other = open_dataset("iris", 1), open_dataset("iris", 2)
    assert set(one.ids) != set(other.ids)
    assert one.fingerprint != other.fingerprint
    open_dataset.cache_clear()
    assert open_dataset("iris", 1).fingerprint == one.fingerprint


def test_digest_of_a_sample_covers_what_is_trained_on() -> None:
    found = open_dataset("digits")
    sample = found.take(found.ids[:1])
    digest = hashlib.sha256(sample.x.tobytes() + sample.y.tobytes()).digest()
    assert found.sample_digest(int(found.ids[0])) == digest


def test_batches_are_copies() -> None:
    found = open_dataset("digits")
    found.take(found.ids[:4]).x[:] = 7
    assert found.take(found.ids[:4]).x.max() <= 1
