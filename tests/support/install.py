"""Installs what the tests need besides Python: npm packages; Debian's Chromium, nginx, Caddy and PgBouncer.

`make test` runs it as `python -m tests.support.install`; the second time it finds everything there. What cannot be had
is said here, and again by pytest at the end with the names of the tests that did not run.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.browser import find_browser
from tests.support.nginx import REMEDY, UNPACKED, find_nginx
from tests.support.node import JS, MODULES, OLDEST
from tests.support.pgbouncer import PACKAGES, find_pgbouncer
from tests.support.pgbouncer import REMEDY as PGBOUNCER_REMEDY
from tests.support.pgbouncer import UNPACKED as UNPACKED_PGBOUNCER
from tests.support.proxies import CADDY_REMEDY, UNPACKED_CADDY, find_caddy

STAMP = MODULES / ".snackbase-setup"
APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=2")


def main() -> int:
    """Installs what is missing. Returns 1 when npm is here and fails: that is a fault, not a missing program."""
    with (JS / "package.json").open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not install_packages():
            return 1
        install_browser()
        install_proxies()
    return 0


def install_packages() -> bool:
    """Runs `npm ci` when the lock file changed since the last time. False only when npm failed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        say("Node and npm are not installed: the JavaScript client tests will not run.")
        return True
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST:
        say(f"Node {version} is older than {OLDEST}: the JavaScript client tests will not run.")
        shutil.rmtree(MODULES, ignore_errors=True)
        return True
    want = f"{version} {hashlib.sha256((JS / 'package-lock.json').read_bytes()).hexdigest()}"
    if STAMP.is_file() and STAMP.read_text() == want:
        return True
    print("Installing the npm packages of tests/js.", flush=True)
    environment = {**os.environ, "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1"}
    command = [npm, "ci", "--ignore-scripts", "--loglevel=error"]
    if subprocess.run(command, cwd=JS, env=environment, stdin=subprocess.DEVNULL).returncode != 0:
        say("`npm ci` failed in tests/js; its words are above.")
        return False
    STAMP.write_text(want)
    return True


def install_browser() -> None:
    """Installs Debian's Chromium when there is no browser, this is Debian and we are root; says so otherwise."""
    if find_browser() is not None:
        return
    if not is_debian() or os.geteuid() != 0 or shutil.which("apt-get") is None:
        say("No Chrome or Chromium found: the browser tests will not run. SNACKBASE_TEST_BROWSER can name one.")
        return
    print("Installing Debian's chromium for the browser tests.", flush=True)
    run(*APT, "update")
    run(*APT, "install", "--yes", "--no-install-recommends", "chromium")
    if find_browser() is None:
        say("Debian's chromium could not be installed: the browser tests will not run.")


def install_proxies() -> None:
    """Unpacks Debian's programs into build/ where there is none; says so otherwise. No service is started."""
    for name, find, packages, folder, remedy in (
        ("nginx", find_nginx, ("nginx",), UNPACKED, REMEDY),
        ("caddy", find_caddy, ("caddy",), UNPACKED_CADDY, CADDY_REMEDY),
        ("pgbouncer", find_pgbouncer, PACKAGES, UNPACKED_PGBOUNCER, PGBOUNCER_REMEDY),
    ):
        if find() is not None:
            continue
        if not is_debian() or os.geteuid() != 0 or shutil.which("apt-get") is None:
            say(f"No {name} found: the tests behind it will not run; {remedy}.")
            continue
        print(f"Unpacking Debian's {name} for the tests behind it.", flush=True)
        unpack(packages, folder)
        if find() is None:
            say(f"Debian's {name} could not be unpacked: the tests behind it will not run; {remedy}.")


def unpack(packages: Sequence[str], target: Path) -> None:
    """Downloads Debian packages and unpacks them into a folder, without installing them."""
    run(*APT, "update")
    # dpkg-deb makes the last folder of a path and no more.
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run(*APT, "-o", "APT::Sandbox::User=root", "download", *packages, cwd=folder)
        for file in Path(folder).glob("*.deb"):
            run("dpkg-deb", "--extract", str(file), str(target))


def run(*command: str, cwd: str | None = None) -> None:
    """Runs a command without a terminal and prints what it said when it failed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        print(done.stdout[-4000:], flush=True)


def is_debian() -> bool:
    """Whether this is Debian itself: Ubuntu's package of the same name only installs a snap."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return False
    return "ID=debian" in lines


def say(text: str) -> None:
    """Prints something that nobody should overlook."""
    print(f"\n*** {text}\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
