"""Promise: every error of training says what was found and survives a journey between processes."""

import inspect
import pickle

import pytest

from orchestrator.training import errors
from orchestrator.training.errors import TrainingError

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, TrainingError) and kind.__module__ == errors.__name__
]


def example(kind: type[TrainingError]) -> TrainingError:
    """Return an error whose arguments are their own names."""
    if kind.__init__ is Exception.__init__:
        return kind("found")
    parameters = list(inspect.signature(kind).parameters.values())
    words = [
        (f"a {one.name}", f"b {one.name}") if "tuple" in str(one.annotation) else f"<{one.name}>"
        for one in parameters
    ]
    return kind(*words)


@pytest.mark.parametrize("kind", CLASSES)
def test_error_survives_pickle_and_rebuild_from_args(kind: type[TrainingError]) -> None:
    error = example(kind)
    for again in (pickle.loads(pickle.dumps(error)), kind(*error.args)):
        assert type(again) is kind
        assert (again.args, str(again)) == (error.args, str(error))


@pytest.mark.parametrize("kind", CLASSES)
def test_error_names_all_that_it_was_given(kind: type[TrainingError]) -> None:
    error = example(kind)
    for word in error.args:
        for part in word if isinstance(word, tuple) else (word,):
            assert str(part) in str(error)


def test_tree_in_the_module_docstring_is_the_tree() -> None:
    drawn = inspect.getdoc(errors) or ""
    for kind in CLASSES:
        assert f"── {kind.__name__} " in drawn, f"{kind.__name__} is not drawn"
