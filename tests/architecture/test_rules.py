"""Rules that no linter knows: one error tree, no pickle, no sleeping tests, no silence."""

import ast
import builtins
from pathlib import Path

from tests.architecture.tree import (
    EVERYTHING,
    PRODUCT,
    for_every,
    imported,
    is_inside,
    parsed,
    python_files,
)

#: The tree; training's is a branch of it, which is loaded with training only.
ERROR_TREES = ("orchestrator/core/errors.py", "orchestrator/training/errors.py")
#: Exceptions that are no part of the tree in errors.py, because no caller ever sees them.
INTERNAL_EXCEPTIONS: dict[str, str] = {
    "orchestrator/cli/errors.py::Refusal": "how click ends a command with one line and a code",
    "orchestrator/training/lineage_proof.py::Refused": "an auditor's file: it stands alone",
    "orchestrator/replaying/pytest_plugin.py::_Unfit": "from a test to the words of its failure",
    "orchestrator/engine/mail.py::Malformed": "from a run's mail to the run, as the next",
    "orchestrator/engine/run.py::UnfitEntry": "from a run to its owner, who sets it aside",
    "orchestrator/engine/draft.py::EventTooLarge": "caught where the run is blocked because of it",
}
#: Formats that run code, or bind bytes to a Python version, when they are read.
UNSAFE_FORMATS = ("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib")
#: Tests that wait for other processes; everywhere else a sleep hides a race.
MAY_SLEEP = ("tests/acceptance/", "tests/worker/")


def is_exception(node: ast.ClassDef) -> bool:
    """Return whether a class derives from something named like an exception."""
    for base in node.bases:
        name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
        known = getattr(builtins, name, None)
        if isinstance(known, type) and issubclass(known, BaseException):
            return True
        if name.endswith(("Error", "Exception")):
            return True
    return False


@for_every(python_files("orchestrator"))
def test_every_exception_stands_in_the_one_tree(path: Path) -> None:
    if path.as_posix() in ERROR_TREES:
        return
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ClassDef) and is_exception(node):
            name = f"{path.as_posix()}::{node.name}"
            assert name in INTERNAL_EXCEPTIONS, f"{name}: move it to the tree in errors.py"


@for_every(python_files(*PRODUCT, "benchmarks"))
def test_nothing_reads_or_writes_a_format_that_runs_code(path: Path) -> None:
    for line, name in imported(path):
        assert not is_inside(name, *UNSAFE_FORMATS), f"{path}:{line} imports {name}"
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.keyword) and node.arg and "serializer" in node.arg:
            value = getattr(node.value, "value", "json")
            assert value == "json", f"{path}:{node.value.lineno}: {node.arg}={value!r}"


@for_every(python_files("tests"))
def test_no_test_sleeps(path: Path) -> None:
    if path.as_posix().startswith(MAY_SLEEP):
        return
    for line, name in imported(path):
        assert name != "time.sleep", f"{path}:{line} imports time.sleep"
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and node.attr == "sleep":
            owner = getattr(node.value, "id", "")
            assert owner != "time", f"{path}:{node.lineno}: wait on a condition instead"


@for_every(python_files(*EVERYTHING))
def test_no_exception_is_swallowed_without_a_word(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler) and isinstance(node.body[0], ast.Pass):
            broad = node.type is None or getattr(node.type, "id", "") in (
                "Exception",
                "BaseException",
            )
            assert not broad, f"{path}:{node.lineno}: catch by name, and say why it may be ignored"


def test_internal_exceptions_still_exist() -> None:
    for name in INTERNAL_EXCEPTIONS:
        path, _, kind = name.partition("::")
        classes = [node for node in parsed(Path(path)).body if isinstance(node, ast.ClassDef)]
        assert kind in [node.name for node in classes], f"{name} is gone"
