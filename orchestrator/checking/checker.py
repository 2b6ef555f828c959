"""From the workflows of an app, through the project's functions they call, to what is found there.

CK1  Followed is what workflow code names and does not merely order: functions and classes of the
     project, across its modules.  Tasks are steps, and are not followed unless called outright.
CK2  A comment ``# orc: ignore[ORC101] reason`` silences that code on its line, for a reason.
"""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.checking.findings import CODES, Finding
from orchestrator.checking.reader import Reader
from orchestrator.checking.sources import Function, Module, find_module, read_module
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ConfigurationError
from orchestrator.core.versions import every_version

_IGNORE = re.compile(r"#\s*orc:\s*ignore\[(?P<codes>[\w\s,]*)\](?P<reason>.*)")
#: Decorators of functions that steps are made of.
_TASKS = {"task", "shared_task"}


def check(
    workflows: Mapping[str, WorkflowDefinition], paths: Iterable[str | Path] = ()
) -> list[Finding]:
    """Return what is found in the code of `workflows`, by place; below `paths` only, if any.

    Raises:
        ConfigurationError: A path that does not exist; or a workflow without source.
    """
    kept = [_existing(path) for path in paths]
    found: dict[tuple[Path, int, int, str], Finding] = {}
    modules: dict[Path, Module] = {}
    seen: set[tuple[str, int]] = set()
    for workflow in every_version(workflows):
        for finding in _findings_of(workflow, seen, modules):
            place = finding.path, finding.line, finding.column, finding.code
            found.setdefault(place, replace(finding, workflow=workflow.name))
    silenced = [_Comments(module) for module in modules.values()]
    left = [
        finding
        for finding in found.values()
        if not any(comments.silence(finding) for comments in silenced)
    ]
    left += [finding for comments in silenced for finding in comments.wrong]
    return sorted(
        finding
        for finding in left
        if not kept or any(finding.path.resolve().is_relative_to(path) for path in kept)
    )


def _existing(path: str | Path) -> Path:
    if not Path(path).exists():
        raise ConfigurationError(f"path {str(path)!r}", "nothing", "a file or folder is wanted")
    return Path(path).resolve()


def _findings_of(
    definition: WorkflowDefinition, seen: set[tuple[str, int]], modules: dict[Path, Module]
) -> Iterator[Finding]:
    waiting = [_start(definition)]
    while waiting:
        module, function = waiting.pop()
        if (module.name, function.lineno) in seen:
            continue
        seen.add((module.name, function.lineno))
        modules[module.path] = module
        reader = Reader(module, function, _is_coroutine)
        yield from reader.findings
        for name in sorted(reader.reached):
            waiting += [
                (other, node)
                for other, node in _definitions(name)
                if name in reader.called or not _is_task(node)
            ]


def _start(definition: WorkflowDefinition) -> tuple[Module, Function]:
    function = inspect.unwrap(definition.function)
    code = function.__code__
    try:
        module = _as_written(read_module(function.__module__, Path(code.co_filename)))
    except (OSError, SyntaxError) as error:
        raise ConfigurationError(
            f"workflow {definition.name!r}", f"no source that can be read ({error})", "it is wanted"
        ) from error
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AsyncFunctionDef) and node.name == function.__name__:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if code.co_firstlineno in (first, node.lineno):
                return module, node
    raise ConfigurationError(
        f"workflow {definition.name!r}",
        f"no such function in {module.path}",
        "has the file changed since it was imported?",
    )


def _as_written(module: Module) -> Module:
    """Return a module under its path as people write it, from where they are."""
    here, path = Path.cwd(), module.path
    return replace(module, path=path.relative_to(here)) if path.is_relative_to(here) else module


def _definitions(name: str, depth: int = 0) -> list[tuple[Module, Function]]:
    """Return the functions that a dotted name stands for: one, or the methods of a class."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = find_module(".".join(parts[:cut]))
        if module is None:
            continue
        module = _as_written(module)
        first = parts[cut]
        if first in module.functions and len(parts) == cut + 1:
            return [(module, module.functions[first])]
        if first in module.classes:
            return [(module, node) for node in _methods(module.classes[first])]
        if first in module.imports and depth < len(CODES):
            return _definitions(".".join([module.imports[first], *parts[cut + 1 :]]), depth + 1)
        return []
    return []


def _methods(node: ast.ClassDef) -> Iterator[Function]:
    for each in node.body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield each


def _is_coroutine(name: str) -> bool:
    found = _definitions(name)
    return len(found) == 1 and isinstance(found[0][1], ast.AsyncFunctionDef)


def _is_task(node: Function) -> bool:
    for decorator in node.decorator_list:
        function = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(function).rpartition(".")[2] in _TASKS:
            return True
    return False


class _Comments:
    """The comments of one file that silence findings (CK2)."""

    def __init__(self, module: Module) -> None:
        self.wrong: list[Finding] = []
        self._path = module.path
        self._codes: dict[int, set[str]] = {}
        for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
            found = _IGNORE.search(token.string) if token.type == tokenize.COMMENT else None
            if found is not None:
                self._take(token.start, found["codes"], found["reason"])

    def silence(self, finding: Finding) -> bool:
        """Return whether a comment silences it."""
        return finding.path == self._path and finding.code in self._codes.get(finding.line, ())

    def _take(self, start: tuple[int, int], codes: str, reason: str) -> None:
        named = {code.strip() for code in codes.split(",") if code.strip()}
        unknown = sorted(named - CODES.keys())
        what = ""
        if unknown or not named:
            what = f"ignore of {', '.join(unknown) or 'nothing'}, which is no code"
        elif not reason.strip():
            what = "ignore without a reason"
        else:
            self._codes[start[0]] = named
        if what:
            self.wrong.append(
                Finding(
                    path=self._path,
                    line=start[0],
                    column=start[1] + 1,
                    code="ORC100",
                    what=what,
                    instead="write # orc: ignore[ORC101] and why",
                )
            )
