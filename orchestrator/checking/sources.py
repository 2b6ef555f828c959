"""Modules as text: what their names mean, without running them."""

import ast
import importlib.util
import sys
import sysconfig
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

_INSTALLED = ("site-packages", "dist-packages")
_STDLIB = Path(sysconfig.get_path("stdlib")).resolve()
#: Never the author's.
_OURS = "orchestrator"


@dataclass(slots=True)
class Module:
    """One file: the functions, classes and variables at its top, and what its imports stand for."""

    name: str
    path: Path
    text: str
    tree: ast.Module
    functions: dict[str, Function] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)
    imports: dict[str, str] = field(default_factory=dict)


@cache
def find_module(name: str) -> Module | None:
    """Return a module of the project by its dotted name; None for any other."""
    if name.partition(".")[0] == _OURS or name.partition(".")[0] in sys.stdlib_module_names:
        return None
    path = _path_of(name)
    if path is None or not _is_project(path):
        return None
    return read_module(name, path)


@cache
def read_module(name: str, path: Path) -> Module:
    """Return the module in a file.

    Raises:
        OSError, SyntaxError: It cannot be read.
    """
    text = path.read_text()
    module = Module(name, path, text, ast.parse(text, filename=str(path)))
    for node in module.tree.body:
        _take(module, node)
    return module


def imports_of(node: ast.AST, package: str) -> dict[str, str]:
    """Return what an import binds: local name to dotted name; {} for any other node."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: alias.name
            if alias.asname
            else alias.name.partition(".")[0]
            for alias in node.names
        }
    if isinstance(node, ast.ImportFrom):
        parts = package.split(".")
        above = parts[: len(parts) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        return {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
    return {}


def package_of(module: Module) -> str:
    """Return the package that relative imports of `module` start from."""
    return module.name if module.path.stem == "__init__" else module.name.rpartition(".")[0]


def _take(module: Module, node: ast.stmt) -> None:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            module.functions[node.name] = node
        case ast.ClassDef():
            module.classes[node.name] = node
        case ast.Import() | ast.ImportFrom():
            module.imports.update(imports_of(node, package_of(module)))
        case ast.Assign():
            module.variables |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            module.variables.add(name)
        case ast.If() | ast.Try():
            for inner in ast.iter_child_nodes(node):
                if isinstance(inner, ast.stmt):
                    _take(module, inner)
        case _:
            pass


def _path_of(name: str) -> Path | None:
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # a part of it is no package
            return None
        loaded = spec.origin if spec is not None else None
    return Path(loaded) if loaded is not None and loaded.endswith(".py") else None


def _is_project(path: Path) -> bool:
    resolved = path.resolve()
    return not any(part in _INSTALLED for part in resolved.parts) and not resolved.is_relative_to(
        _STDLIB
    )
