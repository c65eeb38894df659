"""Reads a package's sources and says where they break the layout's rules, for `tests/test_architecture.py`."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

# A unit is a module or folder right under the package. It may import itself and units of strictly lower rank.
RANKS = {
    "errors": 0,
    "metrics": 0,
    "model": 1,
    "config": 1,
    "log": 1,
    "workers": 1,
    "rules": 1,
    "hooks": 2,
    "auth": 2,
    "origins": 2,
    "catalog": 2,
    "bus": 2,
    "storage": 2,
    "realtime": 2,
    "services": 3,
    "hub": 3,
    "gateway": 4,
    "web": 4,
    "app": 5,
    "cli": 6,
    "__init__": 6,
    "__main__": 7,
}
PURE = ("rules", "realtime")
# What lets in the clock, chance, the network, other threads or the outside: none of it may reach a pure unit.
IMPURE_MODULES = {
    "apsw",
    "asyncio",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "socket",
    "ssl",
    "starlette",
    "structlog",
    "subprocess",
    "threading",
    "time",
    "uvicorn",
}
IMPURE_CALLS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "uuid.uuid4", "uuid4", "uuid.uuid1"}
MOST_LINES = 450


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, as written at `line`; `module` is absolute, `names` what follows `from … import`."""

    line: int
    module: str
    names: tuple[str, ...]
    in_function: bool


class Source:
    """One parsed file of the package at `root`."""

    def __init__(self, root: Path, file: Path) -> None:
        self.root = root
        self.file = file
        self.text = file.read_text()
        self.tree = ast.parse(self.text, str(file))

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The dotted name within the package, without a closing `__init__` (except the package's own)."""
        parts = self.file.relative_to(self.root).with_suffix("").parts
        return parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts

    @property
    def unit(self) -> str:
        """The module or folder right under the package that this file belongs to."""
        return self.parts[0]

    @property
    def module(self) -> str:
        """The absolute dotted name."""
        inner = () if self.parts == ("__init__",) else self.parts
        return ".".join((self.root.name, *inner))

    def at(self, line: int, what: str) -> str:
        """One fault with its place and the line itself."""
        text = self.text.splitlines()[line - 1].strip() if self.text else ""
        return f"{self.root.name}/{self.file.relative_to(self.root)}:{line}: {what}: {text}"

    @cached_property
    def imports(self) -> list[Import]:
        """Every import of the file, relative ones made absolute."""
        return list(self._imports(self.tree, in_function=False))

    def _imports(self, node: ast.AST, *, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(child.lineno, alias.name, (), in_function)
            elif isinstance(child, ast.ImportFrom):
                names = tuple(alias.name for alias in child.names)
                yield Import(child.lineno, self._absolute(child), names, in_function)
            else:
                inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from self._imports(child, in_function=inside)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = self.module.split(".")
        package = here if self.file.name == "__init__.py" else here[:-1]
        base = package[: len(package) - (node.level - 1)]
        return ".".join([*base, *([node.module] if node.module else [])])


def read(root: Path) -> list[Source]:
    """Every Python file of the package at `root`, sorted."""
    return [Source(root, file) for file in sorted(root.rglob("*.py"))]


def targets(source: Source, found: Import, modules: set[str]) -> list[str]:
    """The modules of the package that an import reaches: for `from package import name` the submodule, if it is one."""
    package = source.root.name
    if found.module != package and not found.module.startswith(package + "."):
        return []
    named = [f"{found.module}.{name}" for name in found.names]
    reached = [name for name in named if name in modules]
    return reached + ([found.module] if len(reached) < len(named) or not named else [])


def rank_faults(sources: list[Source]) -> list[str]:
    """Imports that point up or sideways, and units that have no rank."""
    faults = [source.at(1, f"unit {source.unit!r} has no rank") for source in sources if source.unit not in RANKS]
    modules = {source.module for source in sources}
    for source in sources:
        for found in source.imports:
            for target in targets(source, found, modules):
                unit = [*target.split("."), "__init__"][1]
                mine, other = RANKS.get(source.unit, 99), RANKS.get(unit, 99)
                if unit != source.unit and other >= mine:
                    faults.append(source.at(found.line, f"{source.unit} ({mine}) may not import {unit} ({other})"))
    return faults


def nested_import_faults(sources: list[Source]) -> list[str]:
    """Imports inside a function: they hide a dependency, and often a cycle."""
    return [
        source.at(found.line, "import inside a function")
        for source in sources
        for found in source.imports
        if found.in_function
    ]


def purity_faults(sources: list[Source]) -> list[str]:
    """Clocks, chance, sockets, threads and logs in the units that must be functions of what they are given."""
    faults = []
    for source in sources:
        if source.unit not in PURE:
            continue
        for found in source.imports:
            if found.module.split(".")[0] in IMPURE_MODULES:
                faults.append(source.at(found.line, f"{source.unit} is pure and may not import {found.module}"))
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and ".".join(ast.unparse(node.func).split(".")[-2:]) in IMPURE_CALLS:
                faults.append(
                    source.at(node.lineno, f"{source.unit} is pure and may not call {ast.unparse(node.func)}")
                )
    return faults


def cycles(sources: list[Source]) -> list[str]:
    """Circles of imports between modules, each once, as `a -> b -> a`."""
    modules = {source.module for source in sources}
    reaches = {
        source.module: sorted(
            {name for found in source.imports for name in targets(source, found, modules)} - {source.module}
        )
        for source in sources
    }
    done: set[str] = set()
    found: list[str] = []

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for reached in reaches.get(module, []):
                visit(reached, [*path, module])
            done.add(module)

    for module in sorted(reaches):
        visit(module, [])
    return found


def form_faults(sources: list[Source]) -> list[str]:
    """Files that are too long to be read in one go, and modules that do not say what they are for."""
    faults = []
    for source in sources:
        lines = source.text.count("\n")
        if lines > MOST_LINES:
            faults.append(f"{source.module}: {lines} lines > {MOST_LINES}")
        if not ast.get_docstring(source.tree):
            faults.append(f"{source.module}: no module docstring")
    return faults
