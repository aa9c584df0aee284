"""A module taken apart: which name each of its statements defines, and what that statement names.

Nothing is run. What cannot be told apart counts for the whole module (`loose`), so that whoever
follows names from definition to definition (`reach`) sees rather too much than too little.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import hashlib
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

# Decorators that only wrap what they are given. Any other may put it on a list somewhere.
_WRAPPERS = {"cache", "cached_property", "classmethod", "contextmanager", "dataclass", "final"}
_WRAPPERS |= {"inference_mode", "lru_cache", "no_grad", "overload", "override", "property"}
_WRAPPERS |= {"staticmethod", "total_ordering", "wraps", "setter", "abstractmethod", "enable_grad"}
_WRAPPERS |= {"field_validator", "model_validator", "field_serializer", "computed_field"}
# A class with one of these may do anything when it is made, derived from, or called.
_HOOKS = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__", "__call__"}

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Import:
    """What an imported name stands for: a module, or a name in it where `name` is not empty."""

    module: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.module}:{self.name}" if self.name else self.module


@dataclass(eq=False)
class Module:
    """The parts of one source file.

    Attributes:
        defines: the statements that make up each module-level name, in order.
        imports: what each imported name stands for, those for type checkers too.
        runs: the modules that importing this one runs, as they are written.
        loose: statements that may act when the module is imported.
        stars: modules whose every name is taken.
    """

    name: str
    is_package: bool
    defines: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, list[Import]] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    loose: list[ast.stmt] = field(default_factory=list)
    stars: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Mentions:
    """What some statements name.

    Attributes:
        chains: dotted names, `lens.ranks` as ("lens", "ranks"), as long as they go.
        imports: what their own import statements bind, name by name.
        runs: the modules that those import statements run.
        strings: their string constants.
    """

    chains: frozenset[tuple[str, ...]]
    imports: tuple[tuple[str, Import], ...]
    runs: tuple[str, ...]
    strings: frozenset[str]


@cache
def take_apart(source: str, *, name: str, is_package: bool) -> Module:
    """The parts of a module, `name` being its dotted name. What is no Python is all loose."""
    module = Module(name=name, is_package=is_package)
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return Module(name=name, is_package=is_package, loose=[ast.Expr(ast.Constant([source]))])
    for statement in statements:
        if _for_type_checkers(statement):
            _bind_imports(statement, module, runs=False)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            _bind_imports(statement, module, runs=True)
        elif not _is_text(statement):
            names = set(_bound(statement)) - {""}
            for bound in names:
                module.defines.setdefault(bound, []).append(statement)
            _bind_imports(statement, module, runs=not isinstance(statement, _Definition))
            if not names or _may_act(statement):
                module.loose.append(statement)
    return module


def _for_type_checkers(statement: ast.stmt) -> bool:
    test = ast.unparse(statement.test) if isinstance(statement, ast.If) else ""
    return test in ("TYPE_CHECKING", "typing.TYPE_CHECKING") and not statement.orelse


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _bound(node: ast.AST) -> Iterator[str]:
    """The module-level names that a statement binds or changes in place."""
    if isinstance(node, _Definition):
        yield node.name
    elif isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Load):
            yield node.id
    elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
        yield _chain(node.value)[0] if _chain(node.value) else ""
    elif isinstance(node, ast.comprehension):
        yield from _bound(node.iter)  # its own variables are nobody else's
    elif not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)


def _may_act(statement: ast.stmt) -> bool:
    """Whether it may do more, when the module is imported, than to bind its name.

    Assignments of what calls a function are told apart by `reach`, which knows whose it is.
    """
    if isinstance(statement, ast.ClassDef):
        inside = [node for node in ast.walk(statement) if isinstance(node, _Definition)]
        return bool(statement.keywords) or any(map(_is_registered, inside))
    if isinstance(statement, _Definition):
        return _is_registered(statement)
    if isinstance(statement, ast.Assign):
        return not all(isinstance(target, ast.Name | ast.Tuple) for target in statement.targets)
    if isinstance(statement, ast.AugAssign | ast.AnnAssign):
        return not isinstance(statement.target, ast.Name)
    return True


def _is_registered(definition: _Definition) -> bool:
    for decorator in definition.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(called).rpartition(".")[2] not in _WRAPPERS:
            return True
    return False


def is_plain_class(statements: list[ast.stmt]) -> bool:
    """Whether they are one class that does nothing of its own when it is called."""
    if len(statements) != 1 or not isinstance(statements[0], ast.ClassDef):
        return False
    inside = (node for node in ast.walk(statements[0]) if isinstance(node, _Definition))
    return not any(node.name in _HOOKS for node in inside)


def calls_in(statement: ast.stmt) -> list[tuple[str, ...]]:
    """What an assignment calls, as dotted names; `()` for a call of anything else."""
    value = getattr(statement, "value", None)
    nodes = ast.walk(value) if isinstance(value, ast.AST) else ()
    return [_chain(node.func) for node in nodes if isinstance(node, ast.Call)]


def _bind_imports(statement: ast.stmt, module: Module, *, runs: bool) -> None:
    bound, run, stars = _imports_of(statement, name=module.name, is_package=module.is_package)
    for name, target in bound:
        module.imports.setdefault(name, []).append(target)
    if runs:
        module.runs += run
        module.stars += stars


def _imports_of(
    statement: ast.AST, *, name: str, is_package: bool
) -> tuple[list[tuple[str, Import]], list[str], list[str]]:
    """What the import statements below bind, which modules they run, and whose every name they
    take."""
    bound: list[tuple[str, Import]] = []
    runs: list[str] = []
    stars: list[str] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            for alias in node.names:
                runs.append(alias.name)
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                bound.append((alias.asname or whole, Import(whole)))
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, name=name, is_package=is_package)
            runs += [base, *(f"{base}.{alias.name}" for alias in node.names)]
            stars += [base for alias in node.names if alias.name == "*"]
            bound += [(a.asname or a.name, Import(base, a.name)) for a in node.names]
    return bound, runs, stars


def _base(node: ast.ImportFrom, *, name: str, is_package: bool) -> str:
    """The module that `from ... import` names, relative ones from where they stand."""
    if not node.level:
        return node.module or ""
    inside = name.split(".") if is_package else name.split(".")[:-1]
    above = inside[: len(inside) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


@cache
def mentions(module: Module, statements: tuple[ast.stmt, ...]) -> Mentions:
    """What the statements name, annotations too: whoever is handed a thing names its class."""
    chains: set[tuple[str, ...]] = set()
    strings: set[str] = set()
    bound: list[tuple[str, Import]] = []
    runs: list[str] = []
    for statement in statements:
        own, run, stars = _imports_of(statement, name=module.name, is_package=module.is_package)
        bound += [*own, *(("*", Import(star, "*")) for star in stars)]
        runs += run
        chains.update(_chains(statement))
        nodes = (node for node in ast.walk(statement) if isinstance(node, ast.Constant))
        strings.update(node.value for node in nodes if isinstance(node.value, str))
    return Mentions(frozenset(chains), tuple(bound), tuple(runs), frozenset(strings))


def _chains(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every dotted name below, whole; in annotations also those written as text."""
    if isinstance(node, ast.Name | ast.Attribute):
        yield _chain(node)
        while isinstance(node, ast.Attribute):
            node = node.value
        if isinstance(node, ast.Name):
            return
    for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
        yield from _in_text(annotation) if annotation else ()
    for child in ast.iter_child_nodes(node):
        yield from _chains(child)


