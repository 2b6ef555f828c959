"""One function of workflow code: what is wrong in it, and what else it reaches.

RD1  A name is looked up as Python does: bound in the function, imported in it, at the module's top,
     built in.  A name that is bound in the function is nobody's alias.
RD2  What is handed to ``step`` or ``child`` is ordered, not called: it is not reached.
"""

import ast
import builtins
from collections.abc import Callable, Iterator

from orchestrator.checking import queries, sets
from orchestrator.checking.calls import refused, refused_method
from orchestrator.checking.findings import Finding
from orchestrator.checking.sources import Function, Module, imports_of, package_of

_WORKFLOW = "orchestrator.workflow"
_ORDERS = {"step", "child"}
_AWAITED = {f"{_WORKFLOW}.{name}" for name in ("step", "child", "sleep", "signal")} | {
    f"{_WORKFLOW}.wait_condition",
    "asyncio.sleep",
}
_CANCELLATION = {
    *("BaseException", "asyncio.CancelledError", "asyncio.exceptions.CancelledError"),
}
_ON_SETS = {"asyncio.wait": "workflow.wait", "asyncio.as_completed": "workflow.as_completed"}
_SORT = "iterate over sorted(…), or keep a list or the keys of a dict"
_STATE = "keep it in a local variable; what runs share belongs into a step"


