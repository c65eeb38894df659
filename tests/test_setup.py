"""The project's own files: what a clean clone is set up from, what `make` offers, and what the wheel holds."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ["requirements.lock", "requirements-dev.lock"]
OWN_CLIENT = "file:../../clients/js"
"""The one package that is not fetched: the project's own."""
PIN = re.compile(r"^[a-z0-9-]+==[^\s*]+(?: ; [^\\]+)? \\$")


@pytest.mark.parametrize("name", [*LOCKS, "tests/js/package-lock.json", "tests/js/.npmrc"])
def test_no_lock_file_names_a_host_or_a_place(name: str) -> None:
    text = (ROOT / name).read_text().replace(f'"{OWN_CLIENT}"', "")

    assert not re.findall(r"\w+://|--(?:extra-)?index-url|--find-links|--trusted-host|file:|\bregistry\s*=", text)
    assert not re.findall(r"^.*(?:[\w-]+\.)+(?:org|com|net|io)\b.*$", text, re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_exact_version_and_hashes(name: str) -> None:
    for entry in _entries(name):
        assert PIN.match(entry.split("\n")[0]), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_what_tests_use_is_what_users_get() -> None:
    runtime, development = _pins("requirements.lock"), _pins("requirements-dev.lock")

    assert runtime.items() <= development.items()


def test_the_locks_hold_every_declared_dependency() -> None:
    def names(requirements: list[Any]) -> set[str]:
        found = [re.match(r"[A-Za-z0-9_.-]+", text) for text in requirements if isinstance(text, str)]
        return {match.group().lower().replace("_", "-") for match in found if match}

    groups = PYPROJECT["dependency-groups"]
    runtime = names(PYPROJECT["project"]["dependencies"]) | names(groups["build"])

    assert runtime <= _pins("requirements.lock").keys()
    assert set().union(*(names(group) for group in groups.values())) <= _pins("requirements-dev.lock").keys()


def test_the_node_lock_pins_what_package_json_names() -> None:
    package = json.loads((ROOT / "tests/js/package.json").read_text())
    lock = json.loads((ROOT / "tests/js/package-lock.json").read_text())

    fetched = {name: wanted for name, wanted in package["dependencies"].items() if wanted != OWN_CLIENT}
    for name, wanted in fetched.items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == wanted
    entries = {key: entry for key, entry in lock["packages"].items() if key.startswith("node_modules/")}
    entries = {key: entry for key, entry in entries.items() if not entry.get("link")}
    assert len(entries) >= len(fetched)
    assert all("integrity" in entry and "resolved" not in entry for entry in entries.values())


def test_the_version_is_the_same_everywhere() -> None:
    assert version("snackbase") == PYPROJECT["project"]["version"]


def test_make_help_lists_every_public_target() -> None:
    listed = set(re.findall(r"^  make (\S+)", _run("make", "help"), re.MULTILINE))

    assert listed == {
        "help",
        "serve",
        "test",
        "test-postgres",
        "proof",
        "soak",
        "check",
        "format",
        "bench",
        "demo",
        "wheel",
        "lock",
        "clean",
    }


def test_a_python_that_is_too_old_is_named_with_what_to_do(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("sh", "make"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))

    done = subprocess.run(
        ["make", "serve"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )

    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_ci_runs_the_commands_a_person_types() -> None:
    script = ROOT / ".ci" / "run"
    lines = [line for line in script.read_text().splitlines() if line.startswith("make")]

    assert lines == ["make check", "make test"]
    assert os.access(script, os.X_OK)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    [file] = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


def test_the_wheel_contains_every_file_of_the_package_and_no_other(wheel: zipfile.ZipFile) -> None:
    packaged = {name for name in wheel.namelist() if ".dist-info/" not in name}
    # The console's client is a link to the folder of the JavaScript client, which rglob would not enter.
    written = {Path(folder, name) for folder, _, names in os.walk(ROOT / "src", followlinks=True) for name in names}

    assert packaged == {str(file.relative_to(ROOT / "src")) for file in written if "__pycache__" not in file.parts}
    assert "snackbase/py.typed" in packaged


def test_the_wheel_declares_the_command_the_licence_and_the_dependencies(wheel: zipfile.ZipFile) -> None:
    information = f"snackbase-{PYPROJECT['project']['version']}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{information}/METADATA").decode())

    assert "snackbase = snackbase.cli:main" in wheel.read(f"{information}/entry_points.txt").decode()
    assert "MIT License" in wheel.read(f"{information}/licenses/LICENSE").decode()
    assert metadata["Requires-Python"] == ">=3.11"
    assert len(metadata.get_all("Requires-Dist", [])) == len(PYPROJECT["project"]["dependencies"])


def _entries(name: str) -> list[str]:
    """The lock's entries, each a line with the pin and lines with its hashes and origin."""
    return re.split(r"\n(?=[a-z])", (ROOT / name).read_text().strip())


def _pins(name: str) -> dict[str, str]:
    found = [re.match(r"([a-z0-9-]+)==(\S+)", entry) for entry in _entries(name)]
    return {match[1]: match[2] for match in found if match}


def _run(*command: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
