"""Builds a mistake into a copy of the package, by editing its syntax trees.

An edit names the code by its syntax, so line breaks, quotes and indentation may change. If the
code is missing or occurs twice, the edit raises `Misplaced`.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

Node = TypeVar("Node")


class Misplaced(Exception):
    """An edit does not fit the sources any more, so the bug must be written again."""


class Edit(Protocol):
    """`file` is a path inside the package. `apply` returns the file's new text."""

    @property
    def file(self) -> str: ...

    def apply(self, text: str) -> str: ...


@dataclass(frozen=True)
class Code:
    """Replaces one expression or statement in a function, a class or a constant.

    `place` is its qualified name, as in `Ledger.begin`. `old` and `new` are Python source, and an
    empty `new` deletes a statement.
    """

    file: str
    place: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        tree = ast.parse(text)
        (wanted,) = ast.parse(self.old).body
        is_expression = isinstance(wanted, ast.Expr)
        source = ast.unparse(wanted)
        # An expression that is a whole statement is replaced as a statement.
        nodes = [
            node
            for node in ast.walk(_find(tree, self.file, self.place))
            if isinstance(node, ast.stmt | ast.expr) and ast.unparse(node).strip() == source
        ]
        statements = [node for node in nodes if isinstance(node, ast.stmt)]
        candidates: Sequence[ast.stmt | ast.expr] = statements or nodes
        (node,) = _only(candidates, self.old, f"{self.place} in {self.file}")
        new = ast.parse(self.new or "pass").body
        if is_expression and not statements:
            (statement,) = new
            assert isinstance(statement, ast.Expr), f"no expression: {self.new}"
            return _replace(tree, node, statement.value)
        return _replace(tree, node, new)


@dataclass(frozen=True)
class Sql:
    """Replaces a part of one string of a file. Blanks and line breaks are equal.

    A replacement field of an f-string is written as in the source: `WHERE {_SAME_COPY}`.
    """

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        tree = ast.parse(text)
        pattern = _any_blanks(self.old)
        texts = [
            (node, written)
            for node in _texts_in(tree)
            for written in [_written(node)]
            for _ in pattern.findall(written)
        ]
        ((node, written),) = _only(texts, self.old, self.file)
        # A function keeps backslashes in `new` as they are.
        changed = pattern.sub(lambda _: self.new, written)
        prefix = "f" if isinstance(node, ast.JoinedStr) else ""
        parsed = ast.parse(f'{prefix}"""{changed}"""', mode="eval").body
        return _replace(tree, node, parsed)


@dataclass(frozen=True)
class Text:
    """Replaces a part of a file that is not Python. Blanks and line breaks are equal."""

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        pattern = _any_blanks(self.old)
        _only(pattern.findall(text), self.old, self.file)
        return pattern.sub(lambda _: self.new, text)


def seed(package: Path, edit: Edit) -> None:
    """Edit the file of the copy. Raises `Misplaced`."""
    file = package / edit.file
    if not file.exists():
        raise Misplaced(f"there is no file {edit.file}")
    file.write_text(edit.apply(file.read_text("utf-8")), "utf-8")


def _find(tree: ast.Module, file: str, place: str) -> ast.AST:
    """Return the definition with that qualified name. Raises `Misplaced`."""
    node: ast.AST = tree
    for name in place.split("."):
        inner = [child for child in ast.iter_child_nodes(node) if name in _names_of(child)]
        if len(inner) != 1:
            raise Misplaced(f"{file} has {len(inner)} definitions of {place}, and one was expected")
        (node,) = inner
    return node


def _names_of(node: ast.AST) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name() as name):
            return [name.id]
    return []


def _only(nodes: Sequence[Node], old: str, where: str) -> Sequence[Node]:
    if len(nodes) != 1:
        raise Misplaced(f"{where} has this {len(nodes)} times, and once was expected: {old}")
    return nodes


def _texts_in(node: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Yield every string below the node, but not the parts of f-strings."""
    match node:
        case ast.JoinedStr() | ast.Constant(value=str()):
            yield node
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _texts_in(child)


def _written(node: ast.Constant | ast.JoinedStr) -> str:
    """Return the string as the source has it between its quotes."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(
        f"{{{ast.unparse(part.value)}}}"
        if isinstance(part, ast.FormattedValue)
        else _written_braces(part)
        for part in node.values
    )


def _written_braces(part: ast.expr) -> str:
    assert isinstance(part, ast.Constant)
    return str(part.value).replace("{", "{{").replace("}", "}}")


def _any_blanks(text: str) -> re.Pattern[str]:
    return re.compile(r"\s+".join(map(re.escape, text.split())))


def _replace(tree: ast.Module, old: ast.AST, new: ast.expr | list[ast.stmt]) -> str:
    changed = _Replacing(old, new).visit(tree)
    assert isinstance(changed, ast.Module)
    return ast.unparse(changed)


class _Replacing(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.expr | list[ast.stmt]) -> None:
        self.old = old
        self.new = new

    def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:
        return self.new if node is self.old else self.generic_visit(node)
