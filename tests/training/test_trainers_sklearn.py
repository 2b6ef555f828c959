"""Promise: every estimator of scikit-learn that the trainer names resumes to the same bits."""

import re
import subprocess
import sys
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from orchestrator.core.values import Json
from orchestrator.training.datasets import open_dataset
from orchestrator.training.errors import BadHyperparameter, TrainerMisbehaved
from orchestrator.training.sklearn_adjusting import ADJUSTABLE
from orchestrator.training.sklearn_state import flatten, restore, settle
from orchestrator.training.sklearn_trainer import ESTIMATORS, SklearnTrainer
from orchestrator.training.testkit import assert_resume_identical
from orchestrator.training.trainer import Context
from tests.training.trainers_kit import Branch, at, branch

ALL: list[tuple[str, dict[str, Json]]] = [
    ("SGDClassifier", {"loss": "log_loss"}),
    ("SGDClassifier", {"average": True}),
    ("SGDRegressor", {}),
    ("Perceptron", {}),
    ("MLPClassifier", {"hidden_layer_sizes": [16]}),
    ("MLPClassifier", {"hidden_layer_sizes": [16], "solver": "sgd", "learning_rate": "adaptive"}),
    ("GaussianNB", {}),
    ("MultinomialNB", {}),
    ("MiniBatchKMeans", {"n_clusters": 5}),
    ("IncrementalPCA", {"n_components": 5}),
    ("StandardScaler", {}),
    ("MiniBatchDictionaryLearning", {"n_components": 5}),
]


def trained(estimator: str, params: dict[str, Json], *, steps: int = 3) -> SklearnTrainer:
    """Return a trainer that has taken `steps` steps of digits."""
    hparams = SklearnTrainer.hyperparameters.complete({"estimator": estimator, "params": params})
    ctx = Context(seed=7, hparams=hparams, dataset=open_dataset("digits"))
    trainer = SklearnTrainer()
    trainer.init(ctx)
    for step in range(steps):
        trainer.step(ctx, 0, step)
    return trainer


def sklearn_branch(estimator: str, params: dict[str, Json]) -> Branch:
    """Return a branch of that estimator."""
    return branch(trainer="sklearn", hparams={"estimator": estimator, "params": params})


@pytest.mark.parametrize(("estimator", "params"), ALL, ids=[f"{n}-{p}" for n, p in ALL])
def test_estimator_resumes_to_the_same_bits(estimator: str, params: dict[str, Json]) -> None:
    dataset = "diabetes" if ESTIMATORS[estimator][1] == "values" else "digits"
    hparams: dict[str, Json] = {"estimator": estimator, "params": params}
    assert_resume_identical(SklearnTrainer, dataset=dataset, hparams=hparams, steps=5)


def test_every_estimator_on_the_list_is_tested() -> None:
    assert {name for name, _ in ALL} == set(ESTIMATORS)


def test_fortran_order_survives() -> None:
    state = trained("MiniBatchDictionaryLearning", {"n_components": 5}).state()
    found = state.groups["model"]["components_"]
    assert found.flags.f_contiguous
    assert not found.flags.c_contiguous
    fresh = SklearnTrainer()
    hparams = SklearnTrainer.hyperparameters.complete(
        {"estimator": "MiniBatchDictionaryLearning", "params": {"n_components": 5}}
    )
    fresh.load(state.copy(), Context(seed=7, hparams=hparams, dataset=open_dataset("digits")))
    assert fresh.state().groups["model"]["components_"].flags.f_contiguous


def test_views_with_strides_are_settled_before_they_are_saved() -> None:
    state = trained("IncrementalPCA", {"n_components": 5}).state()
    assert all(tensor.flags.forc for tensor in state.groups["model"].values())


def test_names_that_share_an_array_share_it_again() -> None:
    state = trained("SGDClassifier", {"average": True}).state()
    from sklearn.linear_model import SGDClassifier

    estimator = SGDClassifier(average=True)
    restore(estimator, state.groups["model"], state.meta["estimator"])
    assert estimator.coef_ is estimator._average_coef
    assert estimator.coef_ is not estimator._standard_coef


def test_scalars_keep_their_type() -> None:
    from sklearn.naive_bayes import GaussianNB

    estimator = GaussianNB()
    state = trained("GaussianNB", {}).state()
    restore(estimator, state.groups["model"], state.meta["estimator"])
    assert type(estimator.epsilon_) is np.float32


def test_history_of_losses_does_not_grow() -> None:
    short, long = (trained("MLPClassifier", {}, steps=steps).state() for steps in (1, 9))
    assert set(short.groups["model"]) == set(long.groups["model"])


def test_what_cannot_be_restored_is_refused_by_its_name() -> None:
    class Holder:
        """An estimator with something foreign inside."""

        def __init__(self, inside: object) -> None:
            self.inside_ = inside

    with pytest.raises(TrainerMisbehaved, match="inside_"):
        flatten(Holder(object()), [])
    with pytest.raises(TrainerMisbehaved, match="dtype object"):
        flatten(Holder(np.array([None])), [])


def test_checkpoint_cannot_name_a_class_to_be_made() -> None:
    class Holder:
        """Nothing inside."""

    meta: Json = {"x": {"object": "subprocess.Popen", "attributes": {}}}
    with pytest.raises(TrainerMisbehaved):
        restore(Holder(), {}, meta)