def _in_text(annotation: ast.AST) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            with contextlib.suppress(SyntaxError):  # shapes are no Python
                yield from _chains(ast.parse(node.value, mode="eval"))


def _chain(node: ast.AST) -> tuple[str, ...]:
    """`a.b.c` as ("a", "b", "c"); what hangs on anything else than a name begins with ""."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    names.append(node.id if isinstance(node, ast.Name) else "")
    return tuple(reversed(names)) if names != [""] else ()


@cache
def digest(statements: tuple[ast.stmt, ...], *, docstrings: bool = False) -> str:
    """A hash of the statements as Python reads them: without comments and layout, and without
    docstrings unless asked."""
    read = list(statements)
    if not docstrings:
        read = [_Silent().visit(one) for one in copy.deepcopy(read)]
    return hashlib.sha256("\n".join(map(ast.dump, read)).encode()).hexdigest()[:16]


class _Silent(ast.NodeTransformer):
    """Takes docstrings away."""

    def _without(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _without


@cache
def without_words(source: str) -> str:
    """The text of a module without its comments and docstrings, the same under every Python, which
    `digest` is not. What is no Python comes back whole.
    """
    try:
        tree = ast.parse(source)
        tokens = [*tokenize.generate_tokens(io.StringIO(source).readline)]
    except (SyntaxError, tokenize.TokenError):
        return source
    lines, gone = source.split("\n"), set[int]()
    for row, column in (one.start for one in tokens if one.type == tokenize.COMMENT):
        lines[row - 1] = lines[row - 1][:column].rstrip()
        if not lines[row - 1]:
            gone.add(row - 1)
    for docstring in _docstrings(tree):
        first, last = docstring.lineno - 1, docstring.end_lineno - 1
        before = lines[first].encode()[: docstring.col_offset]
        after = lines[last].encode()[docstring.end_col_offset :]
        if not before.strip() and not after.strip():  # nothing else stands there
            gone.update(range(first, last + 1))
    return "\n".join(line for at, line in enumerate(lines) if at not in gone)


def _docstrings(tree: ast.Module) -> Iterator[ast.stmt]:
    """The docstrings below, and the texts that tell of the name assigned above them."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        yield from filter(_is_docstring, body if isinstance(body, list) else [])


def _is_docstring(statement: ast.stmt) -> bool:
    return _is_text(statement) and isinstance(statement.value.value, str)
