"""What a query handler does beyond reading."""

import ast
from collections.abc import Iterator

#: Methods that change the lists, sets and dicts they are called on.
MUTATORS = {
    *("append", "appendleft", "extend", "insert", "remove", "pop", "popleft", "popitem", "clear"),
    *("add", "discard", "update", "setdefault", "sort", "reverse"),
}


def writes_in(handler: ast.FunctionDef) -> Iterator[tuple[ast.AST, str]]:
    """Yield every place of a handler that changes what it did not make, and what it does."""
    own = {
        node.id
        for node in ast.walk(handler)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    outer = {
        name
        for node in ast.walk(handler)
        if isinstance(node, ast.Nonlocal | ast.Global)
        for name in node.names
    }
    own -= outer
    for node in ast.walk(handler):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) if name in outer:
                yield node, f"a query that writes to {name}"
            case ast.Attribute(ctx=ast.Store()) | ast.Subscript(ctx=ast.Store()):
                if _root(node) not in own:
                    yield node, f"a query that writes to {ast.unparse(node)}"
            case ast.Call(func=ast.Attribute(attr=attr) as method) if attr in MUTATORS:
                if _root(method) not in own:
                    yield node, f"a query that calls {ast.unparse(method)}()"
            case _:
                pass


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
