"""Which expressions are sets, and where the order of one would get out."""

import ast

#: What a set may be handed to: no order comes out of it.
ORDERLESS = {"sorted", "len", "sum", "min", "max", "any", "all", "set", "frozenset", "bool"}
#: Turns a set into something that has its order.
ORDERING = {"list", "tuple", "enumerate", "iter", "map", "filter", "zip", "reversed", "dict"}
_METHODS = {"union", "intersection", "difference", "symmetric_difference", "copy"}
_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)


def is_set(node: ast.expr, known: set[str]) -> bool:
    """Return whether `node` certainly is a set; `known` are variables that hold nothing else."""
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name(id=name):
            return name in known
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(value=value, attr=attr)):
            return attr in _METHODS and is_set(value, known)
        case ast.BinOp(left=left, right=right, op=operator):
            return isinstance(operator, _OPERATORS) and (
                is_set(left, known) or is_set(right, known) or _is_keys(left) or _is_keys(right)
            )
        case _:
            return False


def variables_of(function: ast.AST) -> set[str]:
    """Return the variables of a function that are sets wherever they are assigned."""
    sets: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                (sets if is_set(value, sets) else others).add(name)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                text = ast.unparse(annotation).partition("[")[0]
                (sets if text in ("set", "frozenset") else others).add(name)
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                text = ast.unparse(annotation).partition("[")[0]
                (sets if text in ("set", "frozenset") else others).add(name)
            case ast.For(target=ast.Name(id=name)) | ast.comprehension(target=ast.Name(id=name)):
                others.add(name)
            case _:
                pass
    return sets - others


def _is_keys(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "keys"
    )
