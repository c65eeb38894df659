"""Every word that the code gives out as the `code` of an error, read from its sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent / "src" / "snackbase"
WORD = re.compile(r"[a-z][a-z0-9_]{2,}\Z")


def error_codes() -> set[str]:
    """Constants passed as `code`, by name or by place, to anything in the package; class attributes; rule errors."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted(PACKAGE.rglob("*.py"))]
    places = dict(_places(trees))
    found: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            found.update(_words(node, places))
    return {word for word in found if WORD.match(word)}


def _places(trees: list[ast.Module]) -> Iterator[tuple[str, int]]:
    """Functions and classes with a parameter `code` -> its place among the positional ones."""
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield from _place(node.name, node)
            elif isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                        yield from _place(node.name, inner)
                fields = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
                names = [target.id for target in fields if isinstance(target, ast.Name)]
                if "code" in names and any(ast.unparse(base).endswith("Struct") for base in node.bases):
                    yield node.name, names.index("code")


def _place(name: str, function: ast.FunctionDef) -> Iterator[tuple[str, int]]:
    arguments = [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]
    if "code" in arguments:
        yield name, arguments.index("code")


def _words(node: ast.AST, places: dict[str, int]) -> Iterator[str]:
    if isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        if name in places and len(node.args) > places[name]:
            values.append(node.args[places[name]])
        for value in values:
            yield from _texts(value)
    elif isinstance(node, ast.FunctionDef):
        named = node.args.args[len(node.args.args) - len(node.args.defaults) :]
        for argument, default in zip(named, node.args.defaults, strict=True):
            if argument.arg == "code":
                yield from _texts(default)
    elif isinstance(node, ast.Assign):
        yield from _assigned(node)
    elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Tuple):
        yield from _listed(node.value)


def _assigned(node: ast.Assign) -> Iterator[str]:
    """`code = "x"`, `code, status, title = "x", 400, "X"`, and `RuleErrorCode = Literal["x", ...]`."""
    [target] = node.targets[:1]
    if isinstance(target, ast.Name) and target.id in ("code", "RuleErrorCode"):
        yield from _texts(node.value)
    elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        for name, value in zip(target.elts, node.value.elts, strict=True):
            if isinstance(name, ast.Name) and name.id in ("code", "word"):
                yield from _texts(value)


def _listed(table: ast.Tuple) -> Iterator[str]:
    """A table of (exception, code, sentence)."""
    for row in table.elts:
        if isinstance(row, ast.Tuple) and len(row.elts) == 3 and isinstance(row.elts[0], ast.Attribute):
            yield from _texts(row.elts[1])


def _texts(value: ast.expr) -> Iterator[str]:
    """The constants that an expression may come to. What is computed cannot be known; the page tells those apart."""
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from _texts(body)
            yield from _texts(other)
        case ast.BoolOp(values=values) | ast.Tuple(elts=values):
            for one in values:
                yield from _texts(one)
        case ast.Subscript(slice=choices):
            yield from _texts(choices)
