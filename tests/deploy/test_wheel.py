"""The wheel, alone in a fresh environment: complete, and it serves. The Dockerfile's steps do what they say."""

import json
import os
import re
import shlex
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from snackbase.storage.schema import MIGRATIONS
from tests.support.server import ROOT, free_port


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


def test_it_holds_every_file_of_the_package_and_the_licence(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "snackbase"
    wanted = {
        str(file.relative_to(ROOT / "src"))
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert wanted - packed == set()
    assert "snackbase/web/documents/page.html" in packed
    client = {f"snackbase/console/client/{file.name}" for file in (ROOT / "clients/js/src").iterdir()}
    assert {"snackbase/console/index.html", *client} - packed == set()
    assert any(name.endswith("licenses/LICENSE") for name in packed)
    assert not any(name.startswith(("tests/", "src/")) for name in packed)


def test_the_source_distribution_holds_every_file_of_the_package_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        packed = {one.name.partition("/")[2] for one in archive if one.isfile()}
    package = ROOT / "src" / "snackbase"
    files = [file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    client = [f"src/snackbase/console/client/{file.name}" for file in (ROOT / "clients/js/src").iterdir()]
    assert {*(str(file.relative_to(ROOT)) for file in files), *client} - packed == set()


@pytest.mark.slow
def test_it_serves_from_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    venv.create(fresh, with_pip=True)
    python = fresh / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, cwd=tmp_path
    )
    # Its dependencies are those of this environment: they follow behind, so the wheel's own package comes first.
    [packages] = fresh.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SNACKBASE_", "PYTHON"))}
    process = subprocess.Popen(
        [str(fresh / "bin" / "snackbase"), "serve", "--port", str(port)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("SnackBase is running"), line
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            assert client.get("/ready").json()["status"] == "ok"
            assert "openapi.json" in client.get("/docs").text
            assert [client.get(f"/_/{name}").status_code for name in ("", "app.js", "client/index.js")] == [200] * 3
    finally:
        process.terminate()
        process.communicate(timeout=30)
    ask = "import snackbase, json; from snackbase.storage import schema as s; "
    ask += "print(json.dumps([snackbase.__file__, len(s.MIGRATIONS)]))"
    told = subprocess.run(
        [python, "-c", ask], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    file, migrations = json.loads(told.stdout)
    assert (Path(file).is_relative_to(fresh), migrations) == (True, len(MIGRATIONS))


# The Dockerfile -------------------------------------------------------------------------------------------------------

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STEPS = [line.partition(" ")[::2] for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]


def steps(*kinds: str) -> list[str]:
    return [text for kind, text in STEPS if kind in kinds]


def test_the_image_runs_as_nobody_special_and_is_watched() -> None:
    assert [kind for kind, _ in STEPS if kind in ("USER", "HEALTHCHECK", "ENTRYPOINT", "CMD", "VOLUME")] == [
        "USER",
        "VOLUME",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ]
    [user] = steps("USER")
    assert user.partition(":")[0] not in ("0", "root")
    assert [json.loads(text) for text in steps("ENTRYPOINT", "CMD")] == [["snackbase"], ["serve"]]
    [health] = steps("HEALTHCHECK")
    assert "/health" in health
    settings = dict(pair.split("=", 1) for text in steps("ENV") for pair in shlex.split(text))
    assert settings["SNACKBASE_DATABASE_URL"] == "sqlite:////data/snackbase.db"
    assert steps("WORKDIR")[-1] == steps("VOLUME")[0] == "/data"


def test_what_the_image_copies_is_in_the_repository_and_let_through() -> None:
    let_through = [line[1:] for line in (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()]
    for text in steps("COPY"):
        if text.startswith("--from"):
            continue
        *sources, _ = text.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert source in let_through


@pytest.mark.slow
def test_the_images_steps_build_a_program_that_runs(tmp_path: Path) -> None:
    """The first stage with its folders below a temporary root; it installs from the lock, as the image does."""
    places = re.compile(r"(?<![\w/.-])/(opt/snackbase|build)\b")

    def below(text: str) -> str:
        return places.sub(lambda found: f"{tmp_path}/{found[1]}", text)

    first = STEPS[: next(number for number, (kind, _) in enumerate(STEPS) if kind == "FROM" and number)]
    for kind, text in first:
        if kind == "WORKDIR":
            Path(below(text)).mkdir(parents=True)
        elif kind == "COPY":
            *sources, target = below(text).split()
            folders = ["-T"] if len(sources) == 1 else []
            subprocess.run(["cp", "-r", *folders, *sources, target], cwd=ROOT, check=True)
        elif kind == "RUN":
            command = below(text).replace("python -m venv", f"{sys.executable} -m venv")
            done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, cwd=tmp_path)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    program = tmp_path / "opt" / "snackbase" / "bin" / "snackbase"
    clean = {"PATH": "/usr/bin:/bin"}
    told = subprocess.run([program, "--version"], capture_output=True, text=True, env=clean, cwd=tmp_path)
    assert told.stdout.startswith("snackbase, version"), told.stderr
    assert subprocess.run([program, "doctor"], env=clean, cwd=tmp_path, capture_output=True).returncode == 0
