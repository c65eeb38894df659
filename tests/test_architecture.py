"""Imports point one way, the core is pure, files stay short; each rule is also seen to fail where it is broken."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import architecture
from tests.support.architecture import Source

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "snackbase"
Rule = Callable[[list[Source]], list[str]]


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return architecture.read(PACKAGE)


def test_imports_point_only_to_lower_ranks(sources: list[Source]) -> None:
    assert not _lines(architecture.rank_faults(sources))


def test_nothing_is_imported_inside_a_function(sources: list[Source]) -> None:
    assert not _lines(architecture.nested_import_faults(sources))


def test_rules_and_realtime_touch_no_clock_chance_socket_thread_or_log(sources: list[Source]) -> None:
    assert not _lines(architecture.purity_faults(sources))


def test_no_modules_import_each_other_in_a_circle(sources: list[Source]) -> None:
    assert not _lines(architecture.cycles(sources))


def test_every_module_is_short_and_says_what_it_is_for(sources: list[Source]) -> None:
    assert not _lines(architecture.form_faults(sources))


@pytest.mark.parametrize(
    ("rule", "files", "fault"),
    [
        (
            architecture.rank_faults,
            {"model.py": "from snackbase.storage.base import Store", "storage/base.py": "Store = 1"},
            "snackbase/model.py:1: model (1) may not import storage (2): from snackbase.storage.base import Store",
        ),
        (
            architecture.rank_faults,
            {"web/http.py": "\nfrom ..gateway import link", "gateway/link.py": ""},
            "snackbase/web/http.py:2: web (4) may not import gateway (4): from ..gateway import link",
        ),
        (
            architecture.rank_faults,
            {"hub.py": "from snackbase import app", "app.py": ""},
            "snackbase/hub.py:1: hub (3) may not import app (5): from snackbase import app",
        ),
        (
            architecture.rank_faults,
            {"hub.py": "from snackbase import SnackBase", "__init__.py": "SnackBase = 1"},
            "snackbase/hub.py:1: hub (3) may not import __init__ (6): from snackbase import SnackBase",
        ),
        (architecture.rank_faults, {"utils.py": "x = 1"}, "snackbase/utils.py:1: unit 'utils' has no rank: x = 1"),
        (
            architecture.nested_import_faults,
            {"hub.py": "class A:\n    def f(self):\n        if self:\n            import json"},
            "snackbase/hub.py:4: import inside a function: import json",
        ),
        (
            architecture.purity_faults,
            {"realtime/session.py": "from os.path import join"},
            "snackbase/realtime/session.py:1: realtime is pure and may not import os.path: from os.path import join",
        ),
        (
            architecture.purity_faults,
            {"rules/sql.py": "import datetime as dt\nx = dt.datetime.now()"},
            "snackbase/rules/sql.py:2: rules is pure and may not call dt.datetime.now: x = dt.datetime.now()",
        ),
        (
            architecture.cycles,
            {
                "web/a.py": "from snackbase.web import b",
                "web/b.py": "from .c import x",
                "web/c.py": "import snackbase.web.a",
            },
            "snackbase.web.a -> snackbase.web.b -> snackbase.web.c -> snackbase.web.a",
        ),
        (architecture.form_faults, {"hub.py": '"""Owns."""\n' + "x = 1\n" * 450}, "snackbase.hub: 451 lines > 450"),
        (architecture.form_faults, {"hub.py": "x = 1\n"}, "snackbase.hub: no module docstring"),
    ],
)
def test_a_package_that_breaks_a_rule_is_told_where(
    tmp_path: Path, rule: Rule, files: dict[str, str], fault: str
) -> None:
    assert rule(_package(tmp_path, files)) == [fault]


def test_what_the_rules_allow_passes(tmp_path: Path) -> None:
    files = {
        "__init__.py": '"""Names."""\nfrom snackbase.app import SnackBase\n',
        "app.py": '"""Root."""\nfrom snackbase.web import http\nfrom . import errors, model\n',
        "errors.py": '"""Tree."""\n',
        "model.py": '"""Values."""\nfrom snackbase.errors import X\nimport datetime\n',
        "web/__init__.py": '"""Routes."""\n',
        "web/http.py": '"""Router."""\nimport asyncio\nfrom snackbase.web.table import rows\n',
        "web/table.py": '"""Rows."""\n',
        "realtime/session.py": '"""Pure."""\nfrom datetime import datetime\n\n\ndef f(x): return x.isoformat()\n',
    }
    rules: list[Rule] = [
        architecture.rank_faults,
        architecture.nested_import_faults,
        architecture.purity_faults,
        architecture.cycles,
        architecture.form_faults,
    ]
    package = _package(tmp_path, files)

    assert [fault for rule in rules for fault in rule(package)] == []


def _package(folder: Path, files: dict[str, str]) -> list[Source]:
    for name, text in files.items():
        file = folder / "snackbase" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return architecture.read(folder / "snackbase")


def _lines(faults: list[str]) -> str:
    return "\n".join(["", *faults]) if faults else ""
