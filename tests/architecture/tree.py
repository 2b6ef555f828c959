"""The repository as the architecture tests see it: its Python files, parsed, and their imports.

An import inside a function or under ``TYPE_CHECKING`` counts like any other: an import moved there
to dodge a cycle is the cycle.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache, wraps
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What runs in production, and what the repository ships beside it.
PRODUCT = ("orchestrator", "tasks", "sagas")
EVERYTHING = (*PRODUCT, "benchmarks", "tests")


def python_files(*folders: str) -> list[Path]:
    """Return the Python files below `folders`, relative to the root, sorted."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in found)


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file given relative to the root."""
    return ast.parse((ROOT / path).read_text(), filename=path.as_posix())


def module_name(path: Path) -> str:
    """Return the dotted name of a file given relative to the root."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import; ``from a import b`` is ``a.b``."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def for_every(paths: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of what has to hold for every path; it names all for which it does not.

    A test for each would be thousands, which take longer to be counted than to be run.
    """

    def decorate(check: Callable[[Path], None]) -> Callable[[], None]:
        @wraps(check)
        def test() -> None:
            found = list(paths)
            assert found, "nothing is looked at"
            broken = []
            for path in found:
                try:
                    check(path)
                except AssertionError as error:
                    broken.append(f"{path}: {error}")
            assert not broken, "\n".join(broken)

        del test.__wrapped__  # pytest would read its signature
        return test

    return decorate


def is_inside(name: str, *packages: str) -> bool:
    """Return whether a dotted name is one of `packages` or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)