class Reader(ast.NodeVisitor):
    """Reads a function, the functions inside it included.

    Attributes:
        findings: What is wrong, as it was met.
        reached: Dotted names of what it refers to, without what it only orders (RD2).
        called: Those of them that it calls.
    """

    def __init__(
        self, module: Module, function: Function, is_coroutine: Callable[[str], bool]
    ) -> None:
        self.findings: list[Finding] = []
        self.reached: set[str] = set()
        self.called: set[str] = set()
        self._module = module
        self._is_coroutine = is_coroutine
        self._is_ordering = False
        self._imports: dict[str, str] = {}
        for node in ast.walk(function):
            self._imports.update(imports_of(node, package_of(module)))
        self._globals = {
            name
            for node in ast.walk(function)
            if isinstance(node, ast.Global)
            for name in node.names
        }
        self._locals = set(_bound(function)) - self._globals
        self._sets = sets.variables_of(function)
        for statement in function.body:
            self.visit(statement)

    # --- names -----------------------------------------------------------------------------------

    def dotted(self, node: ast.expr) -> str | None:
        """Return what an expression names (RD1); None for what is no plain name."""
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return None if base is None else f"{base}.{node.attr}"
        if not isinstance(node, ast.Name):
            return None
        name, module = node.id, self._module
        if name in self._imports:
            return self._imports[name]
        if name in self._locals:
            return None
        if name in module.functions or name in module.classes:
            return f"{module.name}.{name}"
        return module.imports.get(name) or (name if hasattr(builtins, name) else None)

    def visit_Name(self, node: ast.Name) -> None:
        """Note what is reached."""
        self._reach(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Note what is reached."""
        self._reach(node)
        self.generic_visit(node)

    def _reach(self, node: ast.expr) -> None:
        name = self.dotted(node)
        if name is not None and not self._is_ordering:
            self.reached.add(name)

    def _find(self, node: ast.AST, code: str, what: str, instead: str) -> None:
        self.findings.append(
            Finding(
                path=self._module.path,
                line=getattr(node, "lineno", 1),
                column=getattr(node, "col_offset", 0) + 1,
                code=code,
                what=what,
                instead=instead,
            )
        )

    # --- calls -----------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        """Look for calls that cannot be replayed, and for sets whose order gets out."""
        name = self.dotted(node.func)
        if name is not None:
            self.called.add(name)
        self._check_call(node, name)
        self._check_sets_in(node, name)
        self._check_mutation(node)
        self.visit(node.func)
        before = self._is_ordering
        self._is_ordering |= isinstance(node.func, ast.Attribute) and node.func.attr in _ORDERS
        # What is handed to side_effect() runs outside of the workflow, and once.
        given = node.args[1:] if name == f"{_WORKFLOW}.side_effect" else node.args
        for part in (*given, *node.keywords):
            self.visit(part)
        self._is_ordering = before

    def _check_call(self, node: ast.Call, name: str | None) -> None:
        found = None
        if name is not None:
            found = refused(name, arguments=len(node.args) + len(node.keywords))
        elif isinstance(node.func, ast.Attribute):
            name, found = f".{node.func.attr}", refused_method(node.func.attr)
        if found is not None:
            self._find(node, found[0], f"{name}()", found[1])

    def visit_Expr(self, node: ast.Expr) -> None:
        """Look for what has to be awaited and stands alone."""
        call = node.value
        if isinstance(call, ast.Call):
            name = self.dotted(call.func)
            is_step = isinstance(call.func, ast.Attribute) and call.func.attr == "step"
            if is_step or name in _AWAITED or (name is not None and self._is_coroutine(name)):
                what = f"{ast.unparse(call.func)}() without await"
                self._find(
                    call, "ORC108", what, "await it, or asyncio.create_task() it and await that"
                )
        self.generic_visit(node)

    # --- sets ------------------------------------------------------------------------------------

    def _is_set(self, node: ast.expr) -> bool:
        return sets.is_set(node, self._sets)

    def _check_sets_in(self, node: ast.Call, name: str | None) -> None:
        given = [arg.value if isinstance(arg, ast.Starred) else arg for arg in node.args]
        if name in _ON_SETS and any(map(self._is_set, given)):
            instead = f"give a list to {_ON_SETS[name]}(), which keeps its order"
            self._find(node, "ORC105", f"{name}() of a set", instead)
        elif name in sets.ORDERING and any(map(self._is_set, given)):
            self._find(node, "ORC105", f"{name}() of a set", _SORT)
        elif isinstance(node.func, ast.Attribute):
            is_pop = node.func.attr == "pop" and not node.args and self._is_set(node.func.value)
            is_join = node.func.attr == "join" and any(map(self._is_set, given))
            if is_pop or is_join:
                self._find(node, "ORC105", f".{node.func.attr}() of a set", _SORT)
        for arg in node.args:
            if (
                isinstance(arg, ast.Starred)
                and self._is_set(arg.value)
                and name not in sets.ORDERLESS
            ):
                self._find(arg, "ORC105", "a set as arguments", _SORT)
            elif name in sets.ORDERLESS and isinstance(arg, ast.GeneratorExp):
                # sorted(x for x in {…}) has no order to lose.
                arg.__dict__["is_orderless"] = True

    def visit_For(self, node: ast.For) -> None:
        """Look for loops over sets."""
        if self._is_set(node.iter):
            self._find(node.iter, "ORC105", "a loop over a set", _SORT)
        self.generic_visit(node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        """See `visit_For`: only asynchronous iterators come here, and no set is one."""
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        """Look for comprehensions over sets."""
        self._comprehension(node, node.generators)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        """Look for comprehensions over sets."""
        self._comprehension(node, node.generators)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        """Look for comprehensions over sets, where the order of their values matters."""
        if not node.__dict__.get("is_orderless"):
            self._comprehension(node, node.generators)
        else:
            self.generic_visit(node)

    def _comprehension(self, node: ast.expr, generators: list[ast.comprehension]) -> None:
        for each in generators:
            if self._is_set(each.iter):
                self._find(each.iter, "ORC105", "a comprehension over a set", _SORT)
        self.generic_visit(node)

    # --- state that outlives the run -------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        """Look for writes to what is not the run's."""
        for target in node.targets:
            self._check_target(target)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Look for writes to what is not the run's."""
        self._check_target(node.target)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        """Look for writes to what is not the run's."""
        for target in node.targets:
            self._check_target(target)
        self.generic_visit(node)

    def _check_target(self, target: ast.expr) -> None:
        name = target
        while isinstance(name, ast.Attribute | ast.Subscript):
            name = name.value
        if isinstance(name, ast.Name) and self._is_shared(name.id, is_whole=name is target):
            self._find(target, "ORC106", f"writing to {ast.unparse(target)}", _STATE)

    def _check_mutation(self, node: ast.Call) -> None:
        func = node.func
        if not isinstance(func, ast.Attribute) or func.attr not in queries.MUTATORS:
            return
        if isinstance(func.value, ast.Name) and self._is_shared(func.value.id, is_whole=False):
            self._find(node, "ORC106", f"{ast.unparse(func)}()", _STATE)

    def _is_shared(self, name: str, *, is_whole: bool) -> bool:
        if is_whole:
            return name in self._globals
        return name not in self._locals and name in self._module.variables

    # --- cancellation ----------------------------------------------------------------------------

    def visit_Try(self, node: ast.Try) -> None:
        """Look for handlers that swallow a cancellation."""
        if any(map(_waits, node.body)):
            for handler in node.handlers:
                if self._takes_cancellation(handler.type):
                    if not any(isinstance(each, ast.Raise) for each in ast.walk(handler)):
                        caught = "" if handler.type is None else f" {ast.unparse(handler.type)}"
                        instead = "raise it again once you have cleaned up, or catch Exception"
                        self._find(handler, "ORC107", f"except{caught} without raise", instead)
                    break
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        """Look for ``suppress`` around what is awaited."""
        for item in node.items:
            call = item.context_expr
            if (
                isinstance(call, ast.Call)
                and self.dotted(call.func) == "contextlib.suppress"
                and any(map(self._takes_cancellation, call.args))
                and any(map(_waits, node.body))
            ):
                self._find(
                    call, "ORC107", ast.unparse(call), "catch it, clean up, and raise it again"
                )
        self.generic_visit(node)

    def _takes_cancellation(self, kind: ast.expr | None) -> bool:
        if isinstance(kind, ast.Tuple):
            return any(map(self._takes_cancellation, kind.elts))
        return kind is None or self.dotted(kind) in _CANCELLATION

    # --- queries ---------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Look for query handlers that do more than read."""
        for decorator in node.decorator_list:
            if (
                isinstance(decorator, ast.Call)
                and self.dotted(decorator.func) == f"{_WORKFLOW}.on_query"
            ):
                for place, what in queries.writes_in(node):
                    self._find(place, "ORC109", what, "only read there; signals and updates write")
        self.generic_visit(node)


def _bound(function: ast.AST) -> Iterator[str]:
    """Yield every name that a function, or one inside it, binds otherwise than by an import."""
    for node in ast.walk(function):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if (
                node is not function
            ):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.ClassDef(name=name):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case _:
                pass


def _waits(node: ast.AST) -> bool:
    """Return whether something is awaited in `node` itself, not in a function inside it."""
    if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
        return True
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    return any(map(_waits, ast.iter_child_nodes(node)))
