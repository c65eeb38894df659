"""Makes the clone's own `.venv` from a lock file, once; does nothing when the lock has not changed since.

Usage: python3 tools/venv.py runtime|dev. Standard library only: it runs before anything is installed.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

NEEDED = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "snackbase-setup.json"
PYTHON = VENV / "bin" / "python"
LOCKS = {"runtime": ["requirements.lock"], "dev": ["requirements.lock", "requirements-dev.lock"]}


def wanted(kind: str) -> dict[str, str]:
    """What the stamp must say for this kind of set-up: the interpreter, the place and each input file's digest."""
    inputs = ["pyproject.toml", *LOCKS[kind]]
    state = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in inputs}
    return state | {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "root": str(ROOT)}


def found() -> dict[str, str]:
    """What the last complete set-up wrote; empty when there is none or its interpreter no longer starts."""
    try:
        state: dict[str, str] = json.loads(STAMP.read_text())
        subprocess.run([str(PYTHON), "-c", ""], check=True, capture_output=True)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return {}
    return state


def pip(*arguments: str) -> None:
    # -qq keeps errors and drops warnings; nothing outside the lock may be fetched, the build backend included.
    command = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", *arguments]
    subprocess.run(command, check=True, cwd=ROOT, stdin=subprocess.DEVNULL)


def set_up(kind: str) -> None:
    state, want = found(), wanted(kind)
    if all(state.get(key) == value for key, value in want.items()):
        return
    print(f"Setting up .venv ({kind}) with Python {sys.version.split()[0]}; the first time takes a minute.", flush=True)
    fresh = state.get("python") != want["python"] or state.get("root") != want["root"]
    STAMP.unlink(missing_ok=True)
    if fresh:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip("--require-hashes", "-r", LOCKS[kind][-1])
    pip("--no-deps", "--no-build-isolation", "-e", ".")
    kept = {} if fresh else {key: value for key, value in state.items() if key in LOCKS["dev"]}
    partial = STAMP.with_suffix(".new")
    partial.write_text(json.dumps(kept | want, indent=1))
    partial.replace(STAMP)


def main() -> None:
    if sys.version_info < NEEDED:
        sys.exit(
            f"SnackBase needs Python {NEEDED[0]}.{NEEDED[1]} or newer; {sys.executable} is {sys.version.split()[0]}.\n"
            "Name another one: make PYTHON=/path/to/python3"
        )
    if len(sys.argv) != 2 or sys.argv[1] not in LOCKS:
        sys.exit("usage: tools/venv.py runtime|dev")
    # Two makes at once (an editor's and a person's) must not install into one folder at the same time.
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        set_up(sys.argv[1])
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"Set-up of .venv failed: {' '.join(map(str, error.cmd))}\nTry `make clean` and again; "
            "on Debian and Ubuntu `python3 -m venv` needs the package python3-venv."
        )
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
