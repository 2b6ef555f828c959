"""A file holds one idea, a function fits a screen, a call names at most six things (S1, S2, S3).

The bounds stand above what the style aims for, so that a red test means "split it, or give the
reason here", never "squeeze a line out".
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import EVERYTHING, PRODUCT, ROOT, for_every, parsed, python_files

FILE_LINES_MAX = 400
#: A file of tests is entered by a test's name, not read from the top.
TEST_FILE_LINES_MAX = 500
#: Lines of a function without its docstring.
FUNCTION_LINES_MAX = 50
PARAMETERS_MAX = 6

#: Files that stay longer, each because one idea truly needs it.
LONGER_FILES = {
    "orchestrator/core/errors.py": "one tree: every exception, by what the caller does about it",
    "orchestrator/core/events.py": "one family: every fact a history can hold, and its bytes",
    "orchestrator/app.py": "one face: everything that is asked of an app, each in a few lines",
    "orchestrator/engine/owner.py": "one cycle: what is read, decided, committed and acted upon",
    "orchestrator/engine/run.py": "one run: what arrives, what it leads to, how it ends or rests",
    "orchestrator/store/ports.py": "one contract: what three kinds of callers may rely on",
}
#: Functions, as "file::qualified name", that stay longer.
LONGER_FUNCTIONS = {
    "orchestrator/core/ledger.py::Ledger.apply": "one case per event of a closed family",
}
#: Functions with more parameters.
WIDER_FUNCTIONS = {
    "orchestrator/app.py::Orchestrator.__init__": "the composition of an app",
    "orchestrator/engine/process.py::Engine.__init__": "the composition of an orchestrator",
    "orchestrator/worker/protocol.py::StepProtocol.__init__": "the composition of a worker's side",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    """Yield every function of a file under its qualified name."""

    def inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.as_posix()}::{prefix}{child.name}", child
                yield from inside(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from inside(child, f"{prefix}{child.name}.")
            else:
                yield from inside(child, prefix)

    yield from inside(parsed(path), "")


def body_lines(function: Function) -> int:
    """Return the lines from ``def`` to the end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def parameters(function: Function) -> int:
    """Return how many parameters a caller sees; those of a command are words for people."""
    if any(".option(" in ast.unparse(decorator) for decorator in function.decorator_list):
        return 0
    named = [*function.args.posonlyargs, *function.args.args]
    hidden = bool(named) and named[0].arg in ("self", "cls")
    return len(named) - hidden + len(function.args.kwonlyargs)


@for_every(python_files(*EVERYTHING))
def test_file_holds_one_idea(path: Path) -> None:
    lines = len((ROOT / path).read_text().splitlines())
    lines_max = TEST_FILE_LINES_MAX if path.parts[0] == "tests" else FILE_LINES_MAX
    allowed = path.as_posix() in LONGER_FILES
    assert lines <= lines_max or allowed, f"{path} has {lines} lines: split it by idea"


@for_every(python_files(*EVERYTHING))
def test_function_fits_a_screen(path: Path) -> None:
    for name, function in functions(path):
        lines = body_lines(function)
        assert lines <= FUNCTION_LINES_MAX or name in LONGER_FUNCTIONS, f"{name}: {lines} lines"


@for_every(python_files(*PRODUCT))
def test_function_takes_at_most_six_parameters(path: Path) -> None:
    for name, function in functions(path):
        found = parameters(function)
        assert found <= PARAMETERS_MAX or name in WIDER_FUNCTIONS, f"{name}: {found} parameters"


def test_exceptions_are_still_needed() -> None:
    known = dict(entry for path in python_files(*EVERYTHING) for entry in functions(path))
    for file in LONGER_FILES:
        assert len((ROOT / file).read_text().splitlines()) > FILE_LINES_MAX, (
            f"{file} is short again"
        )
    for name in LONGER_FUNCTIONS:
        assert body_lines(known[name]) > FUNCTION_LINES_MAX, f"{name} is short again"
    for name in WIDER_FUNCTIONS:
        assert parameters(known[name]) > PARAMETERS_MAX, f"{name} is narrow again"