def test_settle_leaves_contiguous_arrays_alone() -> None:
    class Holder:
        """Two arrays."""

        whole = np.zeros((3, 4))

    holder = Holder()
    holder.whole = np.zeros((3, 4))
    holder.part = np.zeros((6, 4)).T[:, :3]  # type: ignore[attr-defined]
    before = holder.whole
    settle(holder)
    assert holder.whole is before
    assert holder.part.flags.forc  # type: ignore[attr-defined]


def test_an_estimator_without_a_random_state_is_refused() -> None:
    with pytest.raises(BadHyperparameter, match="random_state"):
        trained("MLPClassifier", {"random_state": None})


@pytest.mark.parametrize(
    ("estimator", "params", "said"),
    [
        ("SGDRegressor", {}, "it learns values"),
        ("GaussianNB", {"speed": 3}, "var_smoothing"),
        ("KMeans", {}, "one of"),
    ],
)
def test_wrong_orders_are_refused_in_words(estimator: str, params: Any, said: str) -> None:
    with pytest.raises(BadHyperparameter, match=said):
        trained(estimator, params)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_adjustments_are_those_that_a_fresh_estimator_takes(estimator: str) -> None:
    """AJ2, of what may change at all; asked of scikit-learn as it is installed."""
    dataset = "diabetes" if ESTIMATORS[estimator][1] == "values" else "digits"
    data = open_dataset(dataset)
    batch, known = data.take(data.ids[:32]), SklearnTrainer.hyperparameters
    kind = getattr(import_module(ESTIMATORS[estimator][0]), estimator)
    names = {name for ranges in ADJUSTABLE.values() for name in ranges}
    for name in sorted(names):
        for value in (-1, -0.5, 0, 0.5, 1, 1.5, 100):
            given: dict[str, Json] = {"estimator": estimator, "adjust": {name: value}}
            more = {"classes": range(10)} if ESTIMATORS[estimator][1] == "classes" else {}
            try:
                with np.errstate(all="ignore"):
                    kind().set_params(**{name: value}).partial_fit(batch.x, batch.y, **more)
            except (ValueError, ZeroDivisionError) as error:
                if "overflow" in str(error):
                    continue
                with pytest.raises(BadHyperparameter, match=f"{name}.*{estimator}|optimal"):
                    known.complete(given)
            else:
                assert known.complete(given)["adjust"] == {name: value}, (name, value)


@pytest.mark.parametrize(
    ("estimator", "adjust", "said"),
    [
        ("SGDClassifier", {"momentum": 0.9}, "momentum=0.9; for SGDClassifier: alpha (0 or more)"),
        ("SGDClassifier", {"alpha": -1}, "alpha=-1; for SGDClassifier"),
        ("SGDClassifier", {"alpha": 0}, "alpha=0; above 0 where learning_rate is 'optimal'"),
        ("SGDClassifier", {"eta0": 10**400}, "an object: numbers"),
        ("SGDClassifier", {"eta0": True}, "an object: numbers"),
        ("SGDClassifier", [0.1], "an object: numbers"),
        ("GaussianNB", {"alpha": 1}, "for GaussianNB: nothing"),
    ],
)
def test_adjustments_that_do_not_fit_are_refused_in_words(
    estimator: str, adjust: Json, said: str
) -> None:
    known = SklearnTrainer.hyperparameters
    before = known.complete({"estimator": estimator})
    with pytest.raises(BadHyperparameter, match=re.escape(said)):
        known.changed(before, {"adjust": adjust})


def test_alpha_may_be_nothing_where_the_rate_is_not_made_of_it() -> None:
    params: dict[str, Json] = {"learning_rate": "constant", "eta0": 0.1}
    given: dict[str, Json] = {"estimator": "SGDClassifier", "params": params}
    assert SklearnTrainer.hyperparameters.complete({**given, "adjust": {"alpha": 0}})


def test_an_adjustment_is_checked_without_the_library() -> None:
    code = (
        "import sys; from orchestrator.training.sklearn_trainer import SklearnTrainer;"
        "known = SklearnTrainer.hyperparameters; before = known.complete({});"
        "known.changed(before, {'adjust': {'eta0': 0.5}}); assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_new_learning_rate_reaches_the_optimizer_and_resumes(solver: str) -> None:
    params: dict[str, Json] = {"hidden_layer_sizes": [8], "solver": solver}

    def adjusted(cuts: list[int], rate: float) -> Branch:
        found = sklearn_branch("MLPClassifier", params)
        found.through([20])
        found.order(adjust={"learning_rate_init": rate})
        return found.through(cuts)

    def weights(found: Branch) -> bytes:
        ref = found.refs[-1]
        state = found.store.load(ref.manifest_sha256, ref.key).state
        return state.groups["model"]["coefs_.0"].tobytes()

    whole = adjusted([40], 0.1)
    assert whole.digest() == adjusted([21, 33, 40], 0.1).digest()
    assert weights(whole) != weights(adjusted([40], 0.2))


def test_sklearn_runs_through_chunks() -> None:
    cuts = [0, 7, 45, 60]
    found = sklearn_branch("SGDClassifier", {"loss": "log_loss"}).through(cuts)
    whole = sklearn_branch("SGDClassifier", {"loss": "log_loss"}).through([60])
    assert found.digest() == whole.digest()
    assert found.cursor == at(60)
