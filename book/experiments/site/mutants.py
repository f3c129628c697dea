"""Small faults that can be put into a source file: one changed operator, constant or statement."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

COMPARE = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True)
class Mutant:
    """One fault: ``before``, at some place of a file, becomes ``after``."""

    file: str
    where: str  # the function, ``Class.method``, or "" at the top of a module
    line: int
    text: str  # of that line
    kind: str
    before: str
    after: str
    span: tuple[int, int, int, int]  # first line and byte, last line and byte
    copy: int = 1  # of several that read alike

    @property
    def key(self) -> str:
        """A name that stays as long as the line does."""
        again = f" #{self.copy}" if self.copy > 1 else ""
        return f"{self.file}::{self.where} | {self.text} | {self.before} -> {self.after}{again}"

    def applied(self, source: bytes) -> bytes:
        """The file with the fault in it."""
        first, start, last, end = self.span
        lines = source.splitlines(keepends=True)
        begin = lines[first - 1][:start]
        rest = lines[last - 1][end:]
        return b"".join([*lines[: first - 1], begin, self.after.encode(), rest, *lines[last:]])


def mutants(path: Path, root: Path) -> list[Mutant]:
    """All faults of a file, in the order of their places."""
    source = path.read_bytes()
    lines = source.decode("utf-8").splitlines()
    name = path.relative_to(root).as_posix()
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for where, node, kind, after in _faults(ast.parse(source)):
        span = (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)
        text = lines[node.lineno - 1].strip()
        one = Mutant(name, where, node.lineno, text, kind, ast.unparse(node), after, span)
        seen[one.key] += 1
        found.append(replace(one, copy=seen[one.key]))
    return found


Fault = tuple[str, "ast.expr | ast.stmt", str, str]


def _faults(tree: ast.Module) -> Iterator[Fault]:
    for statement in tree.body:
        yield from _statement(statement, "")


def _statement(node: ast.stmt, where: str) -> Iterator[Fault]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        inner = f"{where}.{node.name}".lstrip(".")
        if isinstance(node, ast.FunctionDef):
            if any(ast.unparse(d).endswith("overload") for d in node.decorator_list):
                return
            for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                yield from _expression(default, inner)
        for each in node.body:
            yield from _statement(each, inner)
        return
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.Global | ast.Nonlocal):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Raise):  # not what it says
        yield where, node, "dropped statement", "pass"
        return
    if isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Constant):
            return
        yield where, node, "dropped statement", "pass"
    elif isinstance(node, ast.Return) and node.value is not None:
        if ast.unparse(node.value) not in ("None", "NotImplemented"):
            yield where, node, "returned None", "return None"
    elif isinstance(node, ast.AugAssign):
        yield where, node, "dropped statement", "pass"
        if other := ARITHMETIC.get(type(node.op)):
            yield where, node, "arithmetic", _with(node, op=other())
    elif isinstance(node, ast.Assign):
        if ast.unparse(node.targets[0]) == "__all__":
            return
        if where and all(isinstance(t, ast.Subscript | ast.Attribute) for t in node.targets):
            yield where, node, "dropped statement", "pass"
    elif isinstance(node, ast.If | ast.While):
        yield where, node.test, "negation", f"(not ({ast.unparse(node.test)}))"
    for field, value in ast.iter_fields(node):
        if field == "annotation":
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.stmt):
                yield from _statement(each, where)
            elif isinstance(each, ast.expr):
                yield from _expression(each, where)
            elif isinstance(each, ast.AST) and not isinstance(each, ast.operator):
                yield from _others(each, where)


def _others(node: ast.AST, where: str) -> Iterator[Fault]:
    """Handlers, items of ``with``, cases, comprehensions, keywords: what holds the rest."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _statement(child, where)
        elif isinstance(child, ast.expr):
            yield from _expression(child, where)
        else:
            yield from _others(child, where)


def _expression(node: ast.expr, where: str) -> Iterator[Fault]:
    fault = partial(_fault, where, node)
    if isinstance(node, ast.JoinedStr):  # a message
        return
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            ops = [*node.ops]
            ops[i] = COMPARE[type(op)]()
            yield fault("comparison", _with(node, ops=ops))
    elif isinstance(node, ast.BinOp) and (other := ARITHMETIC.get(type(node.op))):
        if where or not isinstance(node.op, ast.BitOr):  # at the top it joins types
            yield fault("arithmetic", _with(node, op=other()))
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield fault("negation", _with(node, op=other))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        kind = "arithmetic" if isinstance(node.op, ast.USub) else "negation"
        yield fault(kind, f"({ast.unparse(node.operand)})")
    elif isinstance(node, ast.IfExp):
        yield where, node.test, "negation", f"(not ({ast.unparse(node.test)}))"
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield fault("constant", str(not node.value))
        elif isinstance(node.value, int | float):
            yield fault("constant", repr(node.value + 1))
            yield fault("constant", f"({node.value - 1!r})")
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from _expression(child, where)
        elif isinstance(child, ast.comprehension):
            for test in child.ifs:
                yield where, test, "negation", f"(not ({ast.unparse(test)}))"
            yield from _others(child, where)
        elif isinstance(child, ast.keyword):
            yield from _others(child, where)


def _fault(where: str, node: ast.expr, kind: str, after: str) -> Fault:
    return where, node, kind, after


def _with(node: ast.AST, **fields: object) -> str:
    """The node with other fields, as text; an expression in parentheses."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    text = ast.unparse(other)
    return f"({text})" if isinstance(node, ast.expr) else text
